//! How calls are tried again: for idempotent operations, within deadline and budget; hedges and fallbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt;
use sinew::{CallRetry, Calls, Kind, Policy, State};

use super::*;
use crate::harness::{SOON, eventually};

/// Takes something away, which is not the same when done twice.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "till.take", reply = u32)]
struct Take {}

/// Looks, which may be repeated.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "till.look", reply = u32, idempotent)]
struct Look {}

contract! { Till = "till" @ "1.0.0" { take: Take, look: Look } }

type Count = Arc<AtomicUsize>;

#[tokio::test]
async fn an_idempotent_call_is_tried_again_until_it_works() {
    let stage = Stage::start().await;
    let seen = Count::default();
    let third_time = async |_: Echo, State(seen): State<Count>| match seen.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(DeskError::Busy),
        _ => Ok("at last".to_owned()),
    };
    let _desk = stage.start_service(desk(seen.clone(), third_time)).await;
    assert_eq!(stage.caller.call(echo("")).await.unwrap(), "at last");
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let stage = Stage::start().await;
    let seen = Count::default();
    let refuse = async |_: Echo, State(seen): State<Count>| {
        seen.fetch_add(1, Ordering::SeqCst);
        Err::<String, _>(DeskError::OutOfStock { sku: "tea".to_owned() })
    };
    let _desk = stage.start_service(desk(seen.clone(), refuse)).await;
    assert!(matches!(stage.caller.call(echo("")).await, Err(CallError::Refused(_))));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_is_not_idempotent_is_never_sent_twice() {
    let stage = Stage::start().await;
    let seen = Count::default();
    let _till = stage.start_service(till(seen.clone())).await;
    assert!(stage.caller.call(Take {}).await.unwrap_err().is_retryable());
    assert_eq!(seen.load(Ordering::SeqCst), 1, "although the answer was: try again");
    for wish in [
        stage.caller.call(Take {}).retry(CallRetry::times(1)),
        stage.caller.call(Take {}).hedge_after(Duration::from_millis(1)),
    ] {
        let error = wish.await.unwrap_err();
        assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::Config), "{error:?}");
        assert!(error.to_string().contains("idempotency key"), "it says what to do: {error}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1, "what is refused is not sent at all");
}

#[tokio::test]
async fn an_idempotency_key_makes_a_call_repeatable() {
    let stage = Stage::start().await;
    let seen = Count::default();
    let _till = stage.start_service(till(seen.clone())).await;
    let retry = CallRetry::times(2).backoff(Duration::from_millis(1), Duration::from_millis(1));
    let _ = stage.caller.call(Take {}).idempotency_key("k-1").retry(retry).await.unwrap_err();
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn retries_do_not_exceed_the_budget_in_an_outage() {
    let stage = Stage::start().await;
    let seen = Count::default();
    let _till = stage.start_service(till(seen.clone())).await;
    let retry = CallRetry::times(3).backoff(Duration::from_millis(1), Duration::from_millis(4));
    let calls = Calls::new().to("till", Policy::new().retry(retry));
    let caller = Ctx::detached(&stage.caller.bus().with_calls(calls), "caller");
    let began = Instant::now();
    let failed = futures::stream::iter(0..1_000)
        .map(|_| async { usize::from(caller.call(Look {}).await.is_err()) })
        .buffer_unordered(50)
        .fold(0, |sum, failed| std::future::ready(sum + failed));
    assert_eq!(failed.await, 1_000);
    // A fifth of the calls, and ten a second with one second's worth in hand.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let retries = seen.load(Ordering::SeqCst) - 1_000;
    assert!(retries <= 200 + 10 * seconds, "{retries} retries, three of each call were wanted");
    assert!(retries >= 190, "what the budget allows is used: {retries}");
}

#[tokio::test]
async fn a_retry_comes_no_sooner_than_it_was_told_to() {
    let stage = Stage::start().await;
    const PAUSE: Duration = Duration::from_millis(300);
    let busy_once = async |_: Look, State(seen): State<Count>| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Problem::new(503, "busy", "busy").retry_after(PAUSE)),
        _ => Ok(7),
    };
    let till = Service::new("till", Count::default()).serve(Till, |till| till.take(never).look(busy_once));
    let _till = stage.start_service(till).await;
    let began = Instant::now();
    assert_eq!(stage.caller.call(Look {}).await.unwrap(), 7);
    assert!(began.elapsed() >= PAUSE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_retry_that_would_come_too_late_is_not_waited_for() {
    let stage = Stage::start().await;
    let closed = async |_: Look, State(_): State<Count>| {
        Err::<u32, _>(Problem::new(503, "closed", "closed").retry_after(Duration::from_secs(600)))
    };
    let till = Service::new("till", Count::default()).serve(Till, |till| till.take(never).look(closed));
    let _till = stage.start_service(till).await;
    let told = tokio::time::timeout(SOON, stage.caller.call(Look {}).within(PATIENCE)).await;
    let error = told.expect("an answer long before the deadline").unwrap_err();
    assert_eq!(error.retry_hint(), Some(Duration::from_secs(600)), "the caller may do better: {error:?}");
}

#[tokio::test]
async fn a_call_that_was_shed_is_told_when_to_come_back() {
    let stage = Stage::start().await;
    let hall = Arc::new(tokio::sync::Semaphore::new(0));
    let wait = async |request: Echo, State(hall): State<Arc<tokio::sync::Semaphore>>| {
        let _pass = hall.acquire().await.unwrap();
        Ok::<_, DeskError>(request.text)
    };
    let _desk = stage.start_service(desk(hall.clone(), wait).limits(1, 0)).await;
    let (in_work, ()) = tokio::join!(stage.call("in work"), async {
        let shed =
            async || stage.call("shed").await.err().filter(|error| error.to_problem().code == "overloaded");
        let error = eventually(SOON, shed).await;
        assert!(error.retry_hint().is_some_and(|pause| pause >= Duration::from_millis(20)), "{error:?}");
        let patient = CallRetry::times(1_000);
        let again = stage.caller.call(echo("again")).retry(patient).within(PATIENCE);
        let (again, ()) = tokio::join!(again.into_future(), async { hall.add_permits(1) });
        assert_eq!(again.unwrap(), "again");
    });
    assert_eq!(in_work.unwrap(), "in work");
}

#[tokio::test]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let stage = Stage::start().await;
    let _desk = stage.start_service(desk(Arc::default(), hang_once)).await;
    let retry = CallRetry::times(1).attempt_within(Duration::from_millis(100));
    assert_eq!(stage.caller.call(echo("second")).retry(retry).within(PATIENCE).await.unwrap(), "second");
}

