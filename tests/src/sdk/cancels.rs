//! Cancelling: who goes away takes the work asked for along, over as many services as it crossed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sinew::State;
use tokio::sync::Semaphore;

use super::*;
use crate::harness::{SOON, eventually};

/// Asks the next service in turn.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "front.ask", reply = String)]
struct Ask {}

/// Asks the desk.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "middle.pass", reply = String)]
struct Pass {}

contract! { Front = "front" @ "1.0.0" { ask: Ask } }
contract! { Middle = "middle" @ "1.0.0" { pass: Pass } }

#[tokio::test]
async fn a_dropped_call_stops_its_handler_and_no_other() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    // Both hear of it, one has the request.
    let _desk = stage.start_service(desk(hall.clone(), wait)).await;
    let _replica = stage.start_service(desk(hall.clone(), wait)).await;
    let [gone, stays] = ["gone", "stays"]
        .map(|text| tokio::spawn(stage.caller.call(echo(text)).within(PATIENCE).into_future()));
    hall.until(2, 0).await;
    gone.abort();
    hall.until(2, 1).await;
    hall.pass.add_permits(1);
    assert_eq!(stays.await.unwrap().unwrap(), "stays");
}

#[tokio::test]
async fn a_cancel_crosses_three_services() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let _services = three(&stage, &hall).await;
    let call = tokio::spawn(stage.caller.call(Ask {}).within(PATIENCE).into_future());
    hall.until(3, 0).await;
    call.abort();
    hall.until(3, 3).await;
}

