//! The example documents in `events/graphql`, each run on the deployed stack. A field without an example fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use appsync::{Answer, Authorization, Event, Live, Subscription};
use domain::id::{InvoiceId, SessionId};
use e2e::{PATIENCE, Person, Stack, eventually, minutes_after, new_address, new_password, now, text, token};
use futures::StreamExt;
use serde_json::{Map, Value, json};
use testkit::reading;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Staff, kind, publish};

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Returns the fields of queries, mutations and subscriptions, without those that only `live_publisher` may call.
fn fields() -> BTreeSet<String> {
    let schema = std::fs::read_to_string(project("infrastructure/graphql/schema.graphql")).unwrap();
    let (mut fields, mut is_root) = (BTreeSet::new(), false);
    for line in schema.lines() {
        if let Some(name) = line.strip_prefix("type ").and_then(|line| line.split_whitespace().next()) {
            is_root = ["Query", "Mutation", "Subscription"].contains(&name);
        } else if line == "}" {
            is_root = false;
        }
        let field = line.strip_prefix("  ").filter(|field| is_root && field.starts_with(char::is_lowercase));
        let name = field.and_then(|field| field.split(['(', ':']).next());
        fields.extend(name.filter(|name| !name.starts_with("publish")).map(str::to_owned));
    }
    assert!(fields.len() > 60, "{fields:?}");
    fields
}

/// The examples, with the values that replace the texts in capitals in their variables.
struct Examples {
    stack: Stack,
    values: BTreeMap<&'static str, String>,
    /// The fields whose examples have been run.
    done: BTreeSet<&'static str>,
}

impl Examples {
    /// Returns the document of a field, and its variables with some of them replaced.
    fn load(&mut self, field: &'static str, more: Value) -> (String, Value) {
        self.done.insert(field);
        let read = |kind: &str| {
            let file = project(&format!("events/graphql/{field}.{kind}"));
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        let mut variables: Map<String, Value> = serde_json::from_str(&read("json")).unwrap();
        let Value::Object(more) = more else { panic!("{more}") };
        for (name, value) in more {
            assert!(variables.insert(name.clone(), value).is_some(), "the example of {field} has no variable {name}");
        }
        let mut variables = Value::Object(variables);
        self.fill(&mut variables);
        assert!(!variables.to_string().contains("_ID\""), "{field}: {variables}");
        (read("graphql"), variables)
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(known) = self.values.get(text.as_str()) {
                    text.clone_from(known);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.fill(item);
                }
            }
            Value::Object(fields) => {
                for field in fields.values_mut() {
                    self.fill(field);
                }
            }
            _ => {}
        }
    }

    async fn answer(&mut self, who: &Authorization, field: &'static str, more: Value) -> Answer {
        let (document, variables) = self.load(field, more);
        self.stack.graphql(who, &document, &variables).await
    }

    /// Runs an example that must succeed, and returns the result of its field.
    async fn run(&mut self, who: &Authorization, field: &'static str, more: Value) -> Value {
        let answer = self.answer(who, field, more).await;
        assert!(answer.errors.is_empty(), "{field}: {:?}", answer.errors);
        let result = answer.data[field].clone();
        assert!(!result.is_null(), "{field} has no result");
        result
    }

    /// Runs an example that must be refused by the function.
    async fn refused(&mut self, who: &Authorization, field: &'static str, more: Value, expected: &str) {
        let answer = self.answer(who, field, more).await;
        assert_eq!(kind(&answer.errors), expected, "{field}: {answer:?}");
        assert!(answer.data[field].is_null(), "{field}: {answer:?}");
    }

    /// Subscribes by an example, and waits until the subscription is in effect.
    async fn subscribe(&mut self, who: &Authorization, field: &'static str) -> Subscribed {
        let (document, variables) = self.load(field, json!({}));
        let subscription = Subscription::new(document, variables);
        let mut live: Live<Value> = self.stack.appsync.subscribe(Arc::new(who.clone()), vec![subscription]);
        let first = timeout(PATIENCE, live.next()).await.unwrap_or_else(|_| panic!("{field} is not in effect"));
        assert_eq!(first, Some(Event::Started), "{field}");
        Subscribed { field, live }
    }
}

struct Subscribed {
    field: &'static str,
    live: Live<Value>,
}

