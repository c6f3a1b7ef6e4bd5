//! Accounts: `account_service` and `token_scopes`.

use account_service::{AccountService, SignInRules, UserPool};
use aws_config::SdkConfig;
use domain::actor::Actor;
use domain::id::UserId;
use lambda_kit::{Clock, Door, RemoteFunction};
use serde_json::{Value, json};
use store::EventContext;
use testkit::{EmbeddedDynamoDb, FakeAws, RecordedCall, invoke, sdk_config};
use token_scopes::TokenScopes;

use crate::bad_input::Kind::{Array, Enum, Id, Integer, Number, Object, Text, TextOrNothing, Time};
use crate::bad_input::{Case, Kind, assert_refused, attack};
use crate::openapi::{ADMIN, CLOCK, Recorder, set_time};

/// The users of the examples.
const ADA: &str = "6f1e1d0a-3c52-4a7e-9b1c-7d8f0e2a4b61";
const GRACE: &str = "b0a4c6de-91f3-4c1b-8d55-3f6a7e8c9d02";
const MACHINE: &str = "2d7c9e10-5b84-4f36-8a2d-1c0e9f7b3a58";
/// Access tokens that say which user they are of, and have some scopes.
const ADAS_TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI2ZjFlMWQwYS0zYzUyLTRhN2UtOWIxYy03ZDhmMGUyYTRiNjEiLCJ0b2tlbl91c2U\
    iOiJhY2Nlc3MiLCJzY29wZSI6ImV2b2tlL3N0YXRpb25zOnJlYWQgZXZva2Uvc2Vzc2lvbnM6cmVhZCBldm9rZS9zZXNzaW9uczp3cml0ZSJ9.\
    signature";
const PASSWORD: &str = "Correct-Horse-9";

/// Creates the function with this endpoint of all services but `DynamoDB`.
pub fn service(dynamodb: &EmbeddedDynamoDb, sdk: &SdkConfig) -> AccountService {
    let cognito = aws_sdk_cognitoidentityprovider::Client::new(sdk);
    let pool = UserPool::new(cognito, "eu-central-1_example".to_owned(), "client".to_owned());
    let function = |name: &str| RemoteFunction::new(sdk, name.to_owned());
    let rules = SignInRules { auto_confirm: false };
    AccountService::new(dynamodb.users(), pool, function("session_service"), function("billing"), rules)
}

const VEHICLE: [(&str, bool, Kind); 5] = [
    ("vehicle.brand", true, Text(100)),
    ("vehicle.model", true, Text(100)),
    ("vehicle.batteryCapacity", true, Number(0.001, 2000.0)),
    ("vehicle.maxPowerKw", false, Number(0.001, 5000.0)),
    ("vehicle.registrationNumber", false, Text(32)),
];

fn vehicle() -> Value {
    json!({
        "brand": "Renault", "model": "Zoe", "batteryCapacity": 52.0, "maxPowerKw": 46.0,
        "registrationNumber": "M-EV 42E"
    })
}

