//! Passwords, tokens, addresses, registration numbers and the ids of cards are in no log.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::LocalCognito;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::world::{CONFIRMING, World, admin, user, vehicle};

/// Keeps what the functions log at the level at which they are deployed.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0.lock().unwrap(), "{field}={value:?}");
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_log_has_a_password_a_token_an_address_a_plate_or_a_card() {
    let world = World::new(CONFIRMING).await;
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let (email, password, other) = ("secret.ada@example.com", "Secret-Horse-9", "Secret-Staple-7");
    let sign_up = |password: &str| json!({ "email": email, "name": "Secret Ada", "password": password });
    let _ = world.act("register", Value::Null, sign_up("Secret")).await;
    let registered = world.act("register", Value::Null, sign_up(password)).await.unwrap();
    let id = registered["userId"].as_str().unwrap();
    let _ = world.act("register", Value::Null, sign_up(password)).await;
    let _ = world.login(email, password).await;
    for code in ["000000", LocalCognito::CONFIRMATION_CODE] {
        let _ = world.act("confirm", Value::Null, json!({ "email": email, "code": code })).await;
    }
    let _ = world.login(email, other).await;
    let session = world.login(email, password).await.unwrap();
    let _ = world.refresh(&session["refreshToken"]).await.unwrap();
    let _ = world.refresh(&json!("Secret-Token")).await;
    let with_plate = json!({ "email": "secret.eve@example.com", "name": "Secret Eve", "vehicle": vehicle("SECRET 1") });
    for (action, actor, more) in [
        ("forgotPassword", Value::Null, json!({ "email": email })),
        ("resetPassword", Value::Null, json!({ "email": email, "code": "000000", "newPassword": other })),
        ("changePassword", user(id), json!({ "currentPassword": other, "newPassword": other })),
        ("changePassword", user(id), json!({ "currentPassword": password, "newPassword": other })),
        ("updateAccount", user(id), json!({ "name": "Secret Ada L." })),
        ("createCustomer", admin(), json!({ "email": email, "name": "Secret Ada" })),
        ("blockUser", admin(), json!({ "userId": id, "reason": "Secret reason" })),
        ("unblockUser", admin(), json!({ "userId": id, "reason": "Secret reason" })),
        ("listCustomers", admin(), json!({ "email": email, "status": "ACTIVE" })),
        ("addVehicle", user(id), json!({ "vehicle": vehicle("SECRET 1") })),
        ("addVehicle", user(id), json!({ "vehicle": vehicle("SECRET 1") })),
        ("addToken", user(id), json!({ "tokenId": "Secret-Card", "type": "RFID" })),
        ("addToken", user("u-1"), json!({ "tokenId": "Secret-Card", "type": "RFID" })),
        ("removeToken", user("u-1"), json!({ "tokenId": "Secret-Card" })),
        ("createCustomer", admin(), with_plate),
        ("getCustomer", admin(), json!({ "userId": email })),
        ("listVehicles", user("u-1"), json!({ "userId": email })),
        ("logout", user(id), json!({ "refreshToken": session["refreshToken"] })),
        ("deleteAccount", user(id), json!({})),
    ] {
        let _ = world.act(action, actor, more).await;
    }
    drop(guard);
    let log = log.0.lock().unwrap();
    let token = session["refreshToken"].as_str().unwrap();
    for secret in ["secret", "Secret", "SECRET", &token[..40]] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    for expected in ["the request was refused", "a user was blocked", "an account was deleted"] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
}
