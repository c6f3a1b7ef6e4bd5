//! The HTTP API with Cognito tokens.

use domain::accounts::Scope;
use domain::actor::Role;
use e2e::{Person, Stack, minutes_after, now, text};
use reqwest::{Method, Response};
use serde_json::{Value, json};

struct Api {
    stack: Stack,
    http: reqwest::Client,
    users: Vec<String>,
    people: Vec<Person>,
}

impl Api {
    async fn open() -> Self {
        Self { stack: Stack::open().await, http: reqwest::Client::new(), users: Vec::new(), people: Vec::new() }
    }

    /// Creates a new user in these groups and returns its token.
    async fn sign_in(&mut self, groups: &[&str]) -> String {
        let user = self.stack.sign_up(groups).await;
        self.users.push(user.name);
        user.token
    }

    /// Registers a new person and returns the token.
    async fn register(&mut self) -> String {
        let person = Person::register(&self.stack).await;
        let token = person.token.clone();
        self.people.push(person);
        token
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.stack.http_api_url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.header("x-correlation-id", "e2e-correlation").send().await.unwrap()
    }

    async fn close(self) {
        for user in &self.users {
            self.stack.delete_user(user).await;
        }
        for person in &self.people {
            self.stack.delete_account(&person.user_id).await;
        }
    }
}

async fn json_of(response: Response, status: u16) -> Value {
    let got = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// A route of docs/openapi.json.
struct DocumentedRoute {
    method: Method,
    path: String,
    /// The scope that a token needs, as it is written in the token.
    scope: String,
}

/// Returns each route of docs/openapi.json that needs a token.
fn closed_routes() -> Vec<DocumentedRoute> {
    let document: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(security) = operation["security"].as_array().unwrap().first() else { continue };
            let scope = security["cognito"][0].as_str().unwrap().to_owned();
            let (method, path) = (method.to_uppercase().parse().unwrap(), path.replace(['{', '}'], ""));
            routes.push(DocumentedRoute { method, path, scope });
        }
    }
    routes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_closed_route_needs_an_access_token() {
    let api = Api::open().await;
    let health = json_of(api.call(Method::GET, "/health", "", None).await, 200).await;
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["tables"].as_array().unwrap().len(), 7);
    let routes = closed_routes();
    assert!(routes.len() > 25);
    let user = api.stack.sign_up(&["ADMIN"]).await;
    for DocumentedRoute { method, path, .. } in routes {
        for token in ["", "not.a.token"] {
            let answer = api.call(method.clone(), &path, token, None).await;
            assert_eq!(answer.status(), 401, "{method} {path} with the token {token:?}");
        }
        let answer = api.call(method.clone(), &path, &user.id_token, None).await;
        assert_eq!(answer.status(), 403, "{method} {path} with an id token");
    }
    api.stack.delete_user(&user.name).await;
    api.close().await;
}

