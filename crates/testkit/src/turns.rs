use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use tokio::sync::{Notify, oneshot};

/// A scheduler for the calls of several concurrent tasks. It lets the calls happen one at a time, in an order that the
/// caller chooses: the same choices give the same interleaving. It needs a single-threaded runtime.
///
/// It releases a call only when every running task waits with a call. Therefore it does not matter how long a task
/// computes or pauses.
#[derive(Clone, Debug)]
pub struct Turns {
    real: SharedHttpClient,
    shared: Arc<Shared>,
}

/// What happens to the call that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The call is made and answered.
    Go,
    /// The task crashes before the call is made.
    CrashBefore,
    /// The call is made, and the task crashes before it sees the answer.
    CrashAfter,
}

/// The result of an attempt to release the next call.
enum Next {
    Ended,
    Wait,
    Given,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    /// The waiting calls by task and number.
    waiting: BTreeMap<(usize, u64), oneshot::Sender<Turn>>,
    /// The running tasks, each with the signal that makes it crash.
    running: BTreeMap<usize, Arc<Notify>>,
    /// Whether a call was released and has not been answered.
    under_way: bool,
}

#[derive(Clone, Debug)]
struct TaskHttp {
    real: SharedHttpClient,
    shared: Arc<Shared>,
    task: usize,
}

#[derive(Debug)]
struct Connector {
    real: SharedHttpConnector,
    shared: Arc<Shared>,
    task: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { real: aws_smithy_http_client::Builder::new().build_http(), shared: Arc::default() }
    }
}

impl Turns {
    /// Returns the HTTP client for the calls of task number `task`.
    #[must_use]
    pub fn http(&self, task: usize) -> SharedHttpClient {
        SharedHttpClient::new(TaskHttp { real: self.real.clone(), shared: self.shared.clone(), task })
    }

    /// Starts task number `task`. Returns its result, or `None` if it crashed.
    pub fn start<W>(&self, task: usize, work: W) -> impl Future<Output = Option<W::Output>> + use<W>
    where
        W: Future + 'static,
    {
        let crashed = Arc::new(Notify::new());
        lock(&self.shared.state).running.insert(task, crashed.clone());
        let shared = self.shared.clone();
        let work = Box::pin(work);
        async move {
            let done = tokio::select! {
                biased;
                () = crashed.notified() => None,
                done = work => Some(done),
            };
            let mut state = lock(&shared.state);
            state.running.remove(&task);
            state.waiting.retain(|(waiting, _), _| *waiting != task);
            drop(state);
            shared.changed.notify_one();
            done
        }
    }

    /// Releases calls until all tasks have ended. `choose` gets the number of waiting calls, which are ordered by task,
    /// and returns the index of the next one and what happens to it.
    pub async fn run(&self, mut choose: impl FnMut(usize) -> (usize, Turn)) {
        loop {
            self.settle().await;
            match self.next(&mut choose) {
                Next::Ended => return,
                Next::Wait => self.shared.changed.notified().await,
                Next::Given => {}
            }
        }
    }

    /// Releases the next call, if every running task waits with one.
    fn next(&self, choose: &mut impl FnMut(usize) -> (usize, Turn)) -> Next {
        let mut state = lock(&self.shared.state);
        if state.running.is_empty() {
            return Next::Ended;
        }
        let waits = |task: &usize| state.waiting.range((*task, 0)..=(*task, u64::MAX)).next().is_some();
        if state.under_way || !state.running.keys().all(waits) {
            return Next::Wait;
        }
        let (index, turn) = choose(state.waiting.len());
        let key = *state.waiting.keys().nth(index).expect("one of the waiting calls");
        let call = state.waiting.remove(&key).expect("a waiting call");
        // If the task has dropped its call, it has continued without it, and nothing is in progress.
        state.under_way = call.send(turn).is_ok();
        Next::Given
    }

    /// Lets every task run as far as it can without an answer.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

impl HttpClient for TaskHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let real = self.real.http_connector(settings, components);
        SharedHttpConnector::new(Connector { real, shared: self.shared.clone(), task: self.task })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (real, shared, task) = (self.real.clone(), self.shared.clone(), self.task);
        HttpConnectorFuture::new(async move {
            let (turn, wait) = oneshot::channel();
            {
                let mut state = lock(&shared.state);
                let number = state.calls;
                state.calls += 1;
                state.waiting.insert((task, number), turn);
            }
            shared.changed.notify_one();
            let turn = wait.await.map_err(|_| ConnectorError::io("the task has ended".into()))?;
            let answer = match turn {
                Turn::CrashBefore => None,
                Turn::Go | Turn::CrashAfter => Some(whole(real.call(request).await?).await?),
            };
            if turn != Turn::Go
                && let Some(crashed) = lock(&shared.state).running.get(&task)
            {
                crashed.notify_one();
            }
            lock(&shared.state).under_way = false;
            shared.changed.notify_one();
            match answer.filter(|_| turn == Turn::Go) {
                Some(answer) => Ok(answer),
                None => std::future::pending().await,
            }
        })
    }
}

/// Reads the whole body of an answer in advance, so that the task need not wait for it.
async fn whole(answer: HttpResponse) -> Result<HttpResponse, ConnectorError> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = ByteStream::new(answer.into_body()).collect().await.map_err(|error| ConnectorError::io(error.into()))?;
    let mut whole = HttpResponse::new(status, SdkBody::from(body.into_bytes()));
    *whole.headers_mut() = headers;
    Ok(whole)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
