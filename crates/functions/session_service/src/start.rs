//! The start of a session.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::actor::Role;
use domain::charging::session::{UserCheck, Vehicle, balance_allows_least_price};
use domain::error::{Chain, DomainError};
use domain::id::{SessionId, UserId};
use lambda_kit::{Answer, Context, Failure, Request, retry_while_stale};
use store::{LoadedSession, StoreError};
use uuid::Uuid;

use crate::SessionService;
use crate::commands::{NamedVehicle, StartSession};
use crate::prepayment::Prepayment;
use crate::users::Standing;
use crate::view::SessionView;

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

impl SessionService {
    pub(crate) async fn start(&self, command: StartSession, request: &Request) -> Result<Answer, Failure> {
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