#[allow(clippy::too_many_lines)] // a list
fn account_cases() -> Vec<Case> {
    let [brand, model, capacity, power, number] = VEHICLE;
    let with_vehicle = |fields: &[(&'static str, bool, Kind)]| -> &'static [(&'static str, bool, Kind)] {
        // A case has its fields for ever, as the others do.
        [fields, &[brand, model, capacity, power, number]].concat().leak()
    };
    let page: [(&str, bool, Kind); 2] = [("limit", false, Integer(1, 100)), ("nextToken", false, Text(2048))];
    let address = json!({ "email": "ada@example.com" });
    let code = json!({ "email": "ada@example.com", "code": "123456", "newPassword": PASSWORD });
    let of_user = json!({ "userId": "u-1" });
    let email = ("email", true, Text(128));
    vec![
        Case(
            "register",
            with_vehicle(&[
                email,
                ("name", true, Text(100)),
                ("password", true, Text(256)),
                ("vehicle", false, Object),
                ("language", false, Enum),
            ]),
            json!({ "email": "ada@example.com", "name": "Ada", "password": PASSWORD, "vehicle": vehicle() }),
        ),
        Case("confirm", &[("email", true, Text(128)), ("code", true, Text(64))], code.clone()),
        Case("resendCode", &[("email", true, Text(128))], address.clone()),
        Case(
            "login",
            &[("email", true, Text(128)), ("password", true, Text(256))],
            json!({ "email": "ada@example.com", "password": PASSWORD }),
        ),
        Case(
            "token",
            &[
                ("grant_type", true, Enum),
                ("username", false, Text(128)),
                ("password", false, Text(256)),
                ("refresh_token", false, Text(8192)),
                ("client_id", false, Text(128)),
                ("client_secret", false, Text(256)),
                ("scope", false, TextOrNothing(1000)),
            ],
            json!({ "grant_type": "password", "username": "ada@example.com", "password": PASSWORD }),
        ),
        Case("forgotPassword", &[("email", true, Text(128))], address),
        Case(
            "resetPassword",
            &[("email", true, Text(128)), ("code", true, Text(64)), ("newPassword", true, Text(256))],
            code,
        ),
        Case(
            "changePassword",
            &[("currentPassword", true, Text(256)), ("newPassword", true, Text(256)), ("everywhere", false, Enum)],
            json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD }),
        ),
        Case("logout", &[("everywhere", false, Enum), ("refreshToken", false, Text(8192))], json!({})),
        Case("getAccount", &[], json!({})),
        Case("updateAccount", &[("name", false, Text(100)), ("language", false, Enum)], json!({ "name": "Ada" })),
        Case("deleteAccount", &[], json!({})),
        Case(
            "exportAccount",
            &[
                ("sessionsToken", false, Text(2048)),
                ("invoicesToken", false, Text(2048)),
                ("ledgerToken", false, Text(2048)),
            ],
            json!({}),
        ),
        Case(
            "addVehicle",
            with_vehicle(&[("userId", false, Id), ("vehicle", true, Object)]),
            json!({ "vehicle": vehicle() }),
        ),
        Case("listVehicles", &[("userId", false, Id)], json!({})),
        Case("removeVehicle", &[("userId", false, Id), ("vehicleId", true, Id)], json!({ "vehicleId": "none" })),
        Case(
            "addToken",
            &[("userId", false, Id), ("tokenId", true, Text(36)), ("type", true, Enum), ("validUntil", false, Time)],
            json!({ "tokenId": "04A2B3C4", "type": "RFID" }),
        ),
        Case("listTokens", &[("userId", false, Id)], json!({})),
        Case("removeToken", &[("userId", false, Id), ("tokenId", true, Text(36))], json!({ "tokenId": "none" })),
        Case(
            "createCustomer",
            with_vehicle(&[email, ("name", true, Text(100)), ("vehicle", false, Object), ("language", false, Enum)]),
            json!({ "email": "ada@example.com", "name": "Ada", "vehicle": vehicle() }),
        ),
        Case("getCustomer", &[("userId", true, Id)], of_user.clone()),
        Case(
            "listCustomers",
            [page[0], page[1], ("email", false, Text(128)), ("status", false, Enum)].to_vec().leak(),
            json!({ "status": "ACTIVE" }),
        ),
        Case("listCustomers", &[("registrationNumber", false, Text(32))], json!({})),
        Case(
            "blockUser",
            &[("userId", true, Id), ("reason", true, Text(500)), ("endSessions", false, Enum)],
            json!({ "userId": "u-1", "reason": "r" }),
        ),
        Case("unblockUser", &[("userId", true, Id), ("reason", false, Text(500))], of_user),
        Case("setRole", &[("userId", true, Id), ("role", true, Enum)], json!({ "userId": "u-1", "role": "ADMIN" })),
        Case(
            "createClient",
            &[("name", true, Text(100)), ("scopes", true, Array), ("role", false, Enum)],
            json!({ "name": "Gate", "scopes": ["parking:write"] }),
        ),
        Case("listClients", page.to_vec().leak(), json!({})),
        Case("revokeClient", &[("clientId", true, Id)], json!({ "clientId": "none" })),
    ]
}

#[tokio::test]
async fn account_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let cognito = FakeAws::start(|_, _| (500, String::new())).await;
    let door = Door::new(service(&dynamodb, &sdk_config(&cognito.endpoint())), Clock::SYSTEM);
    let open = ["register", "confirm", "resendCode", "login", "token", "forgotPassword", "resetPassword"];
    let tried = attack(&door, account_cases(), &open, &dynamodb).await;
    assert!(tried > 300, "{tried}");
    let (user, staff) = (json!({ "userId": "u-1", "role": "USER" }), json!({ "userId": "a", "role": "ADMIN" }));
    let weak = json!({ "email": "ada@example.com", "name": "Ada", "password": "correct-horse" });
    let machine = json!({ "email": "client-1@clients.invalid", "name": "Ada", "password": PASSWORD });
    for (action, field, actor, arguments) in [
        ("register", "password", &user, weak),
        ("register", "email", &user, machine),
        ("updateAccount", "name", &user, json!({})),
        ("logout", "refreshToken", &user, json!({ "everywhere": false })),
        ("listCustomers", "email", &staff, json!({ "email": "ada@example.com", "status": "ACTIVE" })),
        ("setRole", "role", &staff, json!({ "userId": "u-1", "role": "SYSTEM" })),
        ("createClient", "scopes", &staff, json!({ "name": "Gate", "scopes": ["stations:write"], "role": "USER" })),
        ("createClient", "scopes", &staff, json!({ "name": "Gate", "scopes": [] })),
        ("token", "username", &user, json!({ "grant_type": "password", "password": PASSWORD })),
        ("token", "refresh_token", &user, json!({ "grant_type": "refresh_token" })),
        ("token", "client_id", &user, json!({ "grant_type": "client_credentials", "client_secret": PASSWORD })),
        ("token", "scope", &user, json!({ "grant_type": "refresh_token", "refresh_token": "r", "scope": "all" })),
    ] {
        let mut request = json!({ "action": action, "actor": actor });
        request.as_object_mut().unwrap().extend(arguments.as_object().cloned().unwrap_or_default());
        assert_refused(&invoke(&door, request).await, field, &format!("{action} with a wrong {field}"));
    }
    assert!(cognito.calls().is_empty(), "nothing was asked of Cognito");
}