impl Subscribed {
    /// Waits for an update that `is_wanted` accepts.
    async fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let field = self.field;
        let wanted = async {
            loop {
                let Some(Event::Update(data)) = self.live.next().await else { panic!("{field} has ended") };
                if is_wanted(&data[field]) {
                    return data[field].clone();
                }
            }
        };
        timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("{field} does not send the expected update"))
    }
}

/// Registration, sign-in, and what belongs to an account. Returns the person, whose id is `USER_ID` from now on.
async fn account(examples: &mut Examples) -> Person {
    let stack = examples.stack.clone();
    let key = stack.api_key();
    let (email, password) = (new_address(), new_password());
    let vehicle = |brand: &str| {
        let number = format!("E2E {}", Uuid::new_v4().simple().to_string()[..8].to_uppercase());
        json!({ "brand": brand, "model": "Zoe", "batteryCapacity": 52, "registrationNumber": number })
    };
    let name = format!("Person {}", Uuid::new_v4().simple());
    let register = json!({ "email": email, "name": name, "password": password, "vehicle": vehicle("Renault") });
    let registered = examples.run(&key, "register", register).await;
    if text(&registered, "status") == "UNCONFIRMED" {
        stack.confirm(&email).await;
    }
    // Nobody but the owner of the address has a code.
    examples.refused(&key, "confirm", json!({ "email": email }), "ValidationError").await;
    examples.run(&key, "resendCode", json!({ "email": email })).await;
    examples.run(&key, "forgotPassword", json!({ "email": email })).await;
    let reset = json!({ "email": email, "newPassword": new_password() });
    examples.refused(&key, "resetPassword", reset, "ValidationError").await;
    let tokens = examples.run(&key, "login", json!({ "email": email, "password": password })).await;
    let of = |key: &str| text(&tokens, key).to_owned();
    let person = Person {
        user_id: of("userId"),
        email,
        name,
        password,
        token: of("accessToken"),
        id_token: of("idToken"),
        refresh_token: of("refreshToken"),
    };
    assert_eq!(person.user_id, text(&registered, "userId"));
    examples.values.insert("USER_ID", person.user_id.clone());

    let who = token(&person.token);
    let profile = examples.run(&who, "account", json!({})).await;
    assert_eq!((text(&profile, "userId"), text(&profile, "email")), (person.user_id.as_str(), person.email.as_str()));
    let renamed = format!("Person {}", Uuid::new_v4().simple());
    let profile = examples.run(&who, "updateAccount", json!({ "name": renamed })).await;
    assert_eq!((text(&profile, "name"), text(&profile, "language")), (renamed.as_str(), "de"));
    let added = examples.run(&who, "addVehicle", json!({ "vehicle": vehicle("Volkswagen") })).await;
    examples.values.insert("VEHICLE_ID", text(&added, "vehicleId").to_owned());
    let vehicles = examples.run(&who, "vehicles", json!({})).await;
    assert_eq!(vehicles["items"].as_array().unwrap().len(), 2, "{vehicles}");
    assert_eq!(examples.run(&who, "removeVehicle", json!({})).await, added);
    let card = json!({ "tokenId": format!("E2E{}", Uuid::new_v4().simple()) });
    let added = examples.run(&who, "addToken", card.clone()).await;
    assert_eq!(added["tokenId"], card["tokenId"]);
    assert_eq!(examples.run(&who, "tokens", json!({})).await["items"], json!([added]));
    assert_eq!(examples.run(&who, "removeToken", card).await, added);
    person
}

