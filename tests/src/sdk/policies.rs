//! Policies of calls: circuit breaker, bulkhead, layers; one place that typed and raw calls pass.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use sinew::policy::{CallService, Outgoing};
use sinew::{BoxError, Breaker, Calls, Kind, Policy, State};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_breaker_opens_half_opens_and_closes() {
    let stage = Stage::start().await;
    let shop: Arc<Shop> = Arc::default();
    let _desk = stage.start_service(desk(shop.clone(), moody)).await;
    let caller = with(&stage, Calls::new().to("desk", Policy::new().breaker(touchy())));
    shop.broken.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        assert!(matches!(ask(&caller).await, Err(CallError::Refused(DeskError::Busy))));
    }
    // Nothing is sent while it is open, and the caller is told for how long.
    for _ in 0..10 {
        let error = ask(&caller).await.unwrap_err();
        assert!(
            matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::CircuitOpen),
            "{error:?}"
        );
        let told = error.to_problem();
        assert_eq!((told.status, told.code.as_str(), told.retry), (503, "circuit-open", true));
        assert!(error.retry_hint().is_some_and(|pause| pause <= Duration::from_millis(400)), "{error:?}");
    }
    assert_eq!(shop.seen.load(Ordering::SeqCst), 4);
    // Half open, one probe finds it still broken, and it opens again.
    let probed = async || matches!(ask(&caller).await, Err(CallError::Refused(DeskError::Busy)));
    eventually(SOON, probed).await;
    assert!(is_open(&ask(&caller).await), "one failed probe is enough");
    assert_eq!(shop.seen.load(Ordering::SeqCst), 5);
    shop.broken.store(false, Ordering::SeqCst);
    eventually(SOON, async || ask(&caller).await.is_ok()).await;
    for _ in 0..20 {
        ask(&caller).await.unwrap();
    }
}

#[tokio::test]
async fn missing_responders_and_silence_open_it_and_refusals_do_not() {
    let stage = Stage::start().await;
    let caller = with(&stage, Calls::new().to("desk", Policy::new().breaker(touchy())));
    for _ in 0..4 {
        assert!(matches!(ask(&caller).await, Err(CallError::NoResponders)));
    }
    assert!(is_open(&ask(&caller).await));

    let caller = with(&stage, Calls::new().to("desk", Policy::new().breaker(touchy())));
    let refuse = async |request: Echo| match request.text.as_str() {
        "hang" => std::future::pending().await,
        _ => Err::<String, _>(DeskError::OutOfStock { sku: "tea".to_owned() }),
    };
    let _desk = stage.serve(refuse).await;
    for _ in 0..40 {
        assert!(matches!(ask(&caller).await, Err(CallError::Refused(_))));
    }
    let hang = async || caller.call(echo("hang")).no_retry().within(Duration::from_millis(5)).await;
    for _ in 0..40 {
        assert!(matches!(hang().await, Err(CallError::TimedOut)));
    }
    assert!(is_open(&ask(&caller).await), "half of the calls brought no answer");
}

#[tokio::test]
async fn a_call_that_its_caller_drops_says_nothing_about_the_service() {
    let stage = Stage::start().await;
    let caller = with(&stage, Calls::new().to("desk", Policy::new().breaker(touchy())));
    let hang = async |request: Echo| match request.text.as_str() {
        "hang" => std::future::pending().await,
        _ => Ok::<_, DeskError>(request.text),
    };
    let _desk = stage.serve(hang).await;
    for _ in 0..20 {
        let call = caller.call(echo("hang")).within(PATIENCE).into_future();
        assert!(tokio::time::timeout(Duration::from_millis(2), call).await.is_err());
    }
    ask(&caller).await.unwrap();
}

#[tokio::test]
async fn retries_do_not_exceed_the_budget_while_nobody_is_there() {
    let stage = Stage::start().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let caller = with(&stage, Calls::new().layer(Badge(attempts.clone())));
    let began = std::time::Instant::now();
    let calls = futures::stream::iter(0..1_000).map(|_| async {
        assert!(matches!(caller.call(echo("")).within(PATIENCE).await, Err(CallError::NoResponders)));
    });
    calls.buffer_unordered(100).collect::<Vec<()>>().await;
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let retries = attempts.load(Ordering::SeqCst) - 1_000;
    assert!((150..=200 + 10 * seconds).contains(&retries), "{retries} retries in {seconds} s");
}