/// Cognito mails nothing to unknown addresses, so a mail that fails would tell that an address is known.
#[tokio::test]
async fn a_code_that_is_not_mailed_gets_the_answer_of_every_address() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    for (code, is_told) in [
        ("CodeDeliveryFailureException", false),
        ("InvalidEmailRoleAccessPolicyException", false),
        ("LimitExceededException", false),
        ("UserNotFoundException", false),
        ("InternalErrorException", true),
    ] {
        let cognito = FakeAws::start(move |call, _| match call.target.rsplit('.').next().unwrap_or_default() {
            "ForgotPassword" | "ResendConfirmationCode" => {
                (400, json!({ "__type": code, "message": "a failure of ada@example.com" }).to_string())
            }
            _ => (200, answered(call).to_string()),
        })
        .await;
        let door = Door::new(service(&dynamodb, &sdk_config(&cognito.endpoint())), Clock::SYSTEM);
        for action in ["forgotPassword", "resendCode"] {
            let outcome = invoke(&door, json!({ "action": action, "email": "ada@example.com" })).await;
            assert_eq!(outcome.is_err(), is_told, "{action} with {code}: {outcome:?}");
        }
    }
}

/// Cognito mails few codes a day without an address of SES. It has created the user when it says that it mailed none.
#[tokio::test]
async fn a_sign_up_whose_code_is_not_mailed_goes_on() {
    for (code, status, is_created) in [
        ("LimitExceededException", "UNCONFIRMED", true),
        ("CodeDeliveryFailureException", "UNCONFIRMED", true),
        // The address is that of another sign-up.
        ("LimitExceededException", "CONFIRMED", false),
        ("InternalErrorException", "UNCONFIRMED", false),
    ] {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let cognito = FakeAws::start(move |call, _| match call.target.rsplit('.').next().unwrap_or_default() {
            "SignUp" => (400, json!({ "__type": code, "message": "no mail to ada@example.com" }).to_string()),
            "AdminGetUser" => {
                let mut person = answered(call);
                person["UserStatus"] = json!(status);
                (200, person.to_string())
            }
            _ => (200, answered(call).to_string()),
        })
        .await;
        let door = Door::new(service(&dynamodb, &sdk_config(&cognito.endpoint())), Clock::SYSTEM);
        let register = json!({ "action": "register", "email": "ada@example.com", "name": "Ada", "password": PASSWORD });
        let outcome = invoke(&door, register.clone()).await;
        assert_eq!(outcome.is_ok(), is_created, "{code} of {status}: {outcome:?}");
        assert_eq!(dynamodb.items("ev-users").await.len(), usize::from(is_created), "{code} of {status}");
        if let Ok(answer) = outcome {
            assert_eq!((&answer["userId"], &answer["status"]), (&json!(ADA), &json!("UNCONFIRMED")));
            let again = invoke(&door, register).await;
            assert!(again.is_err(), "{code}: the user has a row, and so signed up before: {again:?}");
        }
    }
}

