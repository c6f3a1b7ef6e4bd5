//! The `session_service` Lambda: starts, stops, fails, returns and quotes charging sessions, and ends those of users
//! who were blocked or deleted.

mod commands;
mod config;
mod inbox;
mod prepayment;
mod users;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant as Stopwatch;

use chrono::Duration;
use commands::{Basis, FailSession, ListSessions, NamedVehicle, Quote, SessionRef, StartSession};
use domain::Instant;
use domain::accounts::{Area, Scope, UserStatus};
use domain::actor::{Actor, Role};
use domain::charging::session::{self, EndReason, Session, UserCheck, Vehicle, balance_allows_least_price};
use domain::charging::site::{Changes, Site};
use domain::charging::tariff::Bill;
use domain::charging::tariff::{ChargingPeriod, PeriodState, price};
use domain::error::{Chain, DomainError};
use domain::event::{Envelope, Event};
use domain::id::{SessionId, StationId, UserId};
use domain::machine::State;
use futures::{StreamExt, stream};
use lambda_kit::events::SqsMessage;
use lambda_kit::{
    Action, Answer, Context, Failure, Function, ListOf, RemoteFunction, Request, Trigger, action, drive_sqs,
    handle_event, retry_while_stale,
};
use rust_decimal::Decimal;
use serde_json::Value;
use store::{ChargingStore, LoadedSession, LoadedStation, PageRequest, SessionFilter, StoreError, UserStore};
use uuid::Uuid;

pub use commands::QuoteView;
pub use config::Config;
pub use inbox::Inbox;
use prepayment::Prepayment;
use users::{Standing, Users};
pub use view::SessionView;

/// How many messages of a batch are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;
/// At how many stations the sessions of a user are ended concurrently.
const PARALLEL_STATIONS: usize = 8;
/// The number of sessions of a user on a page, while the running ones are looked for.
const PAGE: usize = 100;

/// The `session_service` function.
#[derive(Debug)]
pub struct SessionService {
    charging: ChargingStore,
    users: Users,
    billing: RemoteFunction,
    inbox: Inbox,
}

/// A validated request to start a session.
struct Asked<'a> {
    command: &'a StartSession,
    id: &'a SessionId,
    user: &'a UserId,
    vehicle: NamedVehicle<'a>,
    role: Role,
    fingerprint: &'a str,
    prepayment: Prepayment,
    /// Whether the inbox has a check of the user. Then another attempt at the start does not read the user any more.
    check_queued: AtomicBool,
}

/// A change of a user that ends the sessions of the user.
#[derive(Clone, Copy)]
struct Withdrawal<'a> {
    user: &'a UserId,
    at: Instant,
    reason: EndReason,
}

impl Function for SessionService {
    const NAME: &'static str = "session_service";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("startSession", StartSession => SessionView, Self::start)
            .by("users for themselves; staff for any user, by `userId`")
            .about(
                "Starts a session at a FREE port. The same idempotency key gives the same session. Exactly one of \
                 `vehicle` and `vehicleId` is required.",
            )
            .at("POST /sessions", Scope::write(Area::Sessions))
            .creates(),
        action!("stopSession", SessionRef => SessionView, Self::stop)
            .by("the user of the session; staff")
            .about("Stops a session. The energy delivered up to now is billed.")
            .at("PATCH /sessions/{sessionId}/stop", Scope::write(Area::Sessions)),
        action!("failSession", FailSession => SessionView, Self::fail)
            .by("TECH_SUPPORT, ADMIN, SYSTEM")
            .about("Fails a session and its port. A FAILED session is not billed."),
        action!("getSession", SessionRef => SessionView, Self::get)
            .by("the user of the session; staff")
            .about("Returns a session with its energy and cost.")
            .at("GET /sessions/{sessionId}", Scope::read(Area::Sessions)),
        action!("listSessions", ListSessions => ListOf<SessionView>, Self::list)
            .by("users for their own sessions; staff for any sessions")
            .about(
                "Lists sessions, newest first. Staff must give `userId`, `stationId` or `status`. `changedFrom` and \
                 `changedTo` bound the time at which a session entered its status.",
            )
            .at("GET /sessions", Scope::read(Area::Sessions)),
        action!("quote", Quote => QuoteView, Self::quote)
            .by("anyone")
            .about(
                "Prices a hypothetical session by the tariff of a station, or by a tariff that the request gives. \
                 Exactly one of `stationId` and `tariff` is required; `timeZone` is for `tariff` only.",
            )
            .at("POST /quotes", Scope::read(Area::Sessions)),
        action!("republishEnd", SessionRef => SessionView, Self::republish_end)
            .by("staff")
            .about("Publishes the `SESSION_ENDED` event of an ended session again."),
    ];

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Sqs(batch) = trigger else {
            return Err(Failure::invalid("Records", "must be a batch of the charging inbox"));
        };
        let (context, arrived) = (&context, Stopwatch::now());
        let deliver = |message: SqsMessage| async move { self.deliver(&message, arrived, context).await };
        drive_sqs(batch, PARALLEL_MESSAGES, Some(self.inbox.redelivery()), deliver).await
    }
}