#[tokio::test]
async fn a_deadline_that_passes_cancels_downstream() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let _desk = stage.start_service(desk(hall.clone(), wait)).await;
    // It tells the desk no deadline: only the cancellation can stop the work there.
    let forget = async |_: Ask, ctx: Ctx| {
        let payload = Bytes::from_static(br#"{"text":""}"#);
        let reply = ctx.bus().request(Echo::SUBJECT, &Headers::new(), payload, PATIENCE).await;
        reply.map(|_| String::new()).map_err(|error| error.to_problem())
    };
    let _front = stage.start_service(Service::new("front", ()).serve(Front, |front| front.ask(forget))).await;
    let error = stage.caller.call(Ask {}).within(Duration::from_millis(150)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    hall.until(1, 1).await;
}

#[tokio::test]
async fn a_raw_request_that_times_out_cancels_as_well() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let _desk = stage.start_service(desk(hall.clone(), wait)).await;
    let (headers, payload) = (Headers::new(), Bytes::from_static(br#"{"text":""}"#));
    let reply =
        stage.caller.bus().request(Echo::SUBJECT, &headers, payload, Duration::from_millis(150)).await;
    assert!(reply.is_err());
    hall.until(1, 1).await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_hand_is_withdrawn() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let desk = stage.start_service(desk(hall.clone(), wait).limits(1, 10)).await;
    let mut first = tokio::spawn(stage.caller.call(echo("first")).within(PATIENCE).into_future());
    hall.until(1, 0).await;
    let queued = tokio::spawn(stage.caller.call(echo("queued")).within(PATIENCE).into_future());
    // Ten may wait; that this one does shows when it is told to be gone.
    let told = async || cancelled(&stage).await == 1;
    stage.caller.bus().barrier().await.unwrap();
    queued.abort();
    eventually(SOON, told).await;
    hall.pass.add_permits(10);
    assert_eq!((&mut first).await.unwrap().unwrap(), "first");
    desk.drain().await;
    assert_eq!(hall.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_deadline_the_service_knows_of_needs_no_cancelling() {
    let stage = Stage::start().await;
    let mut cancels = stage.bus.subscribe("svc.desk.$cancel", None).await.unwrap();
    let hall: Arc<Hall> = Arc::default();
    let _desk = stage.start_service(desk(hall.clone(), wait)).await;
    let error = stage.caller.call(echo("")).within(Duration::from_millis(100)).no_retry().await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    hall.until(1, 1).await;
    stage.caller.bus().publish("svc.desk.$cancel", &Headers::new(), "sentinel".into()).await.unwrap();
    assert_eq!(cancels.next().await.unwrap().payload(), "sentinel", "nothing came before it");
    assert_eq!(cancelled(&stage).await, 0, "it counts as a failure, not as a caller that went away");
}

#[tokio::test]
async fn a_request_whose_time_is_over_leaves_its_place_in_the_queue() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let _desk = stage.start_service(desk(hall.clone(), wait).limits(1, 1)).await;
    let first = tokio::spawn(stage.caller.call(echo("first")).within(PATIENCE).into_future());
    hall.until(1, 0).await;
    let short = |text| stage.caller.call(echo(text)).within(Duration::from_millis(100)).no_retry();
    assert!(matches!(short("queued").await, Err(CallError::TimedOut)));
    // The one place is free again as soon as the service's clock has come as far, so somebody else may wait there.
    let queued = async || matches!(short("another").await, Err(CallError::TimedOut));
    eventually(SOON, queued).await;
    hall.pass.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "first");
    assert_eq!(hall.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn shielded_work_goes_on_and_draining_waits_for_it() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let shielded = async |request: Echo, ctx: Ctx, State(hall): State<Arc<Hall>>| {
        let work = hall.clone();
        let _visit = Visit::begin(&hall);
        let done = ctx.shield(async move {
            work.pass.acquire().await.unwrap().forget();
            work.done.fetch_add(1, Ordering::SeqCst);
        });
        done.await;
        Ok::<_, DeskError>(request.text)
    };
    let desk = stage.start_service(desk(hall.clone(), shielded)).await;
    let call = tokio::spawn(stage.caller.call(echo("")).within(PATIENCE).into_future());
    hall.until(1, 0).await;
    call.abort();
    hall.until(1, 1).await;
    let (drained, ()) = tokio::join!(desk.drain(), async { hall.pass.add_permits(1) });
    assert_eq!((drained, hall.done.load(Ordering::SeqCst)), ((), 1));
}

#[tokio::test]
async fn work_elsewhere_learns_that_nobody_waits() {
    let stage = Stage::start().await;
    let hall: Arc<Hall> = Arc::default();
    let elsewhere = async |_: Echo, ctx: Ctx, State(hall): State<Arc<Hall>>| {
        let _visit = Visit::begin(&hall);
        let own = ctx.clone();
        let other = tokio::spawn(async move {
            own.cancelled().await;
            hall.done.fetch_add(1, Ordering::SeqCst);
        });
        let _ = other.await;
        std::future::pending::<Result<String, DeskError>>().await
    };
    let _desk = stage.start_service(desk(hall.clone(), elsewhere)).await;
    let call = tokio::spawn(stage.caller.call(echo("")).within(PATIENCE).into_future());
    hall.until(1, 0).await;
    call.abort();
    eventually(SOON, || std::future::ready(hall.done.load(Ordering::SeqCst) == 1)).await;
}

#[tokio::test]
async fn an_answered_call_cancels_nothing() {
    let stage = Stage::start().await;
    let mut cancels = stage.bus.subscribe("svc.desk.$cancel", None).await.unwrap();
    let _desk = stage.serve(repeat).await;
    for _ in 0..10 {
        stage.call("").await.unwrap();
    }
    let mut sentinel = stage.caller.bus().subscribe("test.sentinel", None).await.unwrap();
    stage.caller.bus().barrier().await.unwrap();
    stage.bus.barrier().await.unwrap();
    stage.caller.bus().publish("svc.desk.$cancel", &Headers::new(), "sentinel".into()).await.unwrap();
    stage.caller.bus().publish("test.sentinel", &Headers::new(), Bytes::new()).await.unwrap();
    sentinel.next().await.unwrap();
    assert_eq!(cancels.next().await.unwrap().payload(), "sentinel", "nothing came before it");
}

/// Who came, and who left without an answer.
struct Hall {
    begun: AtomicUsize,
    given_up: AtomicUsize,
    done: AtomicUsize,
    pass: Semaphore,
}

impl Default for Hall {
    fn default() -> Self {
        let none = AtomicUsize::default;
        Self { begun: none(), given_up: none(), done: none(), pass: Semaphore::new(0) }
    }
}

impl Hall {
    /// Waits until so many handlers have begun, and so many of them were dropped.
    async fn until(&self, begun: usize, given_up: usize) {
        let seen = || (self.begun.load(Ordering::SeqCst), self.given_up.load(Ordering::SeqCst));
        eventually(SOON, || std::future::ready(seen() == (begun, given_up))).await;
    }
}

/// One handler at work.
struct Visit {
    hall: Arc<Hall>,
    ended: bool,
}

impl Visit {
    fn begin(hall: &Arc<Hall>) -> Self {
        hall.begun.fetch_add(1, Ordering::SeqCst);
        Self { hall: hall.clone(), ended: false }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.hall.given_up.fetch_add(usize::from(!self.ended), Ordering::SeqCst);
    }
}

/// Answers when it gets a pass.
async fn wait(request: Echo, State(hall): State<Arc<Hall>>) -> Result<String, DeskError> {
    let mut visit = Visit::begin(&hall);
    hall.pass.acquire().await.unwrap().forget();
    visit.ended = true;
    Ok(request.text)
}

/// The front asks the middle, which asks the desk, which does not answer.
async fn three(stage: &Stage, hall: &Arc<Hall>) -> [Running; 3] {
    let ask = async |_: Ask, ctx: Ctx, State(hall): State<Arc<Hall>>| {
        let _visit = Visit::begin(&hall);
        ctx.call(Pass {}).await.map_err(|error| error.to_problem())
    };
    let pass = async |_: Pass, ctx: Ctx, State(hall): State<Arc<Hall>>| {
        let _visit = Visit::begin(&hall);
        ctx.call(echo("")).await.map_err(|error| error.to_problem())
    };
    let front = Service::new("front", hall.clone()).serve(Front, |front| front.ask(ask));
    let middle = Service::new("middle", hall.clone()).serve(Middle, |middle| middle.pass(pass));
    [
        stage.start_service(front).await,
        stage.start_service(middle).await,
        stage.start_service(desk(hall.clone(), wait)).await,
    ]
}

/// Asks the desk how many requests it gave up because their callers went away.
async fn cancelled(stage: &Stage) -> u64 {
    let subject = "$SRV.STATS.desk";
    let reply = stage.caller.bus().request(subject, &Headers::new(), Bytes::new(), PATIENCE).await.unwrap();
    let stats: serde_json::Value = serde_json::from_slice(reply.payload()).unwrap();
    stats["endpoints"][0]["data"]["cancelled"].as_u64().unwrap()
}
