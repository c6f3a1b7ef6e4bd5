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

/// What can happen to a call of `DynamoDB` or S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before the call is made.
    CrashBefore,
    /// The process ends after the call has had its effect, before the answer is seen.
    CrashAfter,
    /// The table refuses the call because it is busy.
    Throttle,
    /// The table refuses the call because a transaction works on the item.
    Conflict,
    /// An eventually consistent read does not see the item yet. Consistent reads and writes are not affected.
    NotYet,
    /// The call has its effect; the answer is lost on the way.
    LostAnswer,
    /// The call waits until it is released: what happens meanwhile happens between this call and the one before.
    Hold,
}

/// An HTTP client that does to the calls of a process what a plan says. Everything else goes to the real one.
#[derive(Clone, Debug)]
pub struct FaultyHttp {
    real: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    each_call: Mutex<Option<Box<dyn Fn() + Send>>>,
    plan: Mutex<Plan>,
    /// Whether the process has died, and nobody has seen it yet: it sends nothing more.
    dead: AtomicBool,
    /// Calls that were sent and not answered.
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
    /// Counts calls from zero, and lets happen at each number what `faults` says.
    pub fn plan(&self, faults: BTreeMap<u32, Fault>) {
        *lock(&self.state.plan) = Plan { calls: 0, faults };
    }

    /// The calls since the last plan.
    #[must_use]
    pub fn calls(&self) -> u32 {
        lock(&self.state.plan).calls
    }

    /// Has `work` done before every call, for example to let a test's clock go on by what a call takes.
    pub fn before_each_call(&self, work: impl Fn() + Send + 'static) {
        *lock(&self.state.each_call) = Some(Box::new(work));
    }

    /// Answers what `work` does, or nothing when the process crashed meanwhile: `work` is then not polled again.
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

    /// Waits until a call is held, does `meanwhile`, and releases it.
    pub async fn while_held<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.state.held.notified().await;
        let done = meanwhile.await;
        self.state.released.notify_one();
        done
    }

    /// The bodies of the transactions that were written since the last look, whoever saw their answers.
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

/// A call that was sent and not answered, or not waited for any more.
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

    /// Tells whoever runs the process, and never answers. What the process has sent before has had its effect by then:
    /// a dead process changes nothing behind the back of the next one.
    async fn crash(&self) -> Result<HttpResponse, ConnectorError> {
        self.dead.store(true, Ordering::SeqCst);
        while self.under_way.load(Ordering::SeqCst) > 0 {
            self.answered.notified().await;
        }
        self.crashed.notify_one();
        std::future::pending().await
    }
}

/// Whether the call reads one item without asking for the latest state.
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

    /// A dead process changes nothing behind the back of the next one.
    #[tokio::test]
    async fn what_a_dead_process_has_sent_is_done_when_its_death_is_seen_and_it_sends_no_more() {
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
            assert!(http.survive(put(9)).await.is_some_and(|answer| answer.is_ok()), "its successor lives");
        }
    }
}