impl SessionService {
    /// Creates the function. `billing` holds the money for prepaid sessions; `inbox` has the events and the checks that
    /// end sessions.
    #[must_use]
    pub fn new(charging: ChargingStore, users: UserStore, billing: RemoteFunction, inbox: Inbox) -> Self {
        Self { charging, users: Users::new(users), billing, inbox }
    }

    async fn start(&self, command: StartSession, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let user = command.user(actor)?;
        let vehicle = command.vehicle()?;
        let fingerprint = command.fingerprint();
        let id = match &command.idempotency_key {
            Some(key) => SessionId::for_key(&user, key),
            None => Uuid::now_v7().into(),
        };
        let (role, prepayment) = (actor.role, Prepayment::new());
        let fingerprint = fingerprint.as_str();
        let asked = Asked {
            command: &command,
            id: &id,
            user: &user,
            vehicle,
            role,
            fingerprint,
            prepayment,
            check_queued: AtomicBool::new(false),
        };
        let started = retry_while_stale(|| self.start_or_repeat(&asked, &request.context)).await;
        if started.is_err() {
            self.give_up_prepayment(&asked, &request.context).await;
        }
        let loaded = started?;
        Answer::created(format!("/sessions/{id}"), SessionView::new(&loaded.session, &loaded.terms))
    }

    /// Starts the session, or returns the one that an earlier request with the same idempotency key started.
    async fn start_or_repeat(&self, asked: &Asked<'_>, context: &Context) -> Result<LoadedSession, Failure> {
        if asked.command.idempotency_key.is_none() {
            return self.try_start(asked, context).await;
        }
        if let Some(earlier) = self.charging.sessions.load(asked.id).await? {
            return repeated(earlier, asked.fingerprint);
        }
        let refusal = match self.try_start(asked, context).await {
            Err(failure) if !failure.is_stale() => failure,
            started_or_stale => return started_or_stale,
        };
        // A concurrent repetition of this request may have started the session. Then the refusal is a consequence of
        // the session's own start.
        match self.charging.sessions.load(asked.id).await? {
            Some(earlier) => repeated(earlier, asked.fingerprint),
            None => Err(refusal),
        }
    }

    async fn try_start(&self, asked: &Asked<'_>, context: &Context) -> Result<LoadedSession, Failure> {
        let Asked { command, id, user, vehicle, role, ref prepayment, .. } = *asked;
        let (standing, vehicle, site) = futures::try_join!(
            self.standing(asked, context),
            self.vehicle(user, vehicle),
            self.charging.load_site_for_start(&command.station_id, &command.port_id)
        )?;
        if let Standing::Read(status) = standing {
            status.may_charge(user)?;
        }
        let vehicle = vehicle?;
        let mut site = site.ok_or_else(|| DomainError::not_found("station", &command.station_id))?;
        site.port(&command.port_id)?;
        let mut start = command.start(id.clone(), user.clone(), vehicle, context.correlation_id.clone());
        if start.limits.prepaid {
            // Apply all other rules first, so that no money is held for a session that they refuse.
            site.clone().start(start.clone(), &command.port_id, role, context.now)?;
            let tariff = site.station.tariff()?;
            let most = (tariff.currency, start.limits.max_cost);
            let held = prepayment.hold(&self.billing, (user, id), most, &context.correlation_id).await?;
            balance_allows_least_price(held, tariff, site.station.time_zone, context.now)?;
            start.limits = start.limits.prepaid_by(held);
        }
        let port = site.port(&command.port_id)?.clone();
        let changes = site.start(start, &command.port_id, role, context.now)?;
        if standing == Standing::Remembered {
            self.check_later(asked, context).await?;
        }
        let committed = self.charging.commit(&changes, &context.event_context()).await;
        if matches!(committed, Err(StoreError::Unavailable { .. })) {
            prepayment.unanswered(port);
        }
        committed?;
        let started = changes.started.ok_or_else(|| Failure::internal("a start without a session"))?;
        Ok(LoadedSession { session: started.session, terms: started.terms })
    }

