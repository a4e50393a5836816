//! Promise 4: no reply after the deadline counts as success.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sinew::{Deadline, Kind, State};
use tokio::sync::Semaphore;

use super::*;
use crate::harness::{SOON, eventually};

const SHORT: Duration = Duration::from_millis(80);

#[tokio::test]
async fn p4_a_handler_that_outlives_the_deadline_is_no_success() {
    let stage = Stage::start().await;
    let given_up = Arc::new(AtomicUsize::new(0));
    let never = async |_: Echo, State(given_up): State<Arc<AtomicUsize>>| {
        let _guard = OnDrop(given_up);
        std::future::pending::<Result<String, DeskError>>().await
    };
    let _desk = stage.start_service(desk(given_up.clone(), never)).await;
    let error = stage.caller.call(echo("")).within(SHORT).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    assert!(error.is_unknown() && error.is_retryable());
    assert_eq!(error.to_problem().status, 504);
    eventually(SOON, || std::future::ready(given_up.load(Ordering::SeqCst) == 1)).await;
}

#[tokio::test]
async fn p4_the_service_itself_answers_504_when_the_budget_is_spent() {
    let stage = Stage::start().await;
    let never = async |_: Echo| std::future::pending::<Result<String, DeskError>>().await;
    let _desk = stage.serve(never).await;
    // The requester waits longer than the budget it names, as a caller with a slow clock would.
    let reply = stage.request(&[("Sinew-Timeout", "80")], r#"{"text":""}"#).await;
    let told = problem(&reply);
    assert_eq!((told.status, told.code.as_str(), told.retry), (504, "deadline-exceeded", false));
}

#[tokio::test]
async fn p4_a_handler_that_ends_after_the_deadline_is_no_success() {
    let stage = Stage::start().await;
    let slow = async |_: Echo, deadline: Deadline| {
        // It never waits, so nothing can stop it: its reply is ready when the deadline has long passed.
        while !deadline.has_passed() {
            std::hint::spin_loop();
        }
        Ok("late".to_owned())
    };
    let _desk = stage.serve(slow).await;
    let reply = stage.request(&[("Sinew-Timeout", "80")], r#"{"text":""}"#).await;
    assert_eq!(problem(&reply).status, 504);
}

#[tokio::test]
async fn p4_a_reply_that_comes_late_is_nobodys() {
    let stage = Stage::start().await;
    // A service of another stack, which knows of no deadline.
    let mut requests = stage.bus.subscribe(Echo::SUBJECT, None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let error = stage.caller.call(echo("first")).within(SHORT).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    let first = requests.next().await.unwrap();
    let answer_both = async {
        let second = requests.next().await.unwrap();
        for (request, reply) in [(first, "\"too late\""), (second, "\"in time\"")] {
            stage.bus.publish(request.reply_to().unwrap(), &Headers::new(), reply.into()).await.unwrap();
        }
    };
    let (reply, ()) = tokio::join!(stage.call("second"), answer_both);
    assert_eq!(reply.unwrap(), "in time");
}

#[tokio::test]
async fn p4_a_reply_that_waited_for_a_busy_caller_is_no_success() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let caller = stage.caller.bus();
    let (headers, payload) = (Headers::new(), Bytes::from_static(br#"{"text":""}"#));
    let mut request = std::pin::pin!(caller.request(Echo::SUBJECT, &headers, payload, SHORT));
    assert!(futures::poll!(&mut request).is_pending(), "it has been sent");
    let began = Instant::now();
    while began.elapsed() <= SHORT {
        // Everybody else works; only this task does not look at its reply.
        tokio::task::yield_now().await;
    }
    assert_eq!(request.await.unwrap_err().kind(), Kind::TimedOut);
}

#[tokio::test]
async fn p4_the_deadline_shrinks_from_hop_to_hop() {
    let stage = Stage::start().await;
    let _desk = stage.serve(left).await;
    let _front =
        stage.start_service(Service::new("front", ()).serve(Front, |front| front.ask(pass_on))).await;
    let ask = |within| Ask { within };
    let [outer, inner]: [u64; 2] =
        stage.caller.call(ask(60_000)).within(Duration::from_secs(20)).await.unwrap();
    assert!(outer <= 20_000 && inner <= outer, "{inner} of {outer} of 20,000 ms");
    assert!(inner > 1_000, "it is a rest, not nothing: {inner}");
    let [outer, inner]: [u64; 2] = stage.caller.call(ask(700)).within(Duration::from_secs(20)).await.unwrap();
    assert!(inner <= 700 && outer > 1_000, "the shorter wish holds: {inner} of {outer}");
}

#[tokio::test]
async fn p4_a_call_beyond_the_deadline_is_not_sent() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let spent = async |_: Ask, ctx: Ctx| {
        while !ctx.deadline().has_passed() {
            std::hint::spin_loop();
        }
        let error = ctx.call(echo("")).await.unwrap_err();
        assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::TimedOut), "{error:?}");
        let kind = ctx.publish(Noted { number: 1 }).await.unwrap_err().kind();
        assert_eq!(kind, Kind::TimedOut);
        ctx.bus().publish("test.done", &Headers::new(), Bytes::new()).await.unwrap();
        Ok::<_, Problem>([0, 0])
    };
    let mut done = stage.caller.bus().subscribe("test.done", None).await.unwrap();
    stage.caller.bus().barrier().await.unwrap();
    let _front = stage.start_service(Service::new("front", ()).serve(Front, |front| front.ask(spent))).await;
    let headers = Headers::new();
    let mut budget = headers.clone();
    budget.set("Sinew-Timeout", "300").unwrap();
    let payload = Bytes::from_static(br#"{"within":1}"#);
    let reply = stage.caller.bus().request(Ask::SUBJECT, &budget, payload, PATIENCE).await.unwrap();
    assert_eq!(problem(&reply).status, 504);
    let _ = tokio::time::timeout(SOON, done.next()).await.expect("every assertion in the handler held");
    let stored = stage.caller.bus().stream_state(sinew::EVENTS).await;
    assert!(stored.is_err(), "the streams were not even asked for: {stored:?}");
}

#[tokio::test]
async fn p4_a_request_that_expired_in_the_queue_is_not_begun() {
    let stage = Stage::start().await;
    let hall = Arc::new(Hall { begun: AtomicUsize::new(0), pass: Semaphore::new(0) });
    let desk = stage.start_service(desk(hall.clone(), queue_up).limits(1, 10)).await;
    let first = stage.call("first");
    let second = async {
        eventually(SOON, || std::future::ready(hall.begun.load(Ordering::SeqCst) == 1)).await;
        let error = stage.caller.call(echo("second")).within(SHORT).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut), "{error:?}");
        // why: the same budget began a little later in the service than in the caller, and has to be over there too.
        tokio::time::sleep(SHORT).await;
        hall.pass.add_permits(10);
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), "first");
    desk.drain().await;
    assert_eq!(hall.begun.load(Ordering::SeqCst), 1, "nobody waited for the second one any more");
}

/// Asks the desk, waiting at most so many milliseconds, how much time it had.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "front.ask", reply = [u64; 2])]
struct Ask {
    within: u64,
}

contract! { Front = "front" @ "1.0.0" { ask: Ask } }

struct Hall {
    begun: AtomicUsize,
    pass: Semaphore,
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers how many milliseconds are left.
async fn left(_: Echo, deadline: Deadline) -> Result<String, DeskError> {
    Ok(deadline.remaining().unwrap().as_millis().to_string())
}

async fn pass_on(request: Ask, ctx: Ctx) -> Result<[u64; 2], Problem> {
    let own = u64::try_from(ctx.deadline().remaining().unwrap().as_millis()).unwrap();
    let inner = ctx.call(echo("")).within(Duration::from_millis(request.within)).await;
    Ok([own, inner.map_err(|error| error.to_problem())?.parse().unwrap()])
}

async fn queue_up(request: Echo, State(hall): State<Arc<Hall>>) -> Result<String, DeskError> {
    hall.begun.fetch_add(1, Ordering::SeqCst);
    let _pass = hall.pass.acquire().await.unwrap();
    Ok(request.text)
}
