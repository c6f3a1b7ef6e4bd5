//! The tasks of an audit, one page each. The queue of tasks is all that one invocation passes to the next.

use chrono::TimeDelta;
use domain::Instant;
use domain::billing::InvoiceStatus;
use domain::charging::session::SessionStatus;
use lambda_kit::Failure;
use serde::{Deserialize, Serialize};

use crate::ledger::LedgerCheck;

/// The number of slices into which the window is divided. Their pages are read concurrently.
const SLICES: i32 = 8;
/// The minimum length of a slice. Shorter slices are not worth separate pages.
const SHORTEST_SLICE: TimeDelta = TimeDelta::minutes(1);

/// A page to audit. `token` is the token of the previous page, or `None` for the first page.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "camelCase")]
pub enum Task {
    /// Sessions that ended within a slice of the window.
    Sessions { status: SessionStatus, from: Instant, to: Instant, token: Option<String> },
    /// Invoices that were issued within a slice of the window.
    Invoices { status: InvoiceStatus, from: Instant, to: Instant, token: Option<String> },
    /// Wallets. The window does not apply to them.
    Wallets { token: Option<String> },
    /// The ledger of one wallet.
    Ledger { check: LedgerCheck, token: Option<String> },
}

/// The queue of tasks. The next task is the last element.
#[derive(Debug)]
pub struct Tasks(Vec<Task>);

impl Tasks {
    /// Creates all tasks for an audit of the window.
    pub fn of(from: Instant, to: Instant) -> Self {
        let mut tasks = vec![Task::Wallets { token: None }];
        for (from, to) in slices(from, to) {
            let invoices = [InvoiceStatus::Open, InvoiceStatus::Paid, InvoiceStatus::Credited];
            tasks.extend(invoices.map(|status| Task::Invoices { status, from, to, token: None }));
            let sessions = [SessionStatus::Completed, SessionStatus::Interrupted];
            tasks.extend(sessions.map(|status| Task::Sessions { status, from, to, token: None }));
        }
        Self(tasks)
    }

    /// Parses the token of an earlier invocation.
    ///
    /// # Errors
    /// [`Code::Validation`](lambda_kit::Code::Validation) when the text is not a token of an audit.
    pub fn parse(token: &str) -> Result<Self, Failure> {
        let wrong = |_| Failure::invalid("nextToken", "must be the nextToken of an audit");
        serde_json::from_str(token).map(Self).map_err(wrong)
    }

    /// Serializes the tasks into a token. It is the inverse of [`Self::parse`], and `None` if no task is left.
    ///
    /// # Errors
    /// [`Code::Internal`](lambda_kit::Code::Internal) when the tasks cannot be serialized.
    pub fn token(&self) -> Result<Option<String>, Failure> {
        let text = (!self.0.is_empty()).then(|| serde_json::to_string(&self.0));
        text.transpose().map_err(Failure::internal)
    }

    /// Removes and returns the next task.
    pub fn next(&mut self) -> Option<Task> {
        self.0.pop()
    }

    /// Puts follow-up tasks at the front of the queue. Started work is finished first, which keeps the queue short.
    pub fn go_on_with(&mut self, tasks: Vec<Task>) {
        self.0.extend(tasks.into_iter().rev());
    }

    /// Puts tasks at the end of the queue.
    pub fn leave_for_last(&mut self, mut tasks: Vec<Task>) {
        tasks.append(&mut self.0);
        self.0 = tasks;
    }
}

/// Divides the window into slices. A slice starts one millisecond after the end of the one before, because stored times
/// have whole milliseconds.
fn slices(from: Instant, to: Instant) -> Vec<(Instant, Instant)> {
    let length = (to - from) / SLICES;
    if length < SHORTEST_SLICE {
        return vec![(from, to)];
    }
    let begins = (0..SLICES).map(|number| from + length * number);
    let ends = (1..SLICES).map(|number| from + length * number - TimeDelta::milliseconds(1)).chain([to]);
    begins.zip(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::milliseconds(milliseconds)
    }

    #[test]
    fn slices_cover_the_window_without_overlap() {
        for length in [0, 1, 59_999, 8 * 60_000 - 1, 8 * 60_000, 8 * 60_000 + 7, 604_800_000] {
            let slices = slices(at(5), at(5 + length));
            assert_eq!(slices.len(), if length < 480_000 { 1 } else { 8 }, "{length}");
            assert_eq!(
                (slices.first().map(|slice| slice.0), slices.last().map(|slice| slice.1)),
                (Some(at(5)), Some(at(5 + length)))
            );
            for pair in slices.windows(2) {
                let (end, begin) = (pair[0].1.timestamp_millis(), pair[1].0.timestamp_millis());
                assert_eq!(begin, end + 1, "{length}");
            }
        }
    }
}