/// API Gateway refuses a token without the scope of the route, before the function is invoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_the_scopes_of_its_role() {
    let mut api = Api::open().await;
    let driver = api.sign_in(&["USER"]).await;
    let has = |scope: Scope| Scope::of(Role::User).any(|of_user| of_user == scope);
    let mut refused = 0;
    for scope in Scope::ALL.into_iter().filter(|scope| !has(*scope)) {
        for route in closed_routes().into_iter().filter(|route| route.scope == scope.in_token()) {
            let answer = api.call(route.method.clone(), &route.path, &driver, None).await;
            let body = json_of(answer, 403).await;
            assert_eq!(body, json!({ "message": "Forbidden" }), "{} {}", route.method, route.path);
            refused += 1;
        }
    }
    assert!(refused > 5, "{refused}");
    // For a route whose scope the user has, the function decides.
    let body = json_of(api.call(Method::GET, "/stations/none", &driver, None).await, 404).await;
    assert_eq!(text(&body, "code"), "NotFoundError");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_roles_use_a_session_over_http() {
    let mut api = Api::open().await;
    let admin = api.sign_in(&["ADMIN"]).await;
    let tech = api.sign_in(&["TECH_SUPPORT", "USER"]).await;
    let driver = api.register().await;
    let stranger = api.sign_in(&[]).await;
    let station = json!({
        "name": "HTTP", "address": "Road 1", "latitude": 48.1, "longitude": 11.5, "powerKw": 50, "pricePerKwh": 0.49,
        "currency": "EUR", "ports": [{ "portNumber": 1, "connectorType": "IEC_62196_T2_COMBO", "maxPowerKw": 50 }]
    });
    // API Gateway refuses the driver, whose role lacks the scope. The function refuses the others who are not ADMIN.
    json_of(api.call(Method::POST, "/stations", &driver, Some(station.clone())).await, 403).await;
    let refused = json_of(api.call(Method::POST, "/stations", &tech, Some(station.clone())).await, 403).await;
    assert_eq!((text(&refused, "code"), text(&refused, "correlationId")), ("ForbiddenError", "e2e-correlation"));
    let created = api.call(Method::POST, "/stations", &admin, Some(station)).await;
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(created.headers()["x-correlation-id"], "e2e-correlation");
    let created = json_of(created, 201).await;
    assert_eq!((text(&created, "status"), location), ("NEW", format!("/stations/{}", text(&created, "stationId"))));
    let path = format!("/stations/{}", text(&created, "stationId"));

    // TECH_SUPPORT may not commission a station; ADMIN may.
    let to_active = json!({ "to": "ACTIVE" });
    let transitions = format!("{path}/transitions");
    json_of(api.call(Method::POST, &transitions, &driver, Some(to_active.clone())).await, 403).await;
    json_of(api.call(Method::POST, &transitions, &admin, Some(to_active.clone())).await, 200).await;
    let again = json_of(api.call(Method::POST, &transitions, &admin, Some(to_active)).await, 409).await;
    assert_eq!((text(&again, "from"), text(&again, "to")), ("ACTIVE", "ACTIVE"));
    assert_eq!(again["allowed"], json!(["MAINTENANCE", "OUT_OF_ORDER"]));

    let near = "/stations?latitude=48.1&longitude=11.5&radiusKm=1&limit=100";
    let near = json_of(api.call(Method::GET, near, &driver, None).await, 200).await;
    assert!(near["items"].as_array().unwrap().iter().any(|item| item["stationId"] == created["stationId"]));

    let start = json!({
        "stationId": created["stationId"], "portId": "port-1", "vehicle": { "batteryCapacityKwh": 40 }, "chargePercent": 50
    });
    let started = api.call(Method::POST, "/sessions", &driver, Some(start)).await;
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    let session = json_of(started, 201).await;
    assert_eq!(location, format!("/sessions/{}", text(&session, "sessionId")));
    json_of(api.call(Method::GET, &location, &stranger, None).await, 403).await;
    json_of(api.call(Method::PATCH, &format!("{location}/stop"), &stranger, None).await, 403).await;
    json_of(api.call(Method::GET, &location, &tech, None).await, 200).await;
    let mine = json_of(api.call(Method::GET, "/sessions", &driver, None).await, 200).await;
    assert_eq!((mine["count"].as_u64(), &mine["items"][0]["sessionId"]), (Some(1), &session["sessionId"]));
    let theirs = json_of(api.call(Method::GET, "/sessions", &stranger, None).await, 200).await;
    assert_eq!(theirs["count"], 0);

    api.stack.tick(text(&created, "stationId"), minutes_after(&session, 6)).await.unwrap();
    let stopped = json_of(api.call(Method::PATCH, &format!("{location}/stop"), &driver, None).await, 200).await;
    assert_eq!((text(&stopped, "status"), &stopped["energyKwh"]), ("INTERRUPTED", &json!(5.0)));
    assert_eq!(text(&stopped, "cost"), "2.45");
    let again = json_of(api.call(Method::PATCH, &format!("{location}/stop"), &driver, None).await, 409).await;
    assert!(text(&again, "detail").contains("INTERRUPTED"), "{again}");

    let invoice = api.stack.invoice(text(&session, "sessionId")).await;
    money(&api, &invoice, [&driver, &stranger, &admin]).await;

    json_of(api.call(Method::GET, "/error-logs", &driver, None).await, 403).await;
    json_of(api.call(Method::GET, "/error-logs", &tech, None).await, 200).await;
    json_of(api.call(Method::GET, "/stations/none", &driver, None).await, 404).await;
    let wrong =
        json_of(api.call(Method::POST, "/sessions", &driver, Some(json!({ "chargePercent": "x" }))).await, 400).await;
    assert!(wrong["errors"].as_array().unwrap().len() >= 4, "every invalid field is named: {wrong}");
    json_of(api.call(Method::DELETE, &path, &admin, None).await, 200).await;
    api.close().await;
}

