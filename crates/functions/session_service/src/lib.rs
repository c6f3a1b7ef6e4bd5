//! Charging sessions: start, stop, fail, read, quote.

mod commands;
mod view;

use chrono::Duration;
use commands::{FailSession, ListSessions, Quote, SessionRef, StartSession};
use domain::actor::Role;
use domain::bill::Bill;
use domain::error::DomainError;
use domain::id::{SessionId, StationId, UserId};
use domain::machine::State;
use domain::money::Currency;
use domain::session::{self, EndReason, Session, SessionStatus, SessionTerms, advance_station};
use domain::tariff::{ChargingPeriod, PeriodState, price};
use lambda_kit::{Answer, Context, Failure, Function, Peer, Request, Route, RouteAction, decide};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;
use store::{ChargingStore, LoadedSession, LoadedStation, StoreError, UserStore};
use uuid::Uuid;

pub use view::{QuoteView, SessionView};

const ACTIONS: [&str; 7] =
    ["startSession", "stopSession", "failSession", "getSession", "listSessions", "quote", "republishEnd"];

/// The function.
#[derive(Debug)]
pub struct SessionService {
    charging: ChargingStore,
    users: UserStore,
    billing: Peer,
}

/// What a wallet holds, as billing answers it.
#[derive(Debug, Deserialize)]
struct Wallet {
    balance: Decimal,
    currency: Currency,
}

/// A request for a session, as far as it has been understood.
struct Asked<'a> {
    command: &'a StartSession,
    id: &'a SessionId,
    user: &'a UserId,
    role: Role,
    fingerprint: &'a str,
}

impl Function for SessionService {
    const NAME: &'static str = "session_service";
    const ROUTES: &'static [Route] = &[
        Route::new::<StartSession>("POST /sessions", RouteAction::Is("startSession")),
        Route::new::<ListSessions>("GET /sessions", RouteAction::Is("listSessions")),
        Route::new::<SessionRef>("GET /sessions/{sessionId}", RouteAction::Is("getSession")),
        Route::new::<SessionRef>("PATCH /sessions/{sessionId}/stop", RouteAction::Is("stopSession")),
        Route::new::<Quote>("POST /quotes", RouteAction::Is("quote")),
    ];

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "startSession" => self.start(&request).await,
            "stopSession" => self.stop(&request).await,
            "failSession" => self.fail(&request).await,
            "getSession" => self.get(&request).await,
            "listSessions" => self.list(&request).await,
            "quote" => self.quote(&request).await,
            "republishEnd" => self.republish_end(&request).await,
            _ => Err(request.unknown_action(&ACTIONS)),
        }
    }
}

impl SessionService {
    /// Over these tables; `billing` is asked what a prepaying user's wallet holds.
    #[must_use]
    pub fn new(charging: ChargingStore, users: UserStore, billing: Peer) -> Self {
        Self { charging, users, billing }
    }

    async fn start(&self, request: &Request) -> Result<Answer, Failure> {
        let command: StartSession = request.command()?;
        let actor = request.actor()?;
        let user = command.user(actor)?;
        let fingerprint = command.fingerprint();
        let id = match &command.idempotency_key {
            Some(key) => SessionId::for_key(&user, key),
            None => Uuid::now_v7().into(),
        };
        let asked = Asked { command: &command, id: &id, user: &user, role: actor.role, fingerprint: &fingerprint };
        let loaded = decide(|| self.start_or_repeat(&asked, &request.context)).await?;
        Answer::created(format!("/sessions/{id}"), SessionView::new(&loaded.session, &loaded.terms))
    }

    /// Starts the session, or finds the one that the same idempotency key started before.
    async fn start_or_repeat(&self, asked: &Asked<'_>, context: &Context) -> Result<LoadedSession, Failure> {
        if asked.command.idempotency_key.is_none() {
            return self.try_start(asked, context).await;
        }
        if let Some(earlier) = self.charging.sessions.load(asked.id).await? {
            return repeated(earlier, asked.fingerprint);
        }
        let refusal = match self.try_start(asked, context).await {
            Err(failure) if !failure.stale => failure,
            started_or_stale => return started_or_stale,
        };
        // The refusal may be this very session's doing, started by a repetition of this request meanwhile.
        match self.charging.sessions.load(asked.id).await? {
            Some(earlier) => repeated(earlier, asked.fingerprint),
            None => Err(refusal),
        }
    }

