//! The `session_service` Lambda: starts, stops, fails, returns and quotes charging sessions, and ends those of users
//! who were blocked or deleted.

mod commands;
mod config;
mod inbox;
mod prepayment;
mod start;
mod users;
mod view;
mod withdrawal;

use std::time::Instant as Stopwatch;

use chrono::Duration;
use commands::{Basis, FailSession, ListSessions, Quote, SessionRef, StartSession};
use domain::accounts::{Area, Scope};
use domain::charging::session;
use domain::charging::site::{Changes, Site};
use domain::charging::tariff::Bill;
use domain::charging::tariff::{ChargingPeriod, PeriodState, price};
use domain::error::DomainError;
use domain::id::{SessionId, StationId};
use domain::machine::State;
use lambda_kit::events::SqsMessage;
use lambda_kit::{
    Action, Answer, Context, Failure, Function, ListOf, RemoteFunction, Request, Trigger, action, drive_sqs,
    retry_while_stale,
};
use rust_decimal::Decimal;
use serde_json::Value;
use store::{ChargingStore, LoadedSession, LoadedStation, UserStore};

pub use commands::QuoteView;
pub use config::Config;
pub use inbox::Inbox;
use users::Users;
pub use view::SessionView;

/// How many messages of a batch are processed concurrently.
const PARALLEL_MESSAGES: usize = 10;

/// The `session_service` function.
#[derive(Debug)]
pub struct SessionService {
    charging: ChargingStore,
    users: Users,
    billing: RemoteFunction,
    inbox: Inbox,
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
            .creates()
            .mutation(),
        action!("stopSession", SessionRef => SessionView, Self::stop)
            .by("the user of the session; staff")
            .about("Stops a session. The energy delivered up to now is billed.")
            .at("PATCH /sessions/{sessionId}/stop", Scope::write(Area::Sessions))
            .mutation(),
        action!("failSession", FailSession => SessionView, Self::fail)
            .by("TECH_SUPPORT, ADMIN, SYSTEM")
            .about("Fails a session and its port. A FAILED session is not billed.")
            .mutation()
            .scope(Scope::write(Area::Sessions)),
        action!("getSession", SessionRef => SessionView, Self::get)
            .by("the user of the session; staff")
            .about("Returns a session with its energy and cost.")
            .at("GET /sessions/{sessionId}", Scope::read(Area::Sessions))
            .query("session"),
        action!("listSessions", ListSessions => ListOf<SessionView>, Self::list)
            .by("users for their own sessions; staff for any sessions")
            .about(
                "Lists sessions, newest first. Staff must give `userId`, `stationId` or `status`. `changedFrom` and \
                 `changedTo` bound the time at which a session entered its status.",
            )
            .at("GET /sessions", Scope::read(Area::Sessions))
            .query("sessions"),
        action!("quote", Quote => QuoteView, Self::quote)
            .by("anyone")
            .about(
                "Prices a hypothetical session by the tariff of a station, or by a tariff that the request gives. \
                 Exactly one of `stationId` and `tariff` is required; `timeZone` is for `tariff` only.",
            )
            .at("POST /quotes", Scope::read(Area::Sessions))
            .query("quote"),
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

/// The request as the domain defines it.
type Start = session::StartSession;
