//! Limits and tower layers: what stands between a message and its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use sinew::{BoxError, Invocation, OperationService, State};
use tokio::sync::Semaphore;
use tower::Layer;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn what_neither_hand_nor_queue_can_take_is_turned_away_at_once() {
    let stage = Stage::start().await;
    let gate = Arc::new(Gate::default());
    let _desk = stage.start_service(desk(gate.clone(), wait_at_gate).limits(1, 1)).await;
    let (in_work, queued, turned_away) = (stage.call("1"), stage.call("2"), async {
        eventually(SOON, || std::future::ready(gate.arrived() == 1)).await;
        // One is in work and one may wait: of the next two, one is too many, whatever the order they come in.
        let (a, b) = tokio::join!(stage.call("3"), async {
            let refused = stage.call("4").await;
            gate.open();
            refused
        });
        [a, b]
    });
    let (first, second, others) = tokio::join!(in_work, queued, turned_away);
    let mut answers = vec![first, second];
    answers.extend(others);
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 2, "{refused:?}");
    for error in refused {
        let told = error.unwrap_err().to_problem();
        assert_eq!((told.status, told.code.as_str(), told.retry), (503, "overloaded", true));
    }
}

#[tokio::test]
async fn the_first_layer_added_is_the_outermost() {
    let stage = Stage::start().await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let layer = |name| Tell { name, seen: seen.clone() };
    let _desk = stage.start_service(desk((), repeat).layer(layer("outer")).layer(layer("inner"))).await;
    stage.call("once").await.unwrap();
    stage.call("twice").await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["outer echo", "inner echo", "outer echo", "inner echo"]);
}

#[tokio::test]
async fn towers_concurrency_limit_holds() {
    let stage = Stage::start().await;
    let crowd = Arc::new(Crowd::default());
    let service = desk(crowd.clone(), mingle).layer(ConcurrencyLimitLayer::new(2));
    let _desk = stage.start_service(service).await;
    let calls = (0..40).map(|_| stage.call("x"));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(crowd.largest.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_timeout_layer_leaves_the_outcome_unknown() {
    let stage = Stage::start().await;
    let never = async |_: Echo| std::future::pending::<Result<String, DeskError>>().await;
    let _desk =
        stage.start_service(desk((), never).layer(TimeoutLayer::new(Duration::from_millis(50)))).await;
    let error = stage.call("anybody?").await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "the handler had begun: {error:?}");
    assert!(error.is_unknown());
}

#[tokio::test]
async fn a_layer_may_answer_with_a_problem_of_its_own() {
    let stage = Stage::start().await;
    let _desk = stage.start_service(desk((), repeat).layer(Refuse)).await;
    let error = stage.call("anybody?").await.unwrap_err();
    assert!(matches!(&error, CallError::Undeclared(told) if told.code == "closed-today"), "{error:?}");
}

/// Holds everybody until it is opened.
struct Gate {
    arrived: AtomicUsize,
    pass: Semaphore,
}

/// How many are in at once.
#[derive(Default)]
struct Crowd {
    now: AtomicUsize,
    largest: AtomicUsize,
}

#[derive(Clone)]
struct Tell {
    name: &'static str,
    seen: Arc<std::sync::Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Telling {
    layer: Tell,
    inner: OperationService,
}

struct Refuse;

impl Gate {
    fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    fn open(&self) {
        self.pass.add_permits(1_000);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: AtomicUsize::new(0), pass: Semaphore::new(0) }
    }
}

impl Layer<OperationService> for Tell {
    type Service = Telling;

    fn layer(&self, inner: OperationService) -> Telling {
        Telling { layer: self.clone(), inner }
    }
}

impl tower::Service<Invocation> for Telling {
    type Response = sinew::Answer;
    type Error = BoxError;
    type Future = <OperationService as tower::Service<Invocation>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        tower::Service::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, invocation: Invocation) -> Self::Future {
        self.layer.seen.lock().unwrap().push(format!("{} {}", self.layer.name, invocation.operation));
        tower::Service::call(&mut self.inner, invocation)
    }
}

impl Layer<OperationService> for Refuse {
    type Service = OperationService;

    fn layer(&self, _: OperationService) -> OperationService {
        let refuse = |_| async { Err(Problem::new(503, "closed-today", "closed today").into()) };
        OperationService::new(tower::service_fn(refuse))
    }
}

async fn wait_at_gate(request: Echo, State(gate): State<Arc<Gate>>) -> Result<String, DeskError> {
    gate.arrived.fetch_add(1, Ordering::SeqCst);
    let _pass = gate.pass.acquire().await.unwrap();
    Ok(request.text)
}

async fn mingle(request: Echo, State(crowd): State<Arc<Crowd>>) -> Result<String, DeskError> {
    let now = crowd.now.fetch_add(1, Ordering::SeqCst) + 1;
    crowd.largest.fetch_max(now, Ordering::SeqCst);
    // Long enough for whoever else may come in to do so.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    crowd.now.fetch_sub(1, Ordering::SeqCst);
    Ok(request.text)
}