/// A new station, whose id is `STATION_ID` from now on.
async fn station(examples: &mut Examples, admin: &Authorization, user: &Authorization) {
    let created = examples.run(admin, "createStation", json!({})).await;
    assert_eq!((text(&created, "status"), created["ports"].as_array().unwrap().len()), ("NEW", 2));
    assert_eq!(created["tariff"]["elements"][0]["restrictions"]["start_time"], "06:00", "{created}");
    examples.values.insert("STATION_ID", text(&created, "stationId").to_owned());
    let updated = examples.run(admin, "updateStation", json!({})).await;
    assert_eq!(updated["chargingModel"]["type"], "TWO_STAGE_LINEAR", "{updated}");
    let active = examples.run(admin, "transitionStation", json!({})).await;
    assert_eq!(text(&active, "status"), "ACTIVE");
    assert!(active["version"].as_u64() > created["version"].as_u64(), "{active}");
    let added = examples.run(admin, "addPort", json!({})).await;
    assert_eq!((text(&added, "portId"), text(&added, "status")), ("port-3", "FREE"));
    assert_eq!(examples.run(admin, "removePort", json!({})).await["removed"], true);
    let read = examples.run(user, "station", json!({})).await;
    assert_eq!((&read["stationId"], read["ports"].as_array().unwrap().len()), (&created["stationId"], 2));
    let key = examples.stack.api_key();
    let near = examples.run(&key, "stations", json!({})).await;
    assert!(near["items"][0]["distanceKm"].is_number(), "{near}");
    let quote = examples.run(user, "quote", json!({})).await;
    assert_eq!((text(&quote, "currency"), quote["energyKwh"].as_f64()), ("EUR", Some(30.0)));
}

/// A session from its start to its invoice, as its user and the subscribers see it.
async fn session(examples: &mut Examples, admin: &Authorization, user: &Authorization) {
    let stack = examples.stack.clone();
    let (station, user_id) = (examples.values["STATION_ID"].clone(), examples.values["USER_ID"].clone());
    let mut station_changed = examples.subscribe(&stack.api_key(), "stationChanged").await;
    let mut progress = examples.subscribe(user, "stationProgress").await;
    let mut wallet_changed = examples.subscribe(user, "walletChanged").await;

    let wallet = examples.run(admin, "topUpWallet", json!({})).await;
    assert_eq!((text(&wallet, "balance"), &wallet["entry"]["kind"]), ("50.00", &json!("TOP_UP")));
    let change = wallet_changed.until(|change| change["reason"] == "TOP_UP").await;
    assert_eq!((text(&change, "userId"), text(&change, "balance")), (user_id.as_str(), "50.00"));

    let started = examples.run(user, "startSession", json!({})).await;
    let id = text(&started, "sessionId").to_owned();
    examples.values.insert("SESSION_ID", id.clone());
    let taken = station_changed.until(|change| change["portStatus"] == "CHARGING").await;
    assert_eq!((&taken["portId"], &taken["deleted"]), (&json!("port-1"), &json!(false)));
    let mut session_changed = examples.subscribe(user, "sessionChanged").await;

    let at = minutes_after(&started, 6);
    stack.tick(&station, at).await.unwrap();
    // If the parameter LiveProgress is off, the simulator announces nothing.
    let announced = json!({ "portId": "port-1", "sessionId": id, "percent": 36.5, "powerKw": 100, "energyKwh": 10 });
    let progressed = json!({ "kind": "stationProgress", "stationId": station, "at": at, "sessions": [announced] });
    publish(&stack, progressed).await;
    let reached = progress.until(|progress| progress["sessions"][0]["sessionId"] == id.as_str()).await;
    assert!(reached["sessions"][0]["energyKwh"].as_f64() > Some(0.0), "{reached}");
    let running = examples.run(user, "session", json!({})).await;
    assert_eq!((text(&running, "status"), &running["limits"]["maxCost"]), ("IN_PROGRESS", &json!("25.00")));
    let all = examples.run(user, "sessions", json!({})).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all}");

    let stopped = examples.run(user, "stopSession", json!({})).await;
    assert_eq!(text(&stopped, "status"), "INTERRUPTED");
    let ended = session_changed.until(|change| change["status"] == "INTERRUPTED").await;
    assert_eq!((&ended["cost"], &ended["version"]), (&stopped["cost"], &stopped["version"]), "{ended}");

    let invoice_id = InvoiceId::of(&SessionId::new(id.as_str()).unwrap());
    examples.values.insert("INVOICE_ID", invoice_id.to_string());
    stack.invoice(&id).await;
    let invoice = examples.run(user, "invoice", json!({})).await;
    assert_eq!((text(&invoice, "status"), &invoice["totalInclVat"]), ("PAID", &stopped["cost"]));
    assert_eq!(examples.run(user, "invoices", json!({})).await["items"][0]["invoiceId"], invoice["invoiceId"]);
    assert_eq!(examples.run(user, "payInvoice", json!({})).await["paidAt"], invoice["paidAt"]);
    let note = examples.run(admin, "createCreditNote", json!({})).await;
    assert_eq!((text(&note, "totalExclVat"), text(&note, "totalInclVat")), ("1.00", "1.19"));
    let change = wallet_changed.until(|change| change["reason"] == "CREDIT_NOTE").await;
    let wallet = examples.run(user, "wallet", json!({})).await;
    assert_eq!((&wallet["balance"], &wallet["version"]), (&change["balance"], &change["version"]));
    let ledger = examples.run(user, "ledger", json!({})).await;
    let kinds: Vec<&str> = ledger["items"].as_array().unwrap().iter().map(|entry| text(entry, "kind")).collect();
    assert_eq!(kinds, ["CREDIT_NOTE", "INVOICE", "TOP_UP"]);
}

