//! The GraphQL API of the deployed stack.

use std::sync::Arc;
use std::time::Duration;

use appsync::{Answer, Authorization, Credentials, Event, GraphQlError, Live, Subscription, Update};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{PATIENCE, Stack, eventually};

/// Returns the authorization of a user with an access token.
#[must_use]
pub fn token(token: &str) -> Authorization {
    Authorization::Token(token.to_owned())
}

impl Stack {
    /// Returns the authorization for the fields that need no user.
    #[must_use]
    pub fn api_key(&self) -> Authorization {
        Authorization::ApiKey(self.output("ApiKey").to_owned())
    }

    /// Executes a GraphQL document. A request that was throttled has changed nothing, and is sent again.
    pub async fn graphql(&self, who: &Authorization, document: &str, variables: &Value) -> Answer {
        eventually("an answer that is not throttled", || async {
            let answer = self.appsync.execute(who, document, variables).await.unwrap();
            let mut kinds = answer.errors.iter().map(|error| error.error_type.as_deref());
            let is_throttled = kinds.any(|kind| kind == Some("TooManyRequestsError"));
            (!is_throttled).then_some(answer)
        })
        .await
    }

    /// Follows subscriptions from now on.
    pub async fn follow(&self, who: impl Credentials + 'static, subscriptions: Vec<Subscription>) -> Follower {
        Follower::start(self.appsync.subscribe(Arc::new(who), subscriptions)).await
    }

    /// Returns the errors with which the API refuses a subscription.
    pub async fn refusal(&self, who: &Authorization, subscription: Subscription) -> Vec<GraphQlError> {
        let mut live: Live<Value> = self.appsync.subscribe(Arc::new(who.clone()), vec![subscription]);
        let refused = async {
            loop {
                match live.next().await.expect("an event") {
                    Event::Refused(errors) => return errors,
                    // The client asks in vain for another authorization.
                    Event::Interrupted(_) => {}
                    event => panic!("not refused: {event:?}"),
                }
            }
        };
        timeout(PATIENCE, refused).await.expect("the subscription is neither refused nor in effect")
    }
}

/// Somebody who gets updates, and keeps all of them.
#[derive(Debug)]
pub struct Follower {
    live: Live<Update>,
    updates: Vec<Update>,
}

impl Follower {
    /// Waits until all subscriptions are in effect.
    pub async fn start(live: Live<Update>) -> Self {
        let mut follower = Self { live, updates: Vec::new() };
        follower.started().await;
        follower
    }

    /// Waits until all subscriptions are in effect, again if the connection was interrupted. Returns how often it was.
    pub async fn started(&mut self) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        let mut interruptions = 0;
        loop {
            match timeout_at(deadline, self.live.next()).await.expect("the subscriptions are not in effect") {
                Some(Event::Started) => return interruptions,
                Some(Event::Interrupted(_)) => interruptions += 1,
                Some(Event::Update(update)) => self.updates.push(update),
                event => panic!("the subscription has ended: {event:?}"),
            }
        }
    }

    /// Waits until `enough` accepts the updates of this follower, and returns them.
    pub async fn read(&mut self, what: &str, enough: impl Fn(&[Update]) -> bool) -> &[Update] {
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.updates) {
            let event = timeout_at(deadline, self.live.next()).await;
            let event = event.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}: {:?}", self.updates));
            match event {
                Some(Event::Update(update)) => self.updates.push(update),
                event => panic!("{what}: {event:?}"),
            }
        }
        &self.updates
    }

    /// Returns all updates, also those that arrive within this time.
    pub async fn all_within(&mut self, time: Duration) -> &[Update] {
        let end = Instant::now() + time;
        while let Ok(Some(event)) = timeout_at(end, self.live.next()).await {
            match event {
                Event::Update(update) => self.updates.push(update),
                event => panic!("{event:?}"),
            }
        }
        &self.updates
    }

    /// Waits until the API has ended the subscriptions, and returns its errors.
    pub async fn refused(&mut self) -> Vec<GraphQlError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.live.next()).await.expect("the subscription goes on") {
                Some(Event::Refused(errors)) => return errors,
                Some(Event::Interrupted(_) | Event::Update(_)) => {}
                event => panic!("{event:?}"),
            }
        }
    }
}