#[tokio::test]
async fn a_full_bulkhead_refuses_at_once() {
    let stage = Stage::start().await;
    let shop: Arc<Shop> = Arc::default();
    let _desk = stage.start_service(desk(shop.clone(), wait)).await;
    let caller = with(&stage, Calls::new().to("desk", Policy::new().bulkhead(2)));
    let calls = ["a", "b"].map(|text| tokio::spawn(caller.call(echo(text)).within(PATIENCE).into_future()));
    eventually(SOON, || std::future::ready(shop.seen.load(Ordering::SeqCst) == 2)).await;
    let error = tokio::time::timeout(SOON, caller.call(echo("c")).within(PATIENCE)).await;
    let error = error.expect("at once").unwrap_err();
    assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::BulkheadFull), "{error:?}");
    assert_eq!(error.to_problem().code, "bulkhead-full");
    let other = caller.call_raw("svc.other.ask", Bytes::new()).await.unwrap_err();
    assert_eq!(other.kind(), Kind::NoResponders, "another dependency has places of its own");
    shop.pass.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    ask(&caller).await.unwrap();
    assert_eq!(shop.seen.load(Ordering::SeqCst), 3, "what was refused was not sent");
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_back() {
    let stage = Stage::start().await;
    let shop: Arc<Shop> = Arc::default();
    let _desk = stage.start_service(desk(shop.clone(), wait)).await;
    let caller = with(&stage, Calls::new().otherwise(Policy::new().bulkhead(1)));
    let call = tokio::spawn(caller.call(echo("a")).within(PATIENCE).into_future());
    eventually(SOON, || std::future::ready(shop.seen.load(Ordering::SeqCst) == 1)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // One for the handler that may not have heard of it yet.
    shop.pass.add_permits(2);
    ask(&caller).await.unwrap();
}

#[tokio::test]
async fn raw_and_typed_calls_pass_the_same_policies() {
    let stage = Stage::start().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let calls = Calls::new().to("desk", Policy::new().breaker(touchy())).layer(Badge(seen.clone()));
    let caller = with(&stage, calls);
    let badge =
        async |_: Echo, ctx: Ctx| Ok::<_, DeskError>(ctx.header("x-badge").unwrap_or("none").to_owned());
    let desk = stage.serve(badge).await;
    assert_eq!(ask(&caller).await.unwrap(), "desk/echo");
    let mut headers = Headers::new();
    headers.set("content-type", "application/json").unwrap();
    let payload = Bytes::from_static(br#"{"text":""}"#);
    let raw = async || caller.call_raw(Echo::SUBJECT, payload.clone()).headers(headers.clone()).await;
    assert_eq!(raw().await.unwrap().payload(), r#""desk/echo""#);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    desk.drain().await;
    for _ in 0..2 {
        assert_eq!(raw().await.unwrap_err().kind(), Kind::NoResponders);
    }
    assert!(is_open(&ask(&caller).await), "what the raw calls found counts for the typed one");
}

#[tokio::test]
async fn a_layer_refuses_a_call_in_its_own_words() {
    let stage = Stage::start().await;
    let shop: Arc<Shop> = Arc::default();
    let _desk = stage.start_service(desk(shop.clone(), moody)).await;
    let caller = with(&stage, Calls::new().layer(Curfew));
    let error = ask(&caller).await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::RefusedByLayer), "{error:?}");
    assert_eq!((error.to_problem().status, error.to_problem().code.as_str()), (451, "curfew"));
    assert_eq!(shop.seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_policies_of_a_service_hold_for_its_handlers() {
    let stage = Stage::start().await;
    let ask_desk = async |_: Gossip, ctx: Ctx| ctx.call(echo("")).await.map_err(|error| error.to_problem());
    let front = Service::new("porch", ())
        .serve(Porch, |porch| porch.gossip(ask_desk))
        .calls(|calls| calls.to("desk", Policy::new().breaker(touchy()).retry_budget(0, 0)));
    let _front = stage.start_service(front).await;
    let code = async || stage.caller.call(Gossip {}).await.unwrap_err().to_problem().code;
    for _ in 0..4 {
        assert_eq!(code().await, "no-responders");
    }
    assert_eq!(code().await, "circuit-open");
}

#[tokio::test]
async fn the_policies_of_a_service_hold_for_its_reactions_to_events() {
    let stage = Stage::start().await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let tell = async |_: Noted, ctx: Ctx, State(seen): State<Arc<Mutex<Vec<String>>>>| {
        let told = ctx.call(echo("")).no_retry().await.unwrap_err().to_problem();
        seen.lock().unwrap().push(told.code);
        Ok::<_, Problem>(())
    };
    let scribe = Service::new("scribe", seen.clone())
        .on("tell", tell, |group| group.concurrency(1))
        .calls(|calls| calls.to("desk", Policy::new().breaker(touchy().pauses(PATIENCE, PATIENCE))));
    let _scribe = stage.start_service(scribe).await;
    for number in 0..5 {
        stage.publish(number).await;
    }
    eventually(SOON, || std::future::ready(seen.lock().unwrap().len() == 5)).await;
    assert_eq!(seen.lock().unwrap()[3..], ["no-responders", "circuit-open"]);
}

#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "porch.gossip", reply = String)]
struct Gossip {}

contract! { Porch = "porch" @ "1.0.0" { gossip: Gossip } }

struct Shop {
    seen: AtomicUsize,
    broken: AtomicBool,
    pass: Semaphore,
}

impl Default for Shop {
    fn default() -> Self {
        Self { seen: AtomicUsize::new(0), broken: AtomicBool::new(false), pass: Semaphore::new(0) }
    }
}

/// Writes who is called on every attempt.
#[derive(Clone)]
struct Badge(Arc<AtomicUsize>);

impl Layer<CallService> for Badge {
    type Service = CallService;

    fn layer(&self, inner: CallService) -> CallService {
        let seen = self.0.clone();
        CallService::new(inner.map_request(move |mut outgoing: Outgoing| {
            seen.fetch_add(1, Ordering::SeqCst);
            let badge = format!("{}/{}", outgoing.service, outgoing.operation);
            outgoing.headers.set("x-badge", badge).unwrap();
            outgoing
        }))
    }
}

/// Lets nobody out.
struct Curfew;

impl Layer<CallService> for Curfew {
    type Service = CallService;

    fn layer(&self, _: CallService) -> CallService {
        CallService::new(service_fn(async |_: Outgoing| {
            Err(BoxError::from(Problem::new(451, "curfew", "stay at home")))
        }))
    }
}

async fn moody(request: Echo, State(shop): State<Arc<Shop>>) -> Result<String, DeskError> {
    shop.seen.fetch_add(1, Ordering::SeqCst);
    if shop.broken.load(Ordering::SeqCst) { Err(DeskError::Busy) } else { Ok(request.text) }
}

/// Answers when it gets a pass.
async fn wait(request: Echo, State(shop): State<Arc<Shop>>) -> Result<String, DeskError> {
    shop.seen.fetch_add(1, Ordering::SeqCst);
    shop.pass.acquire().await.unwrap().forget();
    Ok(request.text)
}

/// Opens after four calls of which two failed, for 200 milliseconds at first.
fn touchy() -> Breaker {
    let pause = Duration::from_millis(200);
    Breaker::default().opens_at(0.5, 4, Duration::from_secs(60)).pauses(pause, 2 * pause).probes(1)
}

fn with(stage: &Stage, calls: Calls) -> Ctx {
    Ctx::detached(&stage.caller.bus().with_calls(calls), "caller")
}

async fn ask(caller: &Ctx) -> Result<String, CallError<DeskError>> {
    caller.call(echo("")).no_retry().within(PATIENCE).await
}

fn is_open(outcome: &Result<String, CallError<DeskError>>) -> bool {
    matches!(outcome, Err(CallError::NotSent(error)) if error.kind() == Kind::CircuitOpen)
}
