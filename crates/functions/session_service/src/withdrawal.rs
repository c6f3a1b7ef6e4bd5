//! The end of the sessions of users who were blocked or deleted.

use std::collections::BTreeMap;
use std::time::Instant as Stopwatch;

use domain::Instant;
use domain::accounts::UserStatus;
use domain::actor::Actor;
use domain::charging::session::{EndReason, Session, UserCheck};
use domain::charging::site::Site;
use domain::event::{Envelope, Event};
use domain::id::{SessionId, StationId, UserId};
use futures::{StreamExt, stream};
use lambda_kit::events::SqsMessage;
use lambda_kit::{Context, Failure, Function, handle_event, retry_while_stale};
use store::{PageRequest, SessionFilter};

use crate::SessionService;

/// At how many stations the sessions of a user are ended concurrently.
const PARALLEL_STATIONS: usize = 8;
/// The number of sessions of a user on a page, while the running ones are looked for.
const PAGE: usize = 100;

/// A change of a user that ends the sessions of the user.
#[derive(Clone, Copy)]
struct Withdrawal<'a> {
    user: &'a UserId,
    at: Instant,
    reason: EndReason,
}

impl SessionService {
    /// Handles a message of the inbox: a check or an event.
    pub(crate) async fn deliver(
        &self,
        message: &SqsMessage,
        arrived: Stopwatch,
        context: &Context,
    ) -> Result<(), Failure> {
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
}
