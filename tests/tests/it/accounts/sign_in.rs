//! Sign-in, tokens and passwords.

use domain::actor::Role;
use e2e::{Person, Stack, new_address, new_password, text};
use reqwest::Method;
use serde_json::json;

use super::{refused_by_oauth, scopes, scopes_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_registers_signs_in_refreshes_and_logs_out() {
    let stack = Stack::open().await;
    let mut person = Person::register_with(&stack, json!({ "language": "de" })).await;
    let first = person.clone();
    let tokens = person.log_in(&stack).await;
    assert_eq!((text(&tokens, "tokenType"), &tokens["expiresIn"]), ("Bearer", &json!(900)));
    assert_eq!(scopes(&person.token), scopes_of(Role::User));

    let account = person.get(&stack, "/account").await.must_be(200);
    assert_eq!((text(&account, "userId"), text(&account, "email")), (person.user_id.as_str(), person.email.as_str()));
    assert_eq!((text(&account, "status"), text(&account, "role")), ("ACTIVE", "USER"));
    assert_eq!((text(&account, "name"), text(&account, "language")), (person.name.as_str(), "de"));
    for (token, status) in [("", 401), (person.id_token.as_str(), 403)] {
        stack.call(Method::GET, "/account", token, None).await.must_be(status);
    }

    let refreshed = person.refresh(&stack).await;
    assert_eq!(refreshed.headers["cache-control"], "no-store");
    let refreshed = refreshed.must_be(200);
    assert_eq!((text(&refreshed, "token_type"), &refreshed["expires_in"]), ("Bearer", &json!(900)));
    assert_eq!(scopes(text(&refreshed, "access_token")), scopes_of(Role::User));
    stack.call(Method::GET, "/account", text(&refreshed, "access_token"), None).await.must_be(200);

    let one = json!({ "refreshToken": person.refresh_token });
    let ended = person.post(&stack, "/auth/logout", one).await.must_be(200);
    assert_eq!(ended["everywhere"], false);
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    first.refresh(&stack).await.must_be(200);
    let ended = person.post(&stack, "/auth/logout", json!({})).await.must_be(200);
    assert_eq!(ended["everywhere"], true);
    refused_by_oauth(first.refresh(&stack).await, 400, "invalid_grant");
    stack.delete_account(&person.user_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_all_sign_ins_if_asked_to() {
    let stack = Stack::open().await;
    let mut person = Person::register(&stack).await;
    let new = new_password();
    let change = |current: &str| json!({ "currentPassword": current, "newPassword": new, "everywhere": true });
    person.post(&stack, "/auth/password", change("Wrong-Horse-7")).await.must_be(403);
    let changed = person.post(&stack, "/auth/password", change(&person.password)).await.must_be(200);
    assert_eq!(changed["signedOutEverywhere"], true);
    person.try_log_in(&stack).await.must_be(403);
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    person.password = new;
    person.log_in(&stack).await;
    stack.delete_account(&person.user_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_says_whether_an_address_is_known() {
    let stack = Stack::open().await;
    let person = Person::register(&stack).await;
    let (wrong, new, unknown) = (new_password(), new_password(), new_address());
    let requests = |email: &str| {
        [
            ("/auth/login", json!({ "email": email, "password": wrong })),
            ("/auth/token", json!({ "grant_type": "password", "username": email, "password": wrong })),
            ("/auth/password/forgot", json!({ "email": email })),
            ("/auth/code", json!({ "email": email })),
            ("/auth/password/reset", json!({ "email": email, "code": "000000", "newPassword": new })),
            ("/auth/confirm", json!({ "email": email, "code": "000000" })),
        ]
    };
    for ((path, known), (_, unknown)) in requests(&person.email).into_iter().zip(requests(&unknown)) {
        let (known, unknown) = (stack.post(path, known).await, stack.post(path, unknown).await);
        assert_eq!(known.comparable(), unknown.comparable(), "{path}");
        let is_refused = !["/auth/password/forgot", "/auth/code"].contains(&path);
        assert_eq!(known.status >= 400, is_refused, "{path}: {}", known.body);
    }
    stack.delete_account(&person.user_id).await;
}