    async fn try_start(&self, asked: &Asked<'_>, context: &Context) -> Result<LoadedSession, Failure> {
        let Asked { command, id, user, role, fingerprint } = *asked;
        let (status, loaded) =
            futures::try_join!(self.users.status(user), self.charging.stations.load(&command.station_id))?;
        status.may_charge(user)?;
        let LoadedStation { mut station, ports } =
            loaded.ok_or_else(|| DomainError::not_found("station", &command.station_id))?;
        let port = ports.into_iter().find(|port| port.id == command.port_id);
        let mut port = port.ok_or_else(|| {
            DomainError::not_found(&format!("port at station {} named", station.id), &command.port_id)
        })?;
        let tariff = station.tariff.clone();
        let tariff = tariff.ok_or_else(|| DomainError::conflict(format!("station {} has no tariff", station.id)))?;
        let mut start = command.start(id.clone(), user.clone());
        if start.limits.prepaid {
            let wallet = self.wallet(user, context).await?;
            start.limits = start.limits.prepaid_by(wallet.balance, wallet.currency, tariff.currency)?;
        }
        let (session, event) = Session::start(start, &mut station, &mut port, role, context.now)?;
        let terms = SessionTerms {
            tariff,
            time_zone: station.time_zone,
            vehicle: command.vehicle,
            request_fingerprint: fingerprint.to_owned(),
            correlation_id: context.correlation_id.clone(),
        };
        self.charging.start((&session, &terms), (&station, &port), event, &context.trace()).await?;
        Ok(LoadedSession { session, terms })
    }

    async fn wallet(&self, user: &UserId, context: &Context) -> Result<Wallet, Failure> {
        let answer = self.billing.command("getWallet", json!({ "userId": user }), &context.correlation_id).await?;
        serde_json::from_value(answer).map_err(Failure::internal)
    }

    async fn stop(&self, request: &Request) -> Result<Answer, Failure> {
        let SessionRef { session_id } = request.command()?;
        let actor = request.actor()?;
        let reason = if actor.role == Role::User { EndReason::StoppedByUser } else { EndReason::StoppedByOperator };
        let stopped = decide(|| async {
            let loaded = self.load(&session_id).await?;
            loaded.session.may_stop(actor)?;
            Ok(self.settle(loaded, reason, &request.context).await?)
        });
        let ended = stopped.await?;
        Answer::ok(SessionView::new(&ended.session, &ended.terms))
    }

    /// Ends a session now, with the energy delivered up to now, which may show that it had reached its end before.
    ///
    /// Whoever charges beside it is brought up to this instant first: until now, the station's power was shared.
    async fn settle(
        &self,
        loaded: LoadedSession,
        reason: EndReason,
        context: &Context,
    ) -> Result<LoadedSession, StoreError> {
        let LoadedSession { session, terms } = loaded;
        let read_version = session.version;
        let until = context.now.max(session.metered_at);
        let station = self.charging.stations.load(&session.station_id).await?;
        let others = match &station {
            Some(station) => self.charging.running_at(station).await?,
            None => Vec::new(),
        };
        let others: Vec<Session> = others.into_iter().filter(|other| other.id != session.id).collect();
        let mut all = vec![session];
        all.extend(others.iter().cloned());
        let mut costs = self.charging.cost_terms(&others).await?;
        costs.insert(all[0].id.clone(), terms.clone());
        let outcomes = advance_station(&mut all, until, |session| costs.get(&session.id));
        self.charging.save_others(&all[1..], &outcomes[1..]).await?;
        let mut session = all.swap_remove(0);
        if outcomes[0].ended.is_none() {
            session.end(SessionStatus::Interrupted, reason);
        }
        session.version = read_version + 1;
        self.charging.end((&session, &terms), read_version, &context.correlation_id).await?;
        Ok(LoadedSession { session, terms })
    }

