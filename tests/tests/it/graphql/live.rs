//! Live updates on the deployed stack, from a change to its subscribers.

use std::time::Duration;

use appsync::{SessionUpdate, StationUpdate, Subscription, Update};
use domain::charging::session::SessionStatus;
use domain::charging::station::{PortStatus, StationStatus};
use e2e::{Person, Stack, admin, minutes_after, text, token};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Staff;

/// The time in which an update that must not arrive would arrive.
const SILENCE: Duration = Duration::from_secs(2);

/// Returns the updates of sessions.
fn sessions(updates: &[Update]) -> Vec<&SessionUpdate> {
    let mut sessions = Vec::new();
    for update in updates {
        if let Update::SessionChanged(session) = update {
            sessions.push(session);
        }
    }
    sessions
}

/// Returns the updates of stations, each change once, in the order of their versions.
fn changes(updates: &[Update]) -> Vec<StationUpdate> {
    let mut changes: Vec<StationUpdate> = Vec::new();
    for update in updates {
        // An update may come twice.
        if let Update::StationChanged(change) = update
            && !changes.contains(change)
        {
            changes.push(change.clone());
        }
    }
    changes.sort_by_key(|change| change.version);
    changes
}

/// Returns whether an update says that a session started, or that it ended.
fn has(updates: &[Update], session: &str, is_active: bool) -> bool {
    sessions(updates).iter().any(|update| update.session_id == session && update.status.is_active() == is_active)
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_ends_reach_subscribers_of_the_session_the_user_and_the_station() {
    let stack = Stack::open().await;
    let (person, other) = (Person::register(&stack).await, Person::register(&stack).await);
    let staff = Staff::sign_up(&stack, "TECH_SUPPORT").await;
    let station = stack.station(2).await;
    let user = token(&person.token);
    let mut by_user = stack.follow(user.clone(), vec![Subscription::sessions_of(&person.user_id)]).await;
    let mut of_user = stack.follow(user.clone(), vec![Subscription::sessions()]).await;
    let mut of_user_there = stack.follow(user.clone(), vec![Subscription::sessions_at(&station)]).await;
    let mut of_all = stack.follow(staff.authorization.clone(), vec![Subscription::sessions_at(&station)]).await;
    let mut ports = stack.follow(stack.api_key(), vec![Subscription::station(&station)]).await;

    let own = person.start(&stack, &station).await.must_be(201);
    let own = text(&own, "sessionId").to_owned();
    let foreign = stack.start(&station, 2, &other.user_id, json!({})).await.unwrap();
    let foreign = text(&foreign, "sessionId").to_owned();
    let mut by_session = stack.follow(user.clone(), vec![Subscription::session(&own)]).await;
    // A user who names the session of another user follows nothing.
    let mut in_vain = stack.follow(user.clone(), vec![Subscription::session(&foreign)]).await;
    stack.stop(&foreign, &other.user_id).await.unwrap();
    let stopped = person.stop(&stack, &own).await.must_be(200);

    let both = |updates: &[Update]| [&own, &foreign].iter().all(|id| has(updates, id, true) && has(updates, id, false));
    let all = sessions(of_all.read("both sessions", both).await);
    let of_own = all.into_iter().filter(|update| update.session_id == own);
    let (starts, ends): (Vec<_>, Vec<_>) = of_own.partition(|update| update.status.is_active());
    let (start, end) = (starts[0], ends[0]);
    assert_eq!((start.user_id.as_str(), start.station_id.as_str()), (person.user_id.as_str(), station.as_str()));
    assert_eq!((start.status, end.status), (SessionStatus::Started, SessionStatus::Interrupted));
    assert_eq!(end.reason.as_deref(), stopped["endReason"].as_str());
    assert_eq!((end.cost.as_deref(), Some(end.version)), (stopped["cost"].as_str(), stopped["version"].as_u64()));
    assert!(start.version < end.version, "{start:?} {end:?}");

    for follower in [&mut by_user, &mut of_user, &mut of_user_there] {
        follower.read("the own session", |updates| has(updates, &own, true) && has(updates, &own, false)).await;
        let updates = sessions(follower.all_within(SILENCE).await);
        assert!(updates.iter().all(|update| update.user_id == person.user_id), "{updates:?}");
    }
    let updates = sessions(by_session.read("the end", |updates| has(updates, &own, false)).await);
    assert!(updates.iter().all(|update| update.session_id == own), "{updates:?}");
    assert!(in_vain.all_within(Duration::ZERO).await.is_empty(), "the session of another user");

    let changes = changes(ports.read("two ports that are free again", |updates| changes(updates).len() >= 4).await);
    for port in ["port-1", "port-2"] {
        let of_port = changes.iter().filter(|change| change.port_id.as_deref() == Some(port));
        let statuses: Vec<Option<PortStatus>> = of_port.map(|change| change.port_status).collect();
        assert_eq!(statuses, [Some(PortStatus::Charging), Some(PortStatus::Free)], "{changes:?}");
    }
    for person in [person, other] {
        stack.delete_account(&person.user_id).await;
    }
    staff.leave(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_station_reaches_its_subscribers() {
    let stack = Stack::open().await;
    let station = format!("e2e-{}", Uuid::new_v4());
    let mut follower = stack.follow(stack.api_key(), vec![Subscription::station(&station)]).await;
    let command = async |action: &str, more: Value| {
        let mut command = json!({ "action": action, "actor": admin(), "stationId": station });
        command.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        stack.invoke("StationService", command).await.unwrap();
    };
    let port = json!({ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 100 });
    let create = json!({
        "name": "E2E", "address": "Road 1", "latitude": 52.5, "longitude": 13.4, "powerKw": 100, "pricePerKwh": "0.49",
        "currency": "EUR", "ports": [port]
    });
    command("createStation", create).await;
    command("transitionStation", json!({ "to": "ACTIVE" })).await;
    command("updateStation", json!({ "name": "Renamed" })).await;
    command("addPort", json!({ "portNumber": 2, "connectorType": "CCS2", "maxPowerKw": 50 })).await;
    stack.start(&station, 1, "e2e-user", json!({})).await.unwrap();
    command("failPort", json!({ "portId": "port-1" })).await;
    command("resetPort", json!({ "portId": "port-1" })).await;
    command("removePort", json!({ "portId": "port-2" })).await;
    command("deleteStation", json!({})).await;

    // The end of the session and the failure of its port are one change with two updates.
    let changes = changes(follower.read("all changes", |updates| changes(updates).len() >= 10).await);
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.status, change.port_id.as_deref(), change.port_status, change.deleted))
        .collect();
    let on_station = |status| (Some(status), None, None, false);
    let on_port = |port, status| (None, Some(port), status, false);
    let expected = [
        on_station(StationStatus::New),
        on_station(StationStatus::Active),
        on_station(StationStatus::Active),
        on_port("port-2", Some(PortStatus::Free)),
        on_port("port-1", Some(PortStatus::Charging)),
        on_port("port-1", Some(PortStatus::Error)),
        on_port("port-1", Some(PortStatus::Error)),
        on_port("port-1", Some(PortStatus::Free)),
        on_port("port-2", None),
        (None, None, None, true),
    ];
    assert_eq!(told, expected, "{changes:?}");
    assert_eq!(changes[2].name.as_deref(), Some("Renamed"));
    assert_eq!((changes[3].ports, changes[8].ports, changes[9].ports), (Some(2), Some(1), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_balance_reach_the_owner_of_the_wallet() {
    let stack = Stack::open().await;
    let person = Person::register(&stack).await;
    let mut follower = stack.follow(token(&person.token), vec![Subscription::wallet(&person.user_id)]).await;
    stack.top_up(&person.user_id, "20.00", "k").await.unwrap();
    // The wallet of somebody else, which must not be told.
    stack.top_up(&format!("e2e-{}", Uuid::new_v4()), "70.00", "k").await.unwrap();
    let station = stack.station(1).await;
    let session = person.start(&stack, &station).await.must_be(201);
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    person.stop(&stack, text(&session, "sessionId")).await.must_be(200);
    let is_payment = |update: &Update| matches!(update, Update::WalletChanged(wallet) if wallet.reason == "INVOICE");
    follower.read("the payment", |updates| updates.iter().any(is_payment)).await;
    let mut told: Vec<(u64, String, String)> = Vec::new();
    for update in follower.all_within(SILENCE).await {
        let Update::WalletChanged(wallet) = update else { panic!("{update:?}") };
        assert_eq!(wallet.user_id, person.user_id);
        told.push((wallet.version, wallet.reason.clone(), wallet.balance.clone()));
    }
    told.sort();
    told.dedup();
    // 10 kWh at 0.49.
    let expected = [(1_u64, "TOP_UP", "20.00"), (2, "INVOICE", "15.10")];
    assert_eq!(told, expected.map(|(version, reason, balance)| (version, reason.to_owned(), balance.to_owned())));
    stack.delete_account(&person.user_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_port_alerts_the_staff() {
    let stack = Stack::open().await;
    let staff = Staff::sign_up(&stack, "TECH_SUPPORT").await;
    let mut follower = stack.follow(staff.authorization.clone(), vec![Subscription::operator_alerts()]).await;
    let station = stack.station(1).await;
    stack.start(&station, 1, "e2e-user", json!({})).await.unwrap();
    let fail = json!({ "action": "failPort", "actor": admin(), "stationId": station, "portId": "port-1" });
    stack.invoke("StationService", fail).await.unwrap();
    let of_ours = |update: &Update| matches!(update, Update::OperatorAlert(alert) if alert.message.contains(&station));
    let updates = follower.read("the alert", |updates| updates.iter().any(of_ours)).await;
    let Some(Update::OperatorAlert(alert)) = updates.iter().find(|update| of_ours(update)) else { unreachable!() };
    assert_eq!((alert.kind.as_str(), alert.service.as_str()), ("PORT_FAILED", "evoke.stations"));
    staff.leave(&stack).await;
}

/// These tests disable parts of the stack, or need the parameter `LiveProgress`.
mod local_cloud_alone {
    use std::process::Stdio;
    use std::sync::Arc;
    use std::time::Instant;

    use appsync::{AppSync, Authorization, Credentials, GraphQlError, Live};
    use aws_sdk_cognitoidentityprovider::Client as Cognito;
    use aws_sdk_cognitoidentityprovider::types::{TimeUnitsType, TokenValidityUnitsType};
    use aws_sdk_sqs::types::QueueAttributeName;
    use e2e::{Cable, Follower, PATIENCE, Tap, eventually, now};
    use futures::future::BoxFuture;
    use reqwest::Url;
    use testkit::reading;
    use tokio::process::Command;
    use tokio::sync::Mutex;

    use super::super::kind;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_tick_publishes_the_progress_of_the_sessions() {
        let stack = Stack::local().await;
        let person = Person::register(&stack).await;
        let station = stack.station(2).await;
        let mut follower = stack.follow(token(&person.token), vec![Subscription::progress_at(&station)]).await;
        let first = stack.start(&station, 1, "e2e-1", json!({})).await.unwrap();
        stack.start(&station, 2, "e2e-2", json!({})).await.unwrap();
        let at = minutes_after(&first, 12);
        stack.tick(&station, at).await.unwrap();
        // The scheduled ticks of every minute are long before this one.
        let is_told = |update: &Update| match update {
            Update::StationProgress(progress) => (progress.at - at).num_seconds().abs() < 60,
            _ => false,
        };
        let updates = follower.read("the progress", |updates| updates.iter().any(is_told)).await;
        let mut updates = updates.iter().filter(|update| is_told(update));
        let Some(Update::StationProgress(progress)) = updates.next() else { unreachable!() };
        let mut sessions = progress.sessions.clone();
        sessions.sort_by(|one, other| one.port_id.cmp(&other.port_id));
        // Both share 100 kW from the second start on, so the first has a little more than 10 kWh of 60.
        let [one, other] = &sessions[..] else { panic!("{sessions:?}") };
        assert_eq!((one.port_id.as_str(), one.session_id.as_str()), ("port-1", text(&first, "sessionId")));
        assert!((one.power_kw - 50.0).abs() < 1e-6 && (other.power_kw - 50.0).abs() < 1e-6, "{sessions:?}");
        let now = stack.session(&one.session_id).await;
        assert_eq!(Some(one.energy_kwh), now["energyKwh"].as_f64(), "{now}");
        assert!((one.percent - now["chargePercent"].as_f64().unwrap()).abs() < 0.01, "{now}");
        for session in [one, other] {
            let user = text(&stack.session(&session.session_id).await, "userId").to_owned();
            stack.stop(&session.session_id, &user).await.unwrap();
        }
        stack.delete_account(&person.user_id).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_of_a_battery_swap_station_is_published() {
        let stack = Stack::local().await;
        let person = Person::register(&stack).await;
        let station = format!("e2e-swap-{}", Uuid::new_v4().simple());
        let mut follower = stack.follow(token(&person.token), vec![Subscription::swap_station(&station)]).await;
        stack.invoke("TelemetryHandler", reading(&station, now(), 9)).await.unwrap();
        let updates = follower.read("the state", |updates| !updates.is_empty()).await;
        let Update::SwapStationChanged(update) = &updates[0] else { panic!("{updates:?}") };
        assert_eq!((update.station_id.as_str(), update.battery_available), (station.as_str(), 9));
        stack.delete_account(&person.user_id).await;
    }

    /// Disables `live_publisher` for a while. No other test runs at the same time: see `.config/nextest.toml`.
    #[tokio::test(flavor = "multi_thread")]
    async fn updates_that_the_publisher_missed_arrive_later() {
        let stack = Stack::local().await;
        let lambda = aws_sdk_lambda::Client::new(&stack.config);
        let publisher = stack.output("LivePublisherFunctionName");
        let station = stack.station(1).await;
        let staff = Staff::sign_up(&stack, "TECH_SUPPORT").await;
        let mut follower = stack.follow(staff.authorization.clone(), vec![Subscription::sessions_at(&station)]).await;
        let tap = Tap::of_sessions(&stack, &[&station]).await;

        let none = lambda.put_function_concurrency().function_name(publisher).reserved_concurrent_executions(0);
        none.send().await.unwrap();
        let session = stack.start(&station, 1, "e2e-user", json!({})).await.unwrap();
        let session = text(&session, "sessionId").to_owned();
        stack.stop(&session, "e2e-user").await.unwrap();
        tap.read(|events| events.len() >= 2).await;
        tap.close().await;
        // Lambda gives up after its attempts, and keeps the events.
        let (sqs, letters) = (aws_sdk_sqs::Client::new(&stack.config), stack.output("LivePublisherDeadLetterQueueUrl"));
        let depth = QueueAttributeName::ApproximateNumberOfMessages;
        eventually("the events among the dead letters", || async {
            let known = sqs.get_queue_attributes().queue_url(letters).attribute_names(depth.clone());
            let known = known.send().await.unwrap().attributes.unwrap();
            (known[&depth].parse::<u32>().unwrap() >= 2).then_some(())
        })
        .await;
        assert!(follower.all_within(Duration::ZERO).await.is_empty(), "nobody can have published them");

        lambda.delete_function_concurrency().function_name(publisher).send().await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let is_complete = |updates: &[Update]| has(updates, &session, true) && has(updates, &session, false);
        while !is_complete(follower.all_within(Duration::from_millis(200)).await) {
            assert!(Instant::now() < deadline, "the updates that were missed do not arrive");
            stack.reconcile().await;
        }
        // The normal way works again.
        let next = stack.start(&station, 1, "e2e-user", json!({})).await.unwrap();
        let next = text(&next, "sessionId").to_owned();
        follower.read("the next start", |updates| has(updates, &next, true)).await;
        stack.stop(&next, "e2e-user").await.unwrap();
        staff.leave(&stack).await;
    }

    /// Returns the host and port of a URL.
    fn authority(url: &str) -> String {
        let url = Url::parse(url).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
    }

    /// Returns a client whose subscriptions go through a cable.
    async fn through_a_cable(stack: &Stack) -> (AppSync, Cable) {
        let realtime = stack.output("RealtimeUrl");
        let server = authority(realtime);
        let cable = Cable::to(&server).await;
        let client = AppSync::new(stack.output("GraphqlUrl"), &cable.instead_of(&server, realtime)).unwrap();
        (client, cable)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_was_cut_off_reads_again_and_resumes() {
        let stack = Stack::local().await;
        let person = Person::register(&stack).await;
        let who = token(&person.token);
        let station = stack.station(1).await;
        let (client, cable) = through_a_cable(&stack).await;
        let live: Live<Update> =
            client.subscribe(Arc::new(who.clone()), vec![Subscription::sessions_of(&person.user_id)]);
        let mut follower = Follower::start(live).await;
        let mut witness = stack.follow(who.clone(), vec![Subscription::sessions()]).await;
        let missed = person.start(&stack, &station).await.must_be(201);
        let missed = text(&missed, "sessionId").to_owned();
        follower.read("the start", |updates| has(updates, &missed, true)).await;

        cable.pull_out();
        person.stop(&stack, &missed).await.must_be(200);
        witness.read("the end, which the other one misses", |updates| has(updates, &missed, false)).await;
        cable.plug_in();
        assert!(follower.started().await > 0, "it was not interrupted");

        // It reads what it has missed, and follows from now on.
        let read = "query S($id: ID!) { session(sessionId: $id) { status version } }";
        let answer = stack.graphql(&who, read, &json!({ "id": missed })).await;
        assert_eq!(answer.data["session"]["status"], "INTERRUPTED", "{answer:?}");
        let next = person.start(&stack, &station).await.must_be(201);
        let next = text(&next, "sessionId").to_owned();
        let updates = follower.read("the next start", |updates| has(updates, &next, true)).await;
        assert!(!has(updates, &missed, false), "AppSync keeps nothing for those who are away: {updates:?}");
        person.stop(&stack, &next).await.must_be(200);
        stack.delete_account(&person.user_id).await;
    }

    /// A person who signs in again when the token is refused.
    struct SignedIn {
        stack: Stack,
        person: Mutex<Person>,
    }

    impl Credentials for SignedIn {
        fn authorization<'a>(
            &'a self,
            refused: Option<&'a Authorization>,
        ) -> BoxFuture<'a, anyhow::Result<Option<Authorization>>> {
            Box::pin(async move {
                let mut person = self.person.lock().await;
                if Some(&token(&person.token)) == refused {
                    let answer = person.try_log_in(&self.stack).await;
                    if answer.status != 200 {
                        return Ok(None);
                    }
                    text(&answer.body, "accessToken").clone_into(&mut person.token);
                }
                Ok(Some(token(&person.token)))
            })
        }
    }

    /// Lets the app client issue access tokens of this validity.
    async fn set_validity(stack: &Stack, validity: i32, units: TokenValidityUnitsType) {
        let update = Cognito::new(&stack.config).update_user_pool_client().user_pool_id(stack.output("UserPoolId"));
        let update = update.client_id(stack.output("UserPoolClientId")).access_token_validity(validity);
        update.token_validity_units(units).send().await.unwrap();
    }

    /// For a moment, all sign-ins get tokens of some seconds. No other test runs at the same time: see
    /// `.config/nextest.toml`.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_expired_token_is_replaced_unless_the_user_is_blocked() {
        let stack = Stack::local().await;
        let (mut person, mut blocked) = (Person::register(&stack).await, Person::register(&stack).await);
        let describe = Cognito::new(&stack.config).describe_user_pool_client();
        let describe = describe.user_pool_id(stack.output("UserPoolId")).client_id(stack.output("UserPoolClientId"));
        let before = describe.send().await.unwrap().user_pool_client.unwrap();
        let (validity, units) = (before.access_token_validity.unwrap(), before.token_validity_units.unwrap());
        let short = TokenValidityUnitsType::builder().access_token(TimeUnitsType::Seconds);
        let short = short.set_id_token(units.id_token.clone()).set_refresh_token(units.refresh_token.clone()).build();
        set_validity(&stack, 15, short).await;
        person.log_in(&stack).await;
        blocked.log_in(&stack).await;
        set_validity(&stack, validity, units).await;

        let (client, cable) = through_a_cable(&stack).await;
        let follow = async |person: &Person| {
            let credentials = SignedIn { stack: stack.clone(), person: Mutex::new(person.clone()) };
            let subscriptions = vec![Subscription::sessions_of(&person.user_id)];
            Follower::start(client.subscribe(Arc::new(credentials), subscriptions)).await
        };
        let (mut follower, mut out) = (follow(&person).await, follow(&blocked).await);
        let account = "query Account { account { userId } }";
        for old in [token(&person.token), token(&blocked.token)] {
            eventually("the end of the token", || async {
                let answer = stack.graphql(&old, account, &json!({})).await;
                answer.errors.iter().any(GraphQlError::is_unauthorized).then_some(())
            })
            .await;
        }
        let block = json!({ "action": "blockUser", "actor": admin(), "userId": blocked.user_id, "reason": "a test" });
        stack.invoke("AccountService", block).await.unwrap();
        // The API checks tokens when a client connects.
        cable.pull_out();
        cable.plug_in();
        assert!(follower.started().await > 1, "the cut and the refusal of the old token");
        assert_eq!(kind(&out.refused().await), "UnauthorizedException");

        person.log_in(&stack).await;
        let station = stack.station(1).await;
        let session = person.start(&stack, &station).await.must_be(201);
        let session = text(&session, "sessionId").to_owned();
        follower.read("the start", |updates| has(updates, &session, true)).await;
        person.stop(&stack, &session).await.must_be(200);
        for person in [person, blocked] {
            stack.delete_account(&person.user_id).await;
        }
    }

    /// `evoke watch`, without a terminal: it prints a line for each change, and ends with the session.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_command_line_shows_a_session_until_it_ends() {
        let stack = Stack::local().await;
        let evoke = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/evoke");
        let person = Person::register(&stack).await;
        let station = stack.station(1).await;
        let session = person.start(&stack, &station).await.must_be(201);
        let session = text(&session, "sessionId");
        let mut witness = stack.follow(token(&person.token), vec![Subscription::session(session)]).await;
        let watch = |id: &str, token: &str| {
            let mut command = Command::new(evoke);
            command.args(["watch", id]).env("EVOKE_TOKEN", token).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.kill_on_drop(true).spawn().unwrap()
        };
        let watching = watch(session, &person.token);
        // It is connected, or reads the end when it connects.
        stack.tick(&station, minutes_after(&stack.session(session).await, 6)).await.unwrap();
        person.stop(&stack, session).await.must_be(200);
        witness.read("the end", |updates| has(updates, session, false)).await;
        let output = watching.wait_with_output().await.unwrap();
        let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{shown} {errors}");
        let last = shown.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
        assert!(last.contains("10.000 kWh") && last.contains("4.90 EUR INTERRUPTED"), "{shown}");

        let other = Person::register(&stack).await;
        let refused = watch(session, &other.token).wait_with_output().await.unwrap();
        assert!(!refused.status.success());
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert!(errors.contains("ForbiddenError"), "{errors}");
        for person in [person, other] {
            stack.delete_account(&person.user_id).await;
        }
    }
}
