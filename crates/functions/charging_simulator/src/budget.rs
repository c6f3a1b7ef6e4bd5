use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lambda_kit::Context;

/// The time before the deadline in which no further station is started, so that the stations in progress can finish.
const RESERVE: Duration = Duration::from_secs(3);
/// The time before the deadline that is reserved for the answer. Work that is still in progress then is abandoned.
const ANSWER: Duration = Duration::from_secs(1);

/// A clock that never goes back: it returns the time since a fixed moment of its own.
#[derive(Clone)]
pub struct MonotonicClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl MonotonicClock {
    /// Returns the system's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        let origin = Instant::now();
        Self::new(move || origin.elapsed())
    }

    /// Creates a clock from a function that returns the elapsed time.
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

/// The time that an invocation has, measured from its start. Everything uses it up, reads included.
#[derive(Clone, Debug)]
pub(crate) struct TimeBudget {
    clock: MonotonicClock,
    end: Duration,
}

impl TimeBudget {
    /// Creates the budget of the invocation that starts now.
    pub fn new(clock: &MonotonicClock, context: &Context) -> Self {
        Self { end: clock.now() + context.time_left(), clock: clock.clone() }
    }

    /// Returns whether more work may be started.
    pub fn may_begin(&self) -> bool {
        self.left() > RESERVE
    }

    /// Returns how long work in progress may continue.
    pub fn until_answer(&self) -> Duration {
        self.left().saturating_sub(ANSWER)
    }

    fn left(&self) -> Duration {
        self.end.saturating_sub(self.clock.now())
    }
}