    async fn fail(&self, request: &Request) -> Result<Answer, Failure> {
        let command: FailSession = request.command()?;
        let role = request.actor()?.role;
        let reason = command.reason.as_deref().unwrap_or("its session was failed by an operator");
        let failed = decide(|| async {
            let loaded = self.load(&command.session_id).await?;
            loaded.session.may_fail(role)?;
            self.try_fail(loaded, reason, role, &request.context).await
        });
        let ended = failed.await?;
        Answer::ok(SessionView::new(&ended.session, &ended.terms))
    }

    async fn try_fail(
        &self,
        loaded: LoadedSession,
        reason: &str,
        role: Role,
        context: &Context,
    ) -> Result<LoadedSession, Failure> {
        let LoadedSession { mut session, terms } = loaded;
        let station = self.station(&session.station_id).await?;
        let port = station.ports.into_iter().find(|port| port.id == session.port_id);
        let mut port = port.ok_or_else(|| DomainError::conflict("the session's port is gone"))?;
        let event = port.fail(reason, role)?;
        let read_version = session.version;
        session.end(SessionStatus::Failed, EndReason::Error);
        session.version += 1;
        self.charging.fail((&session, &terms), read_version, (&port, event), &context.trace()).await?;
        Ok(LoadedSession { session, terms })
    }

    async fn get(&self, request: &Request) -> Result<Answer, Failure> {
        let SessionRef { session_id } = request.command()?;
        let actor = request.actor()?;
        let LoadedSession { session, terms } = self.load(&session_id).await?;
        session.may_see(actor)?;
        Answer::ok(SessionView::new(&session, &terms))
    }

    /// Sends the end of a session to its consumers again, which know it by its id: the remedy for an end that was lost
    /// on the way, which `billing_audit` finds.
    async fn republish_end(&self, request: &Request) -> Result<Answer, Failure> {
        let SessionRef { session_id } = request.command()?;
        if !request.actor()?.role.is_staff() {
            return Err(DomainError::Forbidden("republishing is for roles TECH_SUPPORT and ADMIN".to_owned()).into());
        }
        let LoadedSession { session, terms } = self.load(&session_id).await?;
        if session.status.is_active() {
            let message = format!("session {session_id} has not ended: it is {}", session.status.name());
            return Err(DomainError::conflict(message).into());
        }
        self.charging.sessions.relay_again(&session, request.context.now).await?;
        Answer::ok(SessionView::new(&session, &terms))
    }

    async fn list(&self, request: &Request) -> Result<Answer, Failure> {
        let command: ListSessions = request.command()?;
        let filter = command.filter(request.actor()?)?;
        let page = command.page.clone().into();
        let page = self.charging.sessions.list(&filter, &page, |session| command.keeps(session)).await?;
        let terms = futures::future::try_join_all(
            page.items.iter().map(|session| self.charging.sessions.load_terms(&session.id)),
        )
        .await?;
        let views: Vec<SessionView> =
            page.items.iter().zip(&terms).map(|(session, terms)| SessionView::new(session, terms)).collect();
        Answer::page(store::Page { items: views, next_token: page.next_token }, |view| view)
    }

    async fn quote(&self, request: &Request) -> Result<Answer, Failure> {
        let command: Quote = request.command()?;
        let station = self.station(&command.station_id).await?.station;
        let tariff = station
            .tariff
            .ok_or_else(|| DomainError::conflict(format!("station {} has no tariff to quote by", station.id)))?;
        let start = command.start_at.unwrap_or(request.context.now);
        let period = ChargingPeriod {
            start,
            end: start + Duration::milliseconds(command.milliseconds()),
            state: PeriodState::Charging,
            kwh: Decimal::try_from(command.energy_kwh).unwrap_or_default().round_dp(3),
            power_kw: None,
            current_a: None,
        };
        let bill = Bill::new(&price(&tariff, station.time_zone, &[period]), tariff.currency);
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

/// The session that a repeated request started, as it is now.
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

/// What the rules call the request.
type Start = session::StartSession;