    /// Returns what is known of the user.
    async fn standing(&self, asked: &Asked<'_>, context: &Context) -> Result<Standing, StoreError> {
        if asked.check_queued.load(Ordering::Relaxed) {
            return Ok(Standing::Remembered);
        }
        self.users.standing(asked.user, context.now).await
    }

    /// Queues a check of a user who cannot be read now. Without the check the session must not start.
    async fn check_later(&self, asked: &Asked<'_>, context: &Context) -> Result<(), Failure> {
        if asked.check_queued.load(Ordering::Relaxed) {
            return Ok(());
        }
        let check = UserCheck {
            user_id: asked.user.clone(),
            session_id: asked.id.clone(),
            started_at: context.now,
            correlation_id: context.correlation_id.clone(),
        };
        self.inbox.check_later(&check).await?;
        asked.check_queued.store(true, Ordering::Relaxed);
        tracing::warn!(session.id = %asked.id, "a session starts whose user cannot be read now and is checked later");
        Ok(())
    }

    /// Returns the vehicle that charges. The inner error says that the user has no such vehicle.
    async fn vehicle(
        &self,
        user: &UserId,
        named: NamedVehicle<'_>,
    ) -> Result<Result<Vehicle, DomainError>, StoreError> {
        let id = match named {
            NamedVehicle::Described(vehicle) => return Ok(Ok(vehicle)),
            NamedVehicle::Saved(id) => id,
        };
        let saved = self.users.vehicle(user, id).await?;
        let missing = || DomainError::not_found(&format!("vehicle of user {user} named"), id);
        Ok(saved.map(|saved| charging_vehicle(&saved)).ok_or_else(missing))
    }

    /// Releases the money that is held for a session whose start was refused.
    ///
    /// If the session exists, it keeps the hold: a repetition of the request started it, or this request did without
    /// learning of it. If this cannot be determined, the hold lasts until it expires.
    async fn give_up_prepayment(&self, asked: &Asked<'_>, context: &Context) {
        if !asked.prepayment.may_hold() {
            return;
        }
        if let Err(error) = asked.prepayment.rule_out_late_start(&self.charging.stations).await {
            let error = Chain(&error);
            tracing::warn!(session.id = %asked.id, %error, "funds are held: the session may still start");
            return;
        }
        if matches!(self.charging.sessions.load(asked.id).await, Ok(None)) {
            asked.prepayment.give_up(&self.billing, (asked.user, asked.id), &context.correlation_id).await;
        }
    }

    async fn stop(&self, SessionRef { session_id }: SessionRef, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let stopped = retry_while_stale(|| async {
            let loaded = self.load(&session_id).await?;
            loaded.session.may_stop(actor)?;
            self.end(loaded, |site| site.stop(&session_id, actor, request.context.now), &request.context).await
        });
        let ended = stopped.await?;
        Answer::ok(SessionView::new(&ended.session, &ended.terms))
    }

    async fn fail(
        &self,
        FailSession { session_id, reason }: FailSession,
        request: &Request,
    ) -> Result<Answer, Failure> {
        let role = request.actor()?.role;
        let reason = reason.as_deref().unwrap_or("its session was failed by an operator");
        let failed = retry_while_stale(|| async {
            let loaded = self.load(&session_id).await?;
            loaded.session.may_fail(role)?;
            let fail = |site: &mut Site| site.fail_session(&session_id, reason, role, request.context.now);
            self.end(loaded, fail, &request.context).await
        });
        let ended = failed.await?;
        Answer::ok(SessionView::new(&ended.session, &ended.terms))
    }

    /// Ends a running session as `decide` says, commits the changes at its site, and returns the ended session.
    async fn end(
        &self,
        running: LoadedSession,
        decide: impl FnOnce(&mut Site) -> Result<Changes, DomainError>,
        context: &Context,
    ) -> Result<LoadedSession, Failure> {
        let LoadedSession { session, terms } = running;
        let ends_now = || Failure::stale("the session ends at this moment");
        let mut site = self.charging.load_site(&session.station_id).await?.ok_or_else(ends_now)?;
        if !site.runs(&session.id) {
            return Err(ends_now());
        }
        site.know_terms(session.id.clone(), terms.clone());
        let changes = decide(&mut site)?;
        self.charging.commit(&changes, &context.event_context()).await?;
        let ended = changes.ended(&session.id).ok_or_else(|| Failure::internal("an end without a session"))?;
        Ok(LoadedSession { session: ended.clone(), terms })
    }

