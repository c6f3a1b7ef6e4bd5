use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lambda_kit::Context;

/// Kept back from the invocation's time: no station is begun any more, those under way have it to come to their end.
const RESERVE: Duration = Duration::from_secs(3);
/// Kept back for the answer: what is under way even then is given up.
const ANSWER: Duration = Duration::from_secs(1);

/// A clock that never goes back: the time since an instant of its own.
#[derive(Clone)]
pub struct MonotonicClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl MonotonicClock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        let origin = Instant::now();
        Self::new(move || origin.elapsed())
    }

    /// One that says what `elapsed` answers.
    #[must_use]
    pub fn new(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(elapsed))
    }

    fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for MonotonicClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MonotonicClock")
    }
}

/// How long an invocation may go on, measured from its start: whatever it does, reads included, uses it up.
#[derive(Clone, Debug)]
pub(crate) struct TimeBudget {
    clock: MonotonicClock,
    end: Duration,
}

impl TimeBudget {
    /// Of the invocation that begins now.
    pub fn new(clock: &MonotonicClock, context: &Context) -> Self {
        Self { end: clock.now() + context.time_left(), clock: clock.clone() }
    }

    /// Whether more work may be begun.
    pub fn may_begin(&self) -> bool {
        self.left() > RESERVE
    }

    /// How long work under way may go on.
    pub fn until_answer(&self) -> Duration {
        self.left().saturating_sub(ANSWER)
    }

    fn left(&self) -> Duration {
        self.end.saturating_sub(self.clock.now())
    }
}