#[tokio::test]
async fn the_first_answer_of_a_hedged_call_wins_and_the_loser_is_cancelled() {
    let stage = Stage::start().await;
    let log: Arc<Log> = Arc::default();
    let _desk = stage.start_service(desk(log.clone(), hang_once)).await;
    let call =
        stage.caller.call(echo("second")).no_retry().hedge_after(Duration::from_millis(50)).within(PATIENCE);
    assert_eq!(call.await.unwrap(), "second");
    eventually(SOON, || std::future::ready(log.given_up.load(Ordering::SeqCst) == 1)).await;
    assert_eq!(log.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_prompt_answer_is_not_hedged_and_a_spent_budget_hedges_nothing() {
    let stage = Stage::start().await;
    let log: Arc<Log> = Arc::default();
    log.begun.store(1, Ordering::SeqCst);
    let _desk = stage.start_service(desk(log.clone(), hang_once)).await;
    let prompt = stage.caller.call(echo("")).hedge_after(Duration::from_secs(10));
    prompt.await.unwrap();
    assert_eq!(log.begun.load(Ordering::SeqCst), 2, "asked once");
    log.begun.store(0, Ordering::SeqCst);
    let calls = Calls::new().to("desk", Policy::new().retry_budget(0, 0));
    let poor = Ctx::detached(&stage.caller.bus().with_calls(calls), "caller");
    let hedged =
        poor.call(echo("")).hedge_after(Duration::from_millis(20)).within(Duration::from_millis(300));
    assert!(matches!(hedged.await, Err(CallError::TimedOut)));
    assert_eq!(log.begun.load(Ordering::SeqCst), 1, "nothing paid for a second request");
}

#[tokio::test]
async fn a_fallback_stands_in_for_a_failure_and_never_for_a_refusal() {
    let stage = Stage::start().await;
    let instead = || "instead".to_owned();
    let nobody = stage.caller.call(echo("")).no_retry().fallback(instead()).await;
    assert_eq!(nobody.unwrap(), "instead");
    let refuse = async |request: Echo| {
        if request.text == "busy" {
            return Err::<String, _>(DeskError::Busy);
        }
        Err(DeskError::OutOfStock { sku: "tea".to_owned() })
    };
    let _desk = stage.serve(refuse).await;
    let busy = stage.caller.call(echo("busy")).no_retry().fallback(instead()).await;
    assert_eq!(busy.unwrap(), "instead");
    let refused = stage.caller.call(echo("")).fallback(instead()).await;
    assert!(matches!(refused, Err(CallError::Refused(DeskError::OutOfStock { .. }))), "{refused:?}");
    let decided = stage.caller.call(echo("")).or_else(|error| async move {
        match error {
            CallError::Refused(DeskError::OutOfStock { sku }) => Ok(format!("no {sku}")),
            other => Err(other),
        }
    });
    assert_eq!(decided.await.unwrap(), "no tea");
}

/// What became of the requests of [`hang_once`].
#[derive(Default)]
struct Log {
    begun: AtomicUsize,
    given_up: AtomicUsize,
}

struct Work(Arc<Log>, bool);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

/// Never answers the first request, and every other one at once.
async fn hang_once(request: Echo, State(log): State<Arc<Log>>) -> Result<String, DeskError> {
    let first = log.begun.fetch_add(1, Ordering::SeqCst) == 0;
    let mut work = Work(log, false);
    if first {
        std::future::pending::<()>().await;
    }
    work.1 = true;
    Ok(request.text)
}

/// A till that counts who comes and turns everybody away.
fn till(seen: Count) -> Service<Count> {
    async fn refuse(seen: Count) -> Result<u32, Problem> {
        seen.fetch_add(1, Ordering::SeqCst);
        Err(Problem::new(503, "closed", "closed").retriable())
    }
    Service::new("till", seen).serve(Till, |till| {
        till.take(async |_: Take, State(seen): State<Count>| refuse(seen).await)
            .look(async |_: Look, State(seen): State<Count>| refuse(seen).await)
    })
}

async fn never(_: Take) -> Result<u32, Problem> {
    Err(Problem::new(500, "unexpected", "unexpected"))
}