    /// Handles a message of the inbox: a check or an event.
    async fn deliver(&self, message: &SqsMessage, arrived: Stopwatch, context: &Context) -> Result<(), Failure> {
        if let Some(check) = UserCheck::in_message(message.body.as_deref().unwrap_or_default()) {
            return self.check(&check, context).await;
        }
        let receive = |envelope: Envelope| async move { self.receive(&envelope, context).await };
        handle_event(Self::NAME, message, context, arrived, receive).await
    }

    /// Interrupts a session that started while its user could not be read, if the user may not charge.
    async fn check(&self, check: &UserCheck, context: &Context) -> Result<(), Failure> {
        let status = self.users.status(&check.user_id, context.now).await?;
        if status.may_charge(&check.user_id).is_ok() {
            return Ok(());
        }
        let reason = if status == UserStatus::Blocked { EndReason::UserBlocked } else { EndReason::UserDeleted };
        // The start may have failed after the check was queued. A repetition of the request starts the session at
        // another time: it has read the user, or has queued a check of its own.
        let loaded = self.charging.sessions.load(&check.session_id).await?;
        if loaded.is_none_or(|loaded| loaded.session.started_at != check.started_at) {
            return Ok(());
        }
        let context = Context { correlation_id: check.correlation_id.clone(), ..context.clone() };
        self.interrupt(&check.session_id, reason, &context).await
    }

    /// Handles an event of the inbox.
    async fn receive(&self, envelope: &Envelope, context: &Context) -> Result<(), Failure> {
        let withdrawal = match &envelope.event {
            Event::UserBlocked(blocked) => {
                Withdrawal { user: &blocked.user_id, at: blocked.blocked_at, reason: EndReason::UserBlocked }
            }
            Event::UserDeleted(deleted) => {
                Withdrawal { user: &deleted.user_id, at: deleted.deleted_at, reason: EndReason::UserDeleted }
            }
            _ => return Err(Failure::invalid("eventType", "must be USER_BLOCKED or USER_DELETED")),
        };
        self.users.forget(withdrawal.user);
        if matches!(&envelope.event, Event::UserBlocked(blocked) if !blocked.end_sessions) {
            return Ok(());
        }
        // The events of the sessions carry the correlation id of this event, not that of this invocation.
        let context = Context { correlation_id: envelope.correlation_id.clone(), ..context.clone() };
        self.end_sessions(withdrawal, &context).await?;
        // A start that read the user before the change may still be under way.
        self.inbox.look_again(envelope, withdrawal.at, context.now).await
    }

    /// Interrupts the running sessions of a user. If one cannot be ended, the others are ended nevertheless.
    async fn end_sessions(&self, withdrawal: Withdrawal<'_>, context: &Context) -> Result<(), Failure> {
        let Withdrawal { user, at, reason } = withdrawal;
        let of_user = SessionFilter::User(user.clone());
        let mut page = PageRequest { limit: PAGE, next_token: None };
        let mut outcome = Ok(());
        loop {
            let found = self.charging.sessions.list(&of_user, &page, |session| session.status.is_active()).await?;
            let mut running = found.items;
            if running.iter().any(|session| session.started_at > at) {
                // The status must be read after the sessions: of a user who still may not charge then, every session
                // that was found started before the change took effect.
                let may_charge = self.users.status(user, context.now).await?.may_charge(user).is_ok();
                running.retain(|session| !may_charge || session.started_at <= at);
            }
            outcome = outcome.and(self.interrupt_all(&running, reason, context).await);
            page.next_token = found.next_token;
            if page.next_token.is_none() {
                return outcome;
            }
        }
    }

    /// Interrupts sessions: at several stations concurrently, and one after the other at each of them, because these
    /// change the same items.
    async fn interrupt_all(&self, running: &[Session], reason: EndReason, context: &Context) -> Result<(), Failure> {
        let mut by_station: BTreeMap<&StationId, Vec<&SessionId>> = BTreeMap::new();
        for session in running {
            by_station.entry(&session.station_id).or_default().push(&session.id);
        }
        let at_stations: Vec<_> =
            by_station.into_values().map(|sessions| self.interrupt_each(sessions, reason, context)).collect();
        let outcomes: Vec<Result<(), Failure>> =
            stream::iter(at_stations).buffer_unordered(PARALLEL_STATIONS).collect().await;
        outcomes.into_iter().collect()
    }