/// `token_scopes` refuses a deleted user whom the user pool still has. The sign-in is then that of an unknown address,
/// and the user is deleted.
#[tokio::test]
async fn a_refused_token_completes_a_deletion() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let cognito = FakeAws::start(|call, _| match call.target.rsplit('.').next().unwrap_or_default() {
        "AdminInitiateAuth" => {
            let message = format!("PreTokenGeneration failed with error user {ADA} may not sign in.");
            (400, json!({ "__type": "UserLambdaValidationException", "message": message }).to_string())
        }
        _ => (200, answered(call).to_string()),
    })
    .await;
    let door = Door::new(service(&dynamodb, &sdk_config(&cognito.endpoint())), Clock::SYSTEM);
    let login = async || {
        let login = json!({ "action": "login", "email": "ada@example.com", "password": PASSWORD });
        invoke(&door, login).await.unwrap_err()
    };
    let deletions = || cognito.calls().iter().filter(|call| call.target.ends_with(".AdminDeleteUser")).count();
    dynamodb.block_user(ADA).await;
    let (kind, message) = login().await;
    assert!(kind == "ForbiddenError" && message.contains("is blocked"), "{kind}: {message}");
    assert_eq!(deletions(), 0);

    let users = dynamodb.users();
    let context = EventContext { correlation_id: "c".to_owned(), now: (Clock::SYSTEM.0)() };
    let mut user = users.load(&UserId::new(ADA).unwrap()).await.unwrap().unwrap();
    user.start_deletion(&Actor::system()).unwrap();
    users.save(&user, Vec::new(), &context).await.unwrap();
    user.delete(context.now).unwrap();
    users.erase(&user, &context).await.unwrap();
    let (kind, message) = login().await;
    assert!(kind == "ForbiddenError" && message.contains("password is wrong"), "{kind}: {message}");
    assert_eq!(deletions(), 1);
}

#[tokio::test]
async fn token_scopes_refuses_what_is_no_event_before_tokens_are_issued() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(TokenScopes::new(dynamodb.users()), Clock::SYSTEM);
    let event = |source: Value, user: Value| json!({ "triggerSource": source, "userPoolId": "p", "userName": user });
    for (event, field) in [
        (event(json!("PreSignUp_SignUp"), json!("u-1")), "triggerSource"),
        (event(json!("TokenGeneration_Authentication"), json!(1)), "payload"),
        (event(json!("TokenGeneration_Authentication"), json!("a#b")), "userId"),
        (event(json!("TokenGeneration_Authentication"), json!("")), "userId"),
        (json!({ "triggerSource": "TokenGeneration_Authentication", "userPoolId": "p" }), "payload"),
        (json!({ "action": "token" }), "action"),
    ] {
        assert_refused(&invoke(&door, event.clone()).await, field, &event.to_string());
    }
    assert_eq!(dynamodb.items("ev-users").await.len(), 0);
}

