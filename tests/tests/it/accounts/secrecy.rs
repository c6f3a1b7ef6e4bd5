//! No log has what must stay secret.

use e2e::{MAIL_DOMAIN, PASSWORD_PREFIX, Person, Stack, eventually, new_address, new_password, now, text};
use reqwest::Method;
use serde_json::{Value, json};

use super::{logged, new_number, refused_by_oauth, vehicle};

/// Values that must not be in a log, and a part of each by which it is found.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, value: &str) {
        self.0.push((what, value.to_owned()));
    }

    /// Tokens are longer than what CloudWatch searches for. Their ends are unique.
    fn add_token(&mut self, what: &'static str, token: &str) {
        self.add(what, &token[token.len().saturating_sub(40)..]);
    }

    /// Adds what a person has and gets.
    fn add_person(&mut self, person: &Person) {
        self.add("the name", &person.name);
        self.add("the password", &person.password);
        self.add_token("the access token", &person.token);
        self.add_token("the ID token", &person.id_token);
        self.add_token("the refresh token", &person.refresh_token);
    }
}

/// Makes requests with passwords, tokens and addresses, right and wrong ones, and returns them with the correlation id
/// of the last request, which was refused.
async fn handle_secrets(stack: &Stack) -> (Secrets, String) {
    let mut secrets = Secrets::default();
    let admin = stack.sign_up(&["ADMIN"]).await;
    let number = new_number();
    let mut person = Person::register_with(stack, json!({ "vehicle": vehicle(&number) })).await;
    secrets.add_person(&person);
    secrets.add("a registration number", &number);
    secrets.add("a registration number without separators", &number.replace(' ', ""));
    let card = format!("E2E{}", uuid::Uuid::new_v4().simple().to_string()[..20].to_uppercase());
    secrets.add("a card", &card);
    let refreshed = person.refresh(stack).await.must_be(200);
    secrets.add_token("a refreshed access token", text(&refreshed, "access_token"));
    let name = format!("Renamed {}", uuid::Uuid::new_v4().simple());
    stack.call(Method::PATCH, "/account", &person.token, Some(json!({ "name": name }))).await.must_be(200);
    secrets.add("a new name", &name);
    let new = new_password();
    let change = json!({ "currentPassword": person.password, "newPassword": new });
    person.post(stack, "/auth/password", change).await.must_be(200);
    person.password = new;
    person.log_in(stack).await;
    secrets.add_person(&person);
    // The address is in the query here.
    let search = format!("/customers?email={}", person.email);
    stack.call(Method::GET, &search, &admin.token, None).await.must_be(200);
    let client = json!({ "name": "e2e", "scopes": ["stations:read"] });
    let client = stack.call(Method::POST, "/clients", &admin.token, Some(client)).await.must_be(201);
    let (id, secret) = (text(&client, "clientId"), text(&client, "clientSecret"));
    secrets.add("the secret of a machine client", secret);
    let grant = [("grant_type", "client_credentials")];
    stack.request_tokens(&grant, Some((id, secret))).await.must_be(200);

    // Requests that are refused are logged. What was wrong with them must not be repeated.
    let weak = format!("weak-{}", uuid::Uuid::new_v4().simple());
    secrets.add("a weak password", &weak);
    let register = |email: &str, password: &Value| json!({ "email": email, "name": "E2E", "password": password });
    stack.post("/auth/register", register(&new_address(), &json!(weak))).await.must_be(400);
    stack.post("/auth/register", register(MAIL_DOMAIN, &json!([weak]))).await.must_be(400);
    stack.post("/auth/register", register(&person.email, &json!(person.password))).await.must_be(409);
    let mut garbage = person.clone();
    garbage.refresh_token = format!("garbage-{}", uuid::Uuid::new_v4().simple());
    secrets.add("a wrong refresh token", &garbage.refresh_token);
    refused_by_oauth(garbage.refresh(stack).await, 400, "invalid_grant");
    let of_person = |what: &str| format!("/customers/{}/{what}", person.user_id);
    person.post(stack, &of_person("vehicles"), json!({ "vehicle": vehicle(&number) })).await.must_be(409);
    for status in [201, 409] {
        let token = json!({ "tokenId": card, "type": "RFID" });
        person.post(stack, &of_person("tokens"), token).await.must_be(status);
    }
    for status in [200, 404] {
        let path = of_person(&format!("tokens/{card}"));
        stack.call(Method::DELETE, &path, &person.token, None).await.must_be(status);
    }
    let wrong = json!({ "action": "login", "email": person.email, "password": { "of": weak } });
    assert_eq!(stack.invoke("AccountService", wrong).await.unwrap_err().0, "ValidationError");
    stack.call(Method::DELETE, &format!("/clients/{id}"), &admin.token, None).await.must_be(200);
    stack.delete_account(&person.user_id).await;
    stack.delete_user(&admin.name).await;
    let last = person.try_log_in(stack).await;
    assert_eq!(last.status, 403);
    let last = last.correlation_id().to_owned();
    (secrets, last)
}

/// Looks for secrets in the logs of all functions.
async fn assert_not_logged(stack: &Stack, secrets: &Secrets, since: i64) {
    for function in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionName")).map(|(_, name)| name) {
        for (what, value) in &secrets.0 {
            let found = logged(stack, function, since, value).await;
            assert!(found.is_empty(), "{what} is in the log of {function}: {found:?}");
        }
    }
}

/// On the local cloud, the test looks through all that was logged since the start of the cloud. The addresses and the
/// passwords of all tests have parts by which they are found.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_has_passwords_tokens_names_addresses_plates_or_cards() {
    let stack = Stack::open().await;
    let since = if stack.is_local() { 0 } else { now().timestamp_millis() };
    let (mut secrets, last) = handle_secrets(&stack).await;
    secrets.add("an address", MAIL_DOMAIN);
    secrets.add("a password", PASSWORD_PREFIX);
    secrets.add("the address of a machine client", "@clients.invalid");
    // CloudWatch shows a message some seconds after it was logged.
    let function = stack.output("AccountServiceFunctionName");
    eventually("the last message in the log", || async {
        (!logged(&stack, function, since, &last).await.is_empty()).then_some(())
    })
    .await;
    assert_not_logged(&stack, &secrets, since).await;
}
