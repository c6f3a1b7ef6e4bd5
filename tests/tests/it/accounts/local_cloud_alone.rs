//! The codes that the local Cognito mails are always the same, so that a test knows them. Its hosted pages are simpler
//! than those of AWS.

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use domain::actor::Role;
use e2e::{Answer, FORM, Person, Stack, form, new_address, new_password, text};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};

use super::{logged, new_number, refused_by_oauth, scopes, scopes_of, vehicle};

/// The code for a new password.
const CODE: &str = "654321";
/// The example of RFC 7636, appendix B: a secret of the application, and its SHA-256.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Returns whether `code` is a word of its own in `text`, and not a part of a number or an id.
fn has_word(text: &str, code: &str) -> bool {
    let joins = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    text.match_indices(code).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + code.len()..].chars().next());
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

async fn reset(stack: &Stack, email: &str, code: &str, password: &str) -> Answer {
    let reset = json!({ "email": email, "code": code, "newPassword": password });
    stack.post("/auth/password/reset", reset).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced_by_the_mailed_code() {
    let stack = Stack::local().await;
    let mut person = Person::register(&stack).await;
    let new = new_password();
    stack.post("/auth/password/forgot", json!({ "email": person.email })).await.must_be(200);
    let wrong = reset(&stack, &person.email, "000000", &new).await.must_be(400);
    assert_eq!(text(&wrong["errors"][0], "field"), "code", "{wrong}");
    let weak = reset(&stack, &person.email, CODE, "too-weak").await.must_be(400);
    assert_eq!(text(&weak["errors"][0], "field"), "newPassword", "{weak}");
    let done = reset(&stack, &person.email, CODE, &new).await.must_be(200);
    assert_eq!(done["signedOutEverywhere"], true);
    reset(&stack, &person.email, CODE, &new).await.must_be(400);
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    person.try_log_in(&stack).await.must_be(403);
    person.password = new;
    person.log_in(&stack).await;
    // The code is in no log, where any number may be: only as a word of its own.
    for function in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionName")).map(|(_, name)| name) {
        let found = logged(&stack, function, 0, CODE).await;
        assert!(!found.iter().any(|message| has_word(message, CODE)), "{function}: {found:?}");
    }
    stack.delete_account(&person.user_id).await;
}

/// The staff registers a customer, who then sets a password.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_of_the_staff_sets_a_password_by_the_mailed_code() {
    let stack = Stack::local().await;
    let staff = stack.sign_up(&["TECH_SUPPORT"]).await;
    let (email, password, number) = (new_address(), new_password(), new_number());
    let create = json!({ "email": email, "name": "Walk-in", "vehicle": vehicle(&number) });
    let customer = stack.call(Method::POST, "/customers", &staff.token, Some(create.clone())).await.must_be(201);
    assert_eq!(text(&customer, "status"), "ACTIVE");
    stack.call(Method::POST, "/customers", &staff.token, Some(create)).await.must_be(409);
    let query = number.replace(' ', "%20");
    for query in [format!("email={email}"), format!("registrationNumber={query}")] {
        let found = stack.call(Method::GET, &format!("/customers?{query}"), &staff.token, None).await.must_be(200);
        assert_eq!(found["items"], json!([customer]), "{query}");
    }
    let login = json!({ "email": email, "password": password });
    stack.post("/auth/login", login.clone()).await.must_be(403);
    stack.post("/auth/password/forgot", json!({ "email": email })).await.must_be(200);
    reset(&stack, &email, CODE, &password).await.must_be(200);
    let tokens = stack.post("/auth/login", login).await.must_be(200);
    assert_eq!(tokens["userId"], customer["userId"]);
    stack.delete_account(text(&customer, "userId")).await;
    stack.delete_user(&staff.name).await;
}

/// The authorization code flow with PKCE, by which the web application signs people in.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosted_pages_issue_tokens_with_the_scopes_of_the_role() {
    let stack = Stack::local().await;
    let person = Person::register(&stack).await;
    let (pages, client) = (stack.output("SignInUrl"), stack.output("UserPoolClientId"));
    let describe = Cognito::new(&stack.config).describe_user_pool_client().client_id(client);
    let app = describe.user_pool_id(stack.output("UserPoolId")).send().await.unwrap().user_pool_client.unwrap();
    let callback = app.callback_urls().first().expect("an address to return to").as_str();
    // The code comes with a redirection to the application, which does not run here.
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let post = async |path: &str, fields: &[(&str, &str)]| {
        let request = browser.post(format!("{pages}{path}")).header(CONTENT_TYPE, FORM);
        request.body(form(fields)).send().await.unwrap()
    };

    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", callback),
        ("scope", "openid email"),
        ("state", "a-state"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let page = browser.get(format!("{pages}/oauth2/authorize?{}", form(&fields))).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<form method=\"POST\" action=\"/login\">"));
    fields.extend([("username", person.email.as_str()), ("password", person.password.as_str())]);
    let signed_in = post("/login", &fields).await;
    assert_eq!(signed_in.status(), 302);
    let location = reqwest::Url::parse(signed_in.headers()[LOCATION].to_str().unwrap()).unwrap();
    assert!(location.as_str().starts_with(callback), "{location}");
    let answered =
        |name: &str| location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(answered("state").as_deref(), Some("a-state"));
    let code = answered("code").expect("a code");

    let exchange = |verifier| {
        [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code.as_str()),
            ("redirect_uri", callback),
            ("code_verifier", verifier),
        ]
    };
    assert_eq!(post("/oauth2/token", &exchange(CHALLENGE)).await.status(), 400, "a code without its verifier");
    let tokens = post("/oauth2/token", &exchange(VERIFIER)).await;
    assert_eq!(tokens.status(), 200);
    let tokens: Value = tokens.json().await.unwrap();
    assert_eq!(post("/oauth2/token", &exchange(VERIFIER)).await.status(), 400, "a code a second time");

    let refresh =
        [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", text(&tokens, "refresh_token"))];
    let refreshed: Value = post("/oauth2/token", &refresh).await.json().await.unwrap();
    for token in [text(&tokens, "access_token"), text(&refreshed, "access_token")] {
        let has = scopes(token);
        assert!(has.is_superset(&scopes_of(Role::User)), "{has:?}");
        assert!(!has.contains("aws.cognito.signin.user.admin") && !has.contains("evoke/stations:write"), "{has:?}");
        let account = stack.call(Method::GET, "/account", token, None).await.must_be(200);
        assert_eq!(text(&account, "userId"), person.user_id);
    }
    stack.delete_account(&person.user_id).await;
}
