use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use tokio::sync::Notify;

/// A fault of a call to DynamoDB or S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the call is made.
    CrashBefore,
    /// The process dies after the call has taken effect and before it sees the answer.
    CrashAfter,
    /// The table refuses the call because it is busy.
    Throttle,
    /// The table refuses the call because a transaction works on the item.
    Conflict,
    /// An eventually consistent read does not see the item yet. Consistent reads and writes are not affected.
    NotYet,
    /// The call takes effect, but the answer is lost.
    LostAnswer,
    /// The call waits until the test releases it, so that the test can act between this call and the previous one.
    Hold,
}

/// An HTTP client that injects the planned faults into the calls of a process. All other calls are unchanged.
#[derive(Clone, Debug)]
pub struct FaultyHttp {
    real: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    each_call: Mutex<Option<Box<dyn Fn() + Send>>>,
    plan: Mutex<Plan>,
    /// Whether the process has died and the test has not seen this yet. A dead process sends nothing more.
    dead: AtomicBool,
    /// The number of calls that were sent and not answered.
    under_way: AtomicUsize,
    answered: Notify,
    crashed: Notify,
    held: Notify,
    released: Notify,
    written: Mutex<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("plan", &self.plan).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Plan {
    calls: u32,
    faults: BTreeMap<u32, Fault>,
}

#[derive(Debug)]
struct Connector {
    real: SharedHttpConnector,
    state: Arc<State>,
}

impl Default for FaultyHttp {
    fn default() -> Self {
        Self { real: aws_smithy_http_client::Builder::new().build_http(), state: Arc::default() }
    }
}

impl FaultyHttp {
    /// Sets the plan: call number `n`, counted from zero from now on, gets the fault `faults[n]`.
    pub fn plan(&self, faults: BTreeMap<u32, Fault>) {
        *lock(&self.state.plan) = Plan { calls: 0, faults };
    }

    /// Returns the number of calls since the last plan.
    #[must_use]
    pub fn calls(&self) -> u32 {
        lock(&self.state.plan).calls
    }

    /// Runs `work` before every call, for example to advance the clock of a test by the duration of a call.
    pub fn before_each_call(&self, work: impl Fn() + Send + 'static) {
        *lock(&self.state.each_call) = Some(Box::new(work));
    }

    /// Runs `work` and returns its result, or `None` if the process crashes. After a crash `work` is not polled again.
    pub async fn survive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.state.crashed.notified() => {
                self.state.dead.store(false, Ordering::SeqCst);
                None
            }
            answer = work => Some(answer),
        }
    }

    /// Waits until a call is held, runs `meanwhile`, and releases the call.
    pub async fn while_held<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.state.held.notified().await;
        let done = meanwhile.await;
        self.state.released.notify_one();
        done
    }

    /// Returns the bodies of the transactions that were written since the last call, even if their answers were lost.
    #[must_use]
    pub fn transactions(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *lock(&self.state.written))
    }
}

impl HttpClient for FaultyHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let real = self.real.http_connector(settings, components);
        SharedHttpConnector::new(Connector { real, state: self.state.clone() })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (real, state) = (self.real.clone(), self.state.clone());
        HttpConnectorFuture::new(async move {
            if state.dead.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            if let Some(work) = lock(&state.each_call).as_ref() {
                work();
            }
            let fault = state.next();
            match fault {
                Some(Fault::CrashBefore) => return state.crash().await,
                Some(Fault::Throttle) => return Ok(refused("ProvisionedThroughputExceededException")),
                Some(Fault::Conflict) => return Ok(refused("TransactionConflictException")),
                Some(Fault::NotYet) if is_eventual_read(&request) => return Ok(response(200, "{}")),
                Some(Fault::Hold) => state.hold().await,
                _ => {}
            }
            let transaction =
                request.headers().get("x-amz-target").is_some_and(|target| target.ends_with("TransactWriteItems"));
            let body = transaction.then(|| request.body().bytes().unwrap_or_default().to_vec());
            let answer = {
                let _under_way = UnderWay::new(&state);
                real.call(request).await?
            };
            if let Some(body) = body.filter(|_| answer.status().is_success()) {
                lock(&state.written).push(body);
            }
            match fault {
                Some(Fault::CrashAfter) => state.crash().await,
                Some(Fault::LostAnswer) => Err(ConnectorError::io("the connection was reset".into())),
                _ => Ok(answer),
            }
        })
    }
}

/// Counts a call as sent and not answered until it is dropped.
struct UnderWay<'a>(&'a State);

impl<'a> UnderWay<'a> {
    fn new(state: &'a State) -> Self {
        state.under_way.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.answered.notify_one();
    }
}

impl State {
    fn next(&self) -> Option<Fault> {
        let mut plan = lock(&self.plan);
        let number = plan.calls;
        plan.calls += 1;
        plan.faults.get(&number).copied()
    }

    async fn hold(&self) {
        self.held.notify_one();
        self.released.notified().await;
    }

    /// Reports the crash to the test, and never returns.
    ///
    /// Before it reports, it waits for all calls that the process has sent. Otherwise a dead process could still change
    /// data while its successor runs.
    async fn crash(&self) -> Result<HttpResponse, ConnectorError> {
        self.dead.store(true, Ordering::SeqCst);
        while self.under_way.load(Ordering::SeqCst) > 0 {
            self.answered.notified().await;
        }
        self.crashed.notify_one();
        std::future::pending().await
    }
}

/// Returns whether the call is an eventually consistent read of one item.
fn is_eventual_read(request: &HttpRequest) -> bool {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let body = request.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    target.ends_with("GetItem") && !body.contains("\"ConsistentRead\":true")
}

fn refused(code: &str) -> HttpResponse {
    response(400, &format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"busy"}}"#))
}

fn response(status: u16, body: &str) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::{EmbeddedDynamoDb, sdk_config};

    /// A dead process changes nothing while its successor runs.
    #[tokio::test]
    async fn a_dead_process_finishes_the_calls_it_sent_and_sends_no_more() {
        let dynamodb = EmbeddedDynamoDb::start().await;
        for (fault, done) in [(Fault::CrashBefore, 3..=3), (Fault::CrashAfter, 4..=9)] {
            let http = FaultyHttp::default();
            let config = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
            let client = Client::new(&config);
            let put = |number: u32| {
                let pk = AttributeValue::S(format!("{fault:?}#{number}"));
                client.put_item().table_name("ev-users").item("PK", pk.clone()).item("SK", pk).send()
            };
            http.plan(BTreeMap::from([(3, fault)]));
            assert!(http.survive(futures::future::join_all((0..9).map(put))).await.is_none());
            let items = dynamodb.items("ev-users").await;
            let made = items.iter().filter(|item| item["PK"].as_s().unwrap().starts_with(&format!("{fault:?}")));
            let made = made.count();
            assert!(done.contains(&made), "{fault:?}: {made} of 9");
            assert!(http.survive(put(9)).await.is_some_and(|answer| answer.is_ok()), "the successor runs");
        }
    }
}