/// Uses every route of billing for the driver's open invoice of 2.45 EUR.
async fn money(api: &Api, invoice: &serde_json::Value, [driver, stranger, admin]: [&str; 3]) {
    let path = format!("/invoices/{}", text(invoice, "invoiceId"));
    let mine = json_of(api.call(Method::GET, "/invoices", driver, None).await, 200).await;
    assert_eq!((mine["count"].as_u64(), &mine["items"][0]["lines"]), (Some(1), &invoice["lines"]));
    json_of(api.call(Method::GET, &path, stranger, None).await, 403).await;
    json_of(api.call(Method::GET, "/invoices/none", driver, None).await, 404).await;
    let unpaid = json_of(api.call(Method::POST, &format!("{path}/payments"), driver, None).await, 409).await;
    assert!(text(&unpaid, "detail").contains("balance is too low"), "{unpaid}");
    // Only staff can top up a wallet, not the users themselves.
    let user = text(invoice, "userId");
    let top_up = json!({ "userId": user, "amount": "10.00", "currency": "EUR", "idempotencyKey": "k" });
    json_of(api.call(Method::POST, "/wallet/top-ups", driver, Some(top_up.clone())).await, 403).await;
    let made = api.call(Method::POST, "/wallet/top-ups", admin, Some(top_up)).await;
    assert_eq!(made.headers()["location"], "/wallet");
    assert_eq!(text(&json_of(made, 201).await, "balance"), "7.55", "the open invoice was paid");
    let nothing = json_of(api.call(Method::POST, "/wallet/top-ups", driver, Some(json!({}))).await, 400).await;
    assert_eq!(nothing["errors"].as_array().unwrap().len(), 3, "{nothing}");
    let paid = json_of(api.call(Method::POST, &format!("{path}/payments"), driver, None).await, 200).await;
    assert_eq!(text(&paid, "status"), "PAID");
    let credit = json!({ "reason": "goodwill", "lines": [{ "line": 1, "netAmount": "1.00" }] });
    let notes = format!("{path}/credit-notes");
    json_of(api.call(Method::POST, &notes, driver, Some(credit.clone())).await, 403).await;
    let note = json_of(api.call(Method::POST, &notes, admin, Some(credit)).await, 201).await;
    assert_eq!(text(&note, "refunded"), "1.00");
    assert_eq!(text(&json_of(api.call(Method::GET, "/wallet", driver, None).await, 200).await, "balance"), "8.55");
    let ledger = json_of(api.call(Method::GET, "/wallet/ledger", driver, None).await, 200).await;
    let kinds: Vec<&str> = ledger["items"].as_array().unwrap().iter().map(|entry| text(entry, "kind")).collect();
    assert_eq!(kinds, ["CREDIT_NOTE", "INVOICE", "TOP_UP"]);
}

/// Uses every route of telemetry for the state and the history of a battery-swap station.
#[tokio::test(flavor = "multi_thread")]
async fn telemetry_routes_work_over_http() {
    let mut api = Api::open().await;
    let driver = api.register().await;
    let station = format!("http-{}", uuid::Uuid::new_v4());
    let now = now();
    let seen = [now - chrono::TimeDelta::seconds(9), now - chrono::TimeDelta::seconds(4)];
    for at in seen {
        let message = json!({
            "topic_station_id": station, "station_id": station, "battery_available": 12, "battery_charging": 4,
            "temperature": 28.5, "humidity": 42.0, "status": "operational", "timestamp": at.to_rfc3339()
        });
        api.stack.invoke("TelemetryHandler", message).await.unwrap();
    }
    let path = format!("/telemetry/stations/{station}");
    let state = json_of(api.call(Method::GET, &path, &driver, None).await, 200).await;
    assert_eq!((text(&state, "station_id"), &state["battery_available"]), (station.as_str(), &json!(12)), "{state}");
    json_of(api.call(Method::GET, "/telemetry/stations/nobody", &driver, None).await, 404).await;

    let mut pages = vec![json_of(api.call(Method::GET, "/telemetry/stations?limit=1", &driver, None).await, 200).await];
    while let Some(token) = pages.last().and_then(|page| page["nextToken"].as_str()) {
        let next = format!("/telemetry/stations?limit=100&nextToken={token}");
        pages.push(json_of(api.call(Method::GET, &next, &driver, None).await, 200).await);
    }
    let listed = pages.iter().flat_map(|page| page["stations"].as_array().unwrap());
    assert_eq!(listed.filter(|listed| listed["station_id"] == json!(station)).count(), 1);

    // The earlier of the two messages may have been sent on the day before.
    let mut history = Vec::new();
    for day in seen.map(|at| at.date_naive()).into_iter().collect::<std::collections::BTreeSet<_>>() {
        let path = format!("{path}/history?date={day}");
        let page = json_of(api.call(Method::GET, &path, &driver, None).await, 200).await;
        history.extend(page["items"].as_array().unwrap().clone());
    }
    assert_eq!(history.len(), 2, "{history:?}");
    let wrong = json_of(api.call(Method::GET, &format!("{path}/history?date=today"), &driver, None).await, 400).await;
    assert_eq!(text(&wrong["errors"][0], "field"), "date", "{wrong}");
    json_of(api.call(Method::GET, &format!("{path}/history"), &driver, None).await, 400).await;
    api.close().await;
}

/// Uses every route of the OpenChargeMap mirror.
#[tokio::test(flavor = "multi_thread")]
async fn poi_routes_work_over_http() {
    let mut api = Api::open().await;
    let driver = api.register().await;
    let search = "/pois?latitude=52.52&longitude=13.4&radiusKm=5&minPowerKw=50&connectionTypeId=33&limit=5";
    let found = json_of(api.call(Method::GET, search, &driver, None).await, 200).await;
    assert_eq!(text(&found["attribution"], "licence"), "CC BY-SA 4.0", "{found}");
    let wrong = json_of(api.call(Method::GET, "/pois?latitude=95&longitude=13.4", &driver, None).await, 400).await;
    assert_eq!(text(&wrong["errors"][0], "field"), "latitude", "{wrong}");
    json_of(api.call(Method::GET, "/pois/2147483647", &driver, None).await, 404).await;
    json_of(api.call(Method::GET, "/pois/zero", &driver, None).await, 400).await;
    json_of(api.call(Method::GET, "/pois/reference-data/Cats", &driver, None).await, 400).await;
    api.close().await;
}
