use domain::event::{self, Event};

use crate::EventContext;
use crate::error::StoreError;

/// Returns the events of a write as the attribute that the streams carry, or `None` if there are no events.
pub(crate) fn outbox(
    pk: &str,
    sk: &str,
    version: u64,
    events: impl IntoIterator<Item = impl Into<Event>>,
    context: &EventContext,
) -> Result<Option<String>, StoreError> {
    let item = format!("{pk}/{sk}");
    let envelopes = event::seal(&item, version, context.now, &context.correlation_id, events);
    if envelopes.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&envelopes).map(Some).map_err(|error| StoreError::corrupt(item, error))
}
