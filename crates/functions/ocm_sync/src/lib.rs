//! Mirrors OpenChargeMap: asks what has changed, writes what is new, and nothing else.
//!
//! Records are fetched in pages in the order of their ids, parsed as they arrive, and compared by hash with a manifest
//! of what the mirror has. A run that ends early, however it ends, is gone on with by the next.

mod elements;
mod source;
mod sync;

use domain::poi::OcmSyncCompleted;
use lambda_kit::{Action, Answer, Context, Failure, Function, Request, Trigger, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::PoiStore;

pub use elements::{Elements, NotAnArray};
pub use source::{ApiKey, Source, SourceError};
pub use sync::Outcome;

/// What is to be synchronised.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Synchronise {
    /// Every record, and so also which are gone; otherwise those that have changed.
    #[serde(default)]
    pub full: bool,
    /// Whether a sweep may remove more than a twentieth of the mirror.
    #[serde(default)]
    pub allow_removals: bool,
}

/// What became of it: the payload of `OCM_SYNC_COMPLETED`, which is published where something was written, and how it
/// ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SyncAnswer {
    /// The payload.
    #[serde(flatten)]
    pub event: OcmSyncCompleted,
    /// How it ended.
    pub outcome: Outcome,
}

/// The function.
#[derive(Debug)]
pub struct OcmSync {
    store: PoiStore,
    source: Source,
}

impl Function for OcmSync {
    const NAME: &'static str = "ocm_sync";
    const ACTIONS: &'static [Action<Self>] = &[action!("sync", Synchronise => SyncAnswer, Self::handle_sync)
        .by("whoever may invoke ocm_sync")
        .about("Brings the OpenChargeMap mirror up to date.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("sync");

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Event(_) = trigger else {
            return Err(Failure::invalid("payload", "must be a scheduled event"));
        };
        Ok(Answer::ok(self.synchronise(&Synchronise::default(), &context).await?)?.body)
    }
}

impl OcmSync {
    /// From this source into this store.
    #[must_use]
    pub fn new(store: PoiStore, source: Source) -> Self {
        Self { store, source }
    }

    async fn handle_sync(&self, command: Synchronise, request: &Request) -> Result<Answer, Failure> {
        Answer::ok(self.synchronise(&command, &request.context).await?)
    }

    /// Brings the mirror up to date, as far as the invocation's time allows.
    ///
    /// # Errors
    /// Unavailable when the source or the table cannot be reached, or the key is refused; a conflict when the source
    /// lacks so much that it is more likely to be broken than right.
    pub async fn synchronise(&self, command: &Synchronise, context: &Context) -> Result<SyncAnswer, Failure> {
        let answer = sync::synchronise(&self.store, &self.source, command, context).await?;
        let OcmSyncCompleted { processed, updated, removed, failed, .. } = &answer.event;
        tracing::info!(outcome = ?answer.outcome, processed, updated, removed, failed, "the synchronisation ended");
        if matches!(answer.outcome, Outcome::Completed | Outcome::Unchanged) {
            metrics::counter!("OcmSyncs").increment(1);
        }
        Ok(answer)
    }
}