/// Sessions and ports that fail, and the error log.
async fn failures(examples: &mut Examples, staff: &Authorization, user: &Authorization) {
    let mut alerts = examples.subscribe(staff, "operatorAlert").await;
    let at = |port: &str, key: &str| json!({ "portId": port, "idempotencyKey": key });
    examples.run(user, "startSession", at("port-2", "sample-2")).await;
    let failed = examples.run(staff, "failPort", json!({})).await;
    assert_eq!((text(&failed, "portId"), text(&failed, "status")), ("port-2", "ERROR"));
    assert_eq!(text(&examples.run(staff, "resetPort", json!({})).await, "status"), "FREE");
    let started = examples.run(user, "startSession", at("port-1", "sample-3")).await;
    examples.values.insert("SESSION_ID", text(&started, "sessionId").to_owned());
    assert_eq!(text(&examples.run(staff, "failSession", json!({})).await, "status"), "FAILED");

    let marker = format!("e2e-{}", Uuid::new_v4());
    let entry = json!({ "message": format!("a test says {marker}"), "deduplicationKey": marker });
    let told = examples.run(staff, "notify", entry).await;
    examples.values.insert("LOG_ID", text(&told, "id").to_owned());
    let alert = alerts.until(|alert| alert["logId"] == told["id"]).await;
    assert_eq!((text(&alert, "level"), &alert["message"]), ("WARNING", &told["message"]));
    assert!(!examples.run(staff, "errorLogs", json!({})).await["items"].as_array().unwrap().is_empty());
    assert_eq!(text(&examples.run(staff, "acknowledgeLog", json!({})).await, "status"), "ACKNOWLEDGED");
    assert_eq!(text(&examples.run(staff, "resolveLog", json!({})).await, "status"), "RESOLVED");
}

/// What the staff does with customers and machine clients.
async fn customers(examples: &mut Examples, admin: &Authorization, staff: &Authorization) {
    let person = examples.values["USER_ID"].clone();
    assert_eq!(text(&examples.run(staff, "customer", json!({})).await, "userId"), person);
    assert!(!examples.run(staff, "customers", json!({})).await["items"].as_array().unwrap().is_empty());
    let customer = json!({ "email": new_address(), "name": format!("Person {}", Uuid::new_v4().simple()) });
    let created = examples.run(staff, "createCustomer", customer).await;
    let id = text(&created, "userId").to_owned();
    examples.values.insert("USER_ID", id.clone());
    assert_eq!(text(&examples.run(staff, "blockUser", json!({})).await, "status"), "BLOCKED");
    assert_eq!(text(&examples.run(staff, "unblockUser", json!({})).await, "status"), "ACTIVE");
    assert_eq!(text(&examples.run(admin, "setRole", json!({})).await, "role"), "TECH_SUPPORT");
    examples.stack.delete_account(&id).await;
    examples.values.insert("USER_ID", person);

    let client = examples.run(admin, "createClient", json!({})).await;
    assert!(client["clientSecret"].is_string(), "{client}");
    examples.values.insert("CLIENT_ID", text(&client, "clientId").to_owned());
    assert!(!examples.run(admin, "clients", json!({})).await["items"].as_array().unwrap().is_empty());
    assert_eq!(examples.run(admin, "revokeClient", json!({})).await["clientId"], client["clientId"]);
}