/// Answers the calls of the examples as Cognito, `session_service` and `billing` would.
fn answered(call: &RecordedCall) -> Value {
    let asked: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let name = asked["Username"].as_str().or_else(|| asked["AuthParameters"]["USERNAME"].as_str()).unwrap_or_default();
    let (sub, email) = match name {
        GRACE | "grace@example.com" => (GRACE, "grace@example.com"),
        name if name.starts_with("client-") || name == MACHINE => (MACHINE, "client-1@clients.invalid"),
        _ => (ADA, "ada@example.com"),
    };
    let attributes = json!([{ "Name": "sub", "Value": sub }, { "Name": "email", "Value": email }]);
    match call.target.rsplit('.').next().unwrap_or_default() {
        "" => json!({ "items": [], "count": 0, "nextToken": null }),
        "SignUp" => json!({ "UserConfirmed": false, "UserSub": sub }),
        "AdminGetUser" => json!({ "Username": sub, "UserAttributes": attributes, "UserStatus": "CONFIRMED" }),
        "AdminCreateUser" => json!({ "User": { "Username": sub, "Attributes": attributes } }),
        "AdminListGroupsForUser" => json!({ "Groups": [] }),
        "AdminInitiateAuth" => json!({ "AuthenticationResult": {
            "AccessToken": ADAS_TOKEN, "IdToken": ADAS_TOKEN, "RefreshToken": "an-opaque-text", "ExpiresIn": 900,
            "TokenType": "Bearer"
        } }),
        _ => json!({}),
    }
}

/// Replaces what is different in every run by what is always the same.
fn fix(recorder: &mut Recorder, drawn: &str, fixed: &str) {
    let replaced = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace(drawn, fixed)).expect("still JSON")
    };
    for example in recorder.examples.values_mut() {
        example.answer = replaced(&example.answer);
        example.body = example.body.as_ref().map(replaced);
        for parameter in example.parameters.values_mut() {
            *parameter = replaced(parameter);
        }
    }
}