    async fn interrupt_each(
        &self,
        sessions: Vec<&SessionId>,
        reason: EndReason,
        context: &Context,
    ) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for id in sessions {
            outcome = outcome.and(self.interrupt(id, reason, context).await);
        }
        outcome
    }

    /// Interrupts a session whose user may not charge any more, unless it has ended.
    async fn interrupt(&self, id: &SessionId, reason: EndReason, context: &Context) -> Result<(), Failure> {
        let actor = Actor::system();
        let interrupted = retry_while_stale(|| async {
            let loaded = self.load(id).await?;
            if !loaded.session.status.is_active() {
                return Ok(());
            }
            let interrupt = |site: &mut Site| site.interrupt(id, reason, &actor, context.now);
            self.end(loaded, interrupt, context).await.map(|_| ())
        });
        interrupted.await.inspect_err(|failure| {
            let cause = failure.cause();
            tracing::warn!(session.id = %id, error = %failure, cause, "a session goes on whose user may not charge");
        })
    }

    async fn get(&self, SessionRef { session_id }: SessionRef, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let LoadedSession { session, terms } = self.load(&session_id).await?;
        session.may_see(actor)?;
        Answer::ok(SessionView::new(&session, &terms))
    }

    /// Publishes the `SESSION_ENDED` event of a session again, under the id by which its consumers recognise it.
    ///
    /// This repairs an event that was lost on the way. `billing_audit` finds such losses.
    async fn republish_end(&self, SessionRef { session_id }: SessionRef, request: &Request) -> Result<Answer, Failure> {
        if !request.actor()?.role.is_staff() {
            return Err(DomainError::Forbidden("republishing is for roles TECH_SUPPORT and ADMIN".to_owned()).into());
        }
        let LoadedSession { session, terms } = self.load(&session_id).await?;
        if session.status.is_active() {
            let message = format!("session {session_id} has not ended: it is {}", session.status.name());
            return Err(DomainError::conflict(message).into());
        }
        self.charging.sessions.relay_again(&session, request.context.now).await?;
        let by = request.actor()?.user_id.as_str();
        tracing::info!(session.id = session_id.as_str(), actor.id = by, "the end was republished");
        Answer::ok(SessionView::new(&session, &terms))
    }

    async fn list(&self, command: ListSessions, request: &Request) -> Result<Answer, Failure> {
        let filter = command.filter(request.actor()?)?;
        let page = command.page.clone().into();
        let page = self.charging.sessions.list_loaded(&filter, &page, |session| command.keeps(session)).await?;
        Answer::page(page, |LoadedSession { session, terms }| SessionView::new(&session, &terms))
    }

    async fn quote(&self, command: Quote, request: &Request) -> Result<Answer, Failure> {
        let station;
        let (tariff, time_zone) = match command.basis()? {
            Basis::Station(id) => {
                station = self.station(id).await?.station;
                (station.tariff()?, station.time_zone)
            }
            Basis::Tariff(tariff, time_zone) => (tariff, time_zone),
        };
        let start = command.start_at.unwrap_or(request.context.now);
        let period = ChargingPeriod {
            start,
            end: start + Duration::milliseconds(command.milliseconds()),
            state: PeriodState::Charging,
            kwh: Decimal::try_from(command.energy_kwh).unwrap_or_default().round_dp(3),
            power_kw: None,
            current_a: None,
        };
        let bill = Bill::new(&price(tariff, time_zone, &[period]), tariff.currency);
        Answer::ok(QuoteView::new(&command, start, bill))
    }

    async fn load(&self, id: &SessionId) -> Result<LoadedSession, Failure> {
        let loaded = self.charging.sessions.load(id).await?;
        Ok(loaded.ok_or_else(|| DomainError::not_found("session", id))?)
    }

    async fn station(&self, id: &StationId) -> Result<LoadedStation, Failure> {
        let loaded = self.charging.stations.load(id).await?;
        Ok(loaded.ok_or_else(|| DomainError::not_found("station", id))?)
    }
}

/// Returns the current state of the session that an earlier identical request started.
fn repeated(earlier: LoadedSession, fingerprint: &str) -> Result<LoadedSession, Failure> {
    if earlier.terms.request_fingerprint == fingerprint {
        return Ok(earlier);
    }
    Err(DomainError::conflict(format!(
        "this idempotency key started session {} with another request: use a new key for a new request",
        earlier.session.id
    ))
    .into())
}

/// Returns what charging needs to know of a saved vehicle.
fn charging_vehicle(saved: &domain::accounts::Vehicle) -> Vehicle {
    Vehicle { battery_capacity_kwh: saved.battery_capacity_kwh, max_power_kw: saved.max_power_kw }
}

/// The request as the domain defines it.
type Start = session::StartSession;
