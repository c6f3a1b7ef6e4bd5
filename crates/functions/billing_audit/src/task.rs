//! What an audit still has to look at, a page at a time: the queue is all that one invocation hands to the next.

use chrono::TimeDelta;
use domain::Instant;
use domain::billing::InvoiceStatus;
use domain::charging::session::SessionStatus;
use lambda_kit::Failure;
use serde::{Deserialize, Serialize};

use crate::ledger::LedgerCheck;

/// Parts of the window whose pages are read side by side.
const SLICES: i32 = 8;
/// A shorter part is not worth its own pages.
const SHORTEST_SLICE: TimeDelta = TimeDelta::minutes(1);

/// A page that is to be read. `token` is of the page before; none for the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "camelCase")]
pub enum Task {
    /// Sessions that ended within a slice of the window.
    Sessions { status: SessionStatus, from: Instant, to: Instant, token: Option<String> },
    /// Invoices that were issued within a slice of the window.
    Invoices { status: InvoiceStatus, from: Instant, to: Instant, token: Option<String> },
    /// Wallets, whatever the window.
    Wallets { token: Option<String> },
    /// The ledger of one wallet.
    Ledger { check: LedgerCheck, token: Option<String> },
}

/// Tasks, the next one at the end.
#[derive(Debug)]
pub struct Tasks(Vec<Task>);

impl Tasks {
    /// Everything there is to an audit of the window.
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

    /// The tasks that an earlier invocation left.
    ///
    /// # Errors
    /// A validation failure for a text that no audit made.
    pub fn parse(token: &str) -> Result<Self, Failure> {
        let wrong = |_| Failure::invalid("nextToken", "must be the nextToken of an audit");
        serde_json::from_str(token).map(Self).map_err(wrong)
    }

    /// The inverse of [`Self::parse`]; none when nothing is left.
    ///
    /// # Errors
    /// Internal when they cannot be written as JSON.
    pub fn token(&self) -> Result<Option<String>, Failure> {
        let text = (!self.0.is_empty()).then(|| serde_json::to_string(&self.0));
        text.transpose().map_err(Failure::internal)
    }

    /// The next task.
    pub fn next(&mut self) -> Option<Task> {
        self.0.pop()
    }

    /// Puts what a task leads to before everything else, so that no more is begun than is worked on: the queue stays short.
    pub fn go_on_with(&mut self, tasks: Vec<Task>) {
        self.0.extend(tasks.into_iter().rev());
    }

    /// Puts tasks behind everything else.
    pub fn leave_for_last(&mut self, mut tasks: Vec<Task>) {
        tasks.append(&mut self.0);
        self.0 = tasks;
    }
}

/// The window in parts, which meet at whole milliseconds: that is how times are stored.
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
    fn slices_make_up_the_window_and_share_nothing() {
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