/// A battery-swap station, and the mirror of `OpenChargeMap`.
async fn telemetry_and_pois(examples: &mut Examples, user: &Authorization) {
    let stack = examples.stack.clone();
    let station = format!("e2e-swap-{}", Uuid::new_v4().simple());
    examples.values.insert("SWAP_STATION_ID", station.clone());
    let mut changed = examples.subscribe(user, "swapStationChanged").await;
    let at = now();
    stack.invoke("TelemetryHandler", reading(&station, at, 7)).await.unwrap();
    // If the parameter LiveProgress is off, telemetry_handler announces nothing.
    let update = json!({
        "kind": "swapStation", "stationId": station, "status": "operational", "batteryAvailable": 7,
        "batteryCharging": 1, "occurredAt": at, "receivedAt": at
    });
    publish(&stack, update).await;
    assert_eq!(text(&changed.until(|_| true).await, "stationId"), station);
    let state = eventually("the state of the station", || async {
        let state = json!({ "action": "getStation", "stationId": station, "actor": e2e::admin() });
        stack.invoke("TelemetryApi", state).await.ok()
    })
    .await;
    let read = examples.run(user, "swapStation", json!({})).await;
    assert_eq!((&read["station_id"], &read["timestamp"]), (&state["station_id"], &state["timestamp"]));
    assert!(!examples.run(user, "swapStations", json!({})).await["items"].as_array().unwrap().is_empty());
    let day = json!({ "date": at.format("%Y-%m-%d").to_string() });
    let history = examples.run(user, "swapStationHistory", day).await;
    assert_eq!(history["items"].as_array().unwrap().len(), 1, "{history}");

    let key = stack.api_key();
    let near = examples.run(&key, "pois", json!({})).await;
    assert_eq!(near["attribution"]["licence"], "CC BY-SA 4.0", "{near}");
    match near["items"].as_array().unwrap().first() {
        Some(found) => {
            let poi = examples.run(user, "poi", json!({ "ocmId": found["ocmId"] })).await;
            assert_eq!((&poi["ocmId"], &poi["title"]), (&found["ocmId"], &found["title"]));
        }
        // The mirror is off, or has not been filled yet.
        None => examples.refused(user, "poi", json!({ "ocmId": 2_147_483_647 }), "NotFoundError").await,
    }
    let reference = examples.answer(user, "referenceData", json!({})).await;
    if reference.errors.is_empty() {
        assert_eq!(text(&reference.data["referenceData"], "kind"), "Operators");
    } else {
        assert_eq!(kind(&reference.errors), "NotFoundError", "{reference:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_has_an_example_that_works_on_the_deployed_stack() {
    let stack = Stack::open().await;
    let (admin, staff) = (Staff::sign_up(&stack, "ADMIN").await, Staff::sign_up(&stack, "TECH_SUPPORT").await);
    let mut examples = Examples { stack: stack.clone(), values: BTreeMap::new(), done: BTreeSet::new() };
    let person = Box::pin(account(&mut examples)).await;
    let user = token(&person.token);
    Box::pin(station(&mut examples, &admin.authorization, &user)).await;
    Box::pin(session(&mut examples, &admin.authorization, &user)).await;
    Box::pin(failures(&mut examples, &staff.authorization, &user)).await;
    Box::pin(customers(&mut examples, &admin.authorization, &staff.authorization)).await;
    Box::pin(telemetry_and_pois(&mut examples, &user)).await;

    assert_eq!(examples.run(&admin.authorization, "deleteStation", json!({})).await["deleted"], true);
    let export = examples.run(&user, "accountExport", json!({})).await;
    assert_eq!(text(&export["profile"], "userId"), person.user_id);
    assert_eq!(export["sessions"].as_array().unwrap().len(), 3, "{export}");
    let change = json!({ "currentPassword": person.password, "newPassword": new_password() });
    assert_eq!(examples.run(&user, "changePassword", change).await["signedOutEverywhere"], false);
    let deleted = examples.run(&user, "deleteAccount", json!({})).await;
    assert_eq!((text(&deleted, "userId"), text(&deleted, "status")), (person.user_id.as_str(), "DELETED"));
    let other = Person::register(&stack).await;
    assert_eq!(examples.run(&token(&other.token), "logout", json!({})).await["everywhere"], true);
    stack.delete_account(&other.user_id).await;
    admin.leave(&stack).await;
    staff.leave(&stack).await;

    let done: BTreeSet<String> = examples.done.iter().map(|field| (*field).to_owned()).collect();
    assert_eq!(done, fields(), "a field has no example here, or an example has no field");
}
