//! The `ocm_sync` Lambda: mirrors OpenChargeMap. It asks for what has changed, and writes only what is new.
//!
//! It fetches records in pages, ordered by id, parses them as they arrive, and compares the hash of each with a
//! manifest of what the mirror contains. If a run stops early for any reason, the next run resumes it.

mod config;
mod elements;
mod source;
mod sync;

use domain::poi::OcmSyncCompleted;
use lambda_kit::{Action, Answer, Context, Failure, Function, Request, Trigger, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::PoiStore;

pub use config::Config;
pub use elements::{Elements, NotAnArray};
pub use source::{ApiKey, Source, SourceError};
pub use sync::Outcome;

/// Arguments of a synchronisation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Synchronise {
    /// Whether to fetch all records (a sweep), which also finds records that are gone from the source. The default is
    /// false: fetch only records that have changed.
    #[serde(default)]
    pub full: bool,
    /// Whether a sweep may remove more than five percent of the mirror. The default is false.
    #[serde(default)]
    pub allow_removals: bool,
}

/// The result of a synchronisation: its outcome, and the payload of the event `OCM_SYNC_COMPLETED`. The event itself is
/// published only if something was written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SyncAnswer {
    /// The payload of the event `OCM_SYNC_COMPLETED`.
    #[serde(flatten)]
    pub event: OcmSyncCompleted,
    /// How the invocation ended.
    pub outcome: Outcome,
}

/// The `ocm_sync` function.
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
    /// Creates a function that mirrors `source` into `store`.
    #[must_use]
    pub fn new(store: PoiStore, source: Source) -> Self {
        Self { store, source }
    }

    async fn handle_sync(&self, command: Synchronise, request: &Request) -> Result<Answer, Failure> {
        Answer::ok(self.synchronise(&command, &request.context).await?)
    }

    /// Brings the mirror up to date as far as the time of the invocation allows.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the source or the table cannot be reached, or the
    /// source refuses the API key. [`Code::Conflict`](lambda_kit::Code::Conflict) when so many records are missing from
    /// the source that it is more likely to be broken than right.
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