/// Records the examples of a person, a customer and a machine client.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let aws = FakeAws::start(|call, _| (200, answered(call).to_string())).await;
    let accounts = Door::new(service(dynamodb, &sdk_config(&aws.endpoint())), CLOCK);
    let (open, ada) = (("", ""), (ADA, ""));
    let email = || json!({ "email": "ada@example.com" });
    let with_code = || json!({ "email": "ada@example.com", "code": "123456" });
    set_time("11:00:00");
    let sign_up = json!({ "email": "ada@example.com", "name": "Ada", "password": PASSWORD, "vehicle": vehicle() });
    recorder.ask(&accounts, ("register", "POST /auth/register", open), &[], &[], sign_up).await;
    recorder.ask(&accounts, ("resendCode", "POST /auth/code", open), &[], &[], email()).await;
    recorder.ask(&accounts, ("confirm", "POST /auth/confirm", open), &[], &[], with_code()).await;
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    recorder.ask(&accounts, ("login", "POST /auth/login", open), &[], &[], login).await;
    let grant = json!({ "grant_type": "password", "username": "ada@example.com", "password": PASSWORD });
    recorder.ask(&accounts, ("token", "POST /auth/token", open), &[], &[], grant).await;
    recorder.ask(&accounts, ("forgotPassword", "POST /auth/password/forgot", open), &[], &[], email()).await;
    let mut reset = with_code();
    reset["newPassword"] = json!(PASSWORD);
    recorder.ask(&accounts, ("resetPassword", "POST /auth/password/reset", open), &[], &[], reset).await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "Battery-Staple-7", "everywhere": true });
    recorder.ask(&accounts, ("changePassword", "POST /auth/password", ada), &[], &[], change).await;
    let token = json!({ "refreshToken": "an-opaque-text" });
    recorder.ask(&accounts, ("logout", "POST /auth/logout", ada), &[], &[], token).await;
    recorder.ask(&accounts, ("getAccount", "GET /account", ada), &[], &[], Value::Null).await;
    let update = json!({ "language": "de" });
    recorder.ask(&accounts, ("updateAccount", "PATCH /account", ada), &[], &[], update).await;

    let of_ada: &[(&str, &str)] = &[("userId", ADA)];
    let route = "POST /customers/{userId}/vehicles";
    let another = json!({ "vehicle": { "brand": "Fiat", "model": "500e", "batteryCapacity": 42.0 } });
    let added = recorder.ask(&accounts, ("addVehicle", route, ada), of_ada, &[], another).await;
    let route = "GET /customers/{userId}/vehicles";
    let vehicles = recorder.ask(&accounts, ("listVehicles", route, ada), of_ada, &[], Value::Null).await;
    let second = added["vehicleId"].as_str().expect("a vehicle").to_owned();
    let ids =
        vehicles["items"].as_array().expect("vehicles").iter().filter_map(|vehicle| vehicle["vehicleId"].as_str());
    let first = ids.into_iter().find(|id| *id != second).expect("the first vehicle").to_owned();
    let route = ("removeVehicle", "DELETE /customers/{userId}/vehicles/{vehicleId}", ada);
    recorder.ask(&accounts, route, &[("userId", ADA), ("vehicleId", &second)], &[], Value::Null).await;
    let card = json!({ "tokenId": "04A2B3C4", "type": "RFID", "validUntil": "2027-12-31T00:00:00Z" });
    recorder.ask(&accounts, ("addToken", "POST /customers/{userId}/tokens", ada), of_ada, &[], card).await;
    let route = ("listTokens", "GET /customers/{userId}/tokens", ada);
    recorder.ask(&accounts, route, of_ada, &[], Value::Null).await;
    recorder.ask(&accounts, ("exportAccount", "GET /account/export", ada), &[], &[], Value::Null).await;
    let route = ("removeToken", "DELETE /customers/{userId}/tokens/{tokenId}", ada);
    recorder.ask(&accounts, route, &[("userId", ADA), ("tokenId", "04A2B3C4")], &[], Value::Null).await;

    set_time("11:05:00");
    let customer = json!({ "email": "grace@example.com", "name": "Grace" });
    recorder.ask(&accounts, ("createCustomer", "POST /customers", ADMIN), &[], &[], customer).await;
    let of_grace: &[(&str, &str)] = &[("userId", GRACE)];
    recorder.ask(&accounts, ("getCustomer", "GET /customers/{userId}", ADMIN), of_grace, &[], Value::Null).await;
    let query: &[(&str, &str)] = &[("status", "ACTIVE"), ("limit", "1")];
    recorder.ask(&accounts, ("listCustomers", "GET /customers", ADMIN), &[], query, Value::Null).await;
    let route = "POST /customers/{userId}/transitions";
    let block = json!({ "to": "BLOCKED", "reason": "unpaid invoices", "endSessions": true });
    recorder.ask(&accounts, ("blockUser", route, ADMIN), of_grace, &[], block).await;
    let unblock = json!({ "to": "ACTIVE", "reason": "paid" });
    recorder.ask(&accounts, ("unblockUser", route, ADMIN), of_grace, &[], unblock).await;
    let role = json!({ "role": "TECH_SUPPORT" });
    recorder.ask(&accounts, ("setRole", "PUT /customers/{userId}/role", ADMIN), of_grace, &[], role).await;

    let client = json!({ "name": "Gate of lot 1", "scopes": ["parking:read", "parking:write"] });
    let created = recorder.ask(&accounts, ("createClient", "POST /clients", ADMIN), &[], &[], client).await;
    recorder.ask(&accounts, ("listClients", "GET /clients", ADMIN), &[], &[], Value::Null).await;
    let id = created["clientId"].as_str().expect("a client").to_owned();
    let route = ("revokeClient", "DELETE /clients/{clientId}", ADMIN);
    recorder.ask(&accounts, route, &[("clientId", &id)], &[], Value::Null).await;
    recorder.ask(&accounts, ("deleteAccount", "DELETE /account", ada), &[], &[], Value::Null).await;

    let secret = created["clientSecret"].as_str().expect("a secret").to_owned();
    for (drawn, fixed) in [
        (first, "0198e2f4-0000-7000-8000-000000000001"),
        (second, "0198e2f4-0000-7000-8000-000000000002"),
        (id, "0198e2f4-0000-7000-8000-000000000003"),
        (secret, "vJ4mQeY0n3l6oXr8TzK1s5uWb7Ad9CfGh2iLpNqRtE0"),
    ] {
        fix(recorder, &drawn, fixed);
    }
}
