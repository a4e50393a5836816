//! Streaming replies: whole and in order, bounded by credit, and ended on both sides whoever goes away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{Stream, StreamExt, stream};
use sinew::wire::header;
use sinew::{Deadline, State, StreamHandler, StreamRequest};

use super::seen::{Guard, Seen};
use super::*;
use crate::harness::{SOON, eventually};

mod broken;
mod foreign;
mod life;

/// Counts up, from 1 to `to`.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "counter.count", stream = Number, error = CounterError, idempotent, http = "GET /count")]
struct Count {
    to: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Number {
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Problem)]
enum CounterError {
    /// cannot count that far
    #[problem(status = 422)]
    TooFar { limit: u64 },
}

contract! {
    Counter = "counter" @ "1.0.0" { count: stream Count }
}

/// Counts on stage, and lets the test see what the service does.
struct Act {
    stage: Stage,
    seen: Arc<Seen>,
    counter: Running,
}

impl Act {
    async fn start<M: 'static>(handler: impl StreamHandler<Count, Arc<Seen>, M>) -> Self {
        Self::with(handler, |service| service).await
    }

    async fn with<M: 'static>(
        handler: impl StreamHandler<Count, Arc<Seen>, M>,
        configure: impl FnOnce(Service<Arc<Seen>>) -> Service<Arc<Seen>>,
    ) -> Self {
        let (stage, seen) = (Stage::start().await, Arc::new(Seen::default()));
        let service = Service::new("counter", seen.clone()).serve(Counter, |routes| routes.count(handler));
        let counter = stage.start_service(configure(service)).await;
        Self { stage, seen, counter }
    }

    fn count(&self, to: u64) -> sinew::StreamCall<Count> {
        self.stage.caller.stream(Count { to })
    }
}

/// The plainest handler.
fn count(request: Count, State(seen): State<Arc<Seen>>) -> impl Stream<Item = Result<Number, CounterError>> {
    let guard = Guard(seen);
    stream::iter(1..=request.to).map(move |value| {
        guard.0.made.fetch_add(1, Ordering::SeqCst);
        Ok(Number { value })
    })
}

/// Says `to` numbers and then nothing more, without an end.
fn count_and_hang(
    request: Count,
    state: State<Arc<Seen>>,
) -> impl Stream<Item = Result<Number, CounterError>> {
    count(request, state).chain(stream::pending())
}

/// Waits for a word before it opens the stream.
async fn count_when_told(
    request: Count,
    State(seen): State<Arc<Seen>>,
) -> Result<impl Stream<Item = Result<Number, CounterError>>, CounterError> {
    let guard = Guard(seen.clone());
    seen.made.fetch_add(1, Ordering::SeqCst);
    seen.go.notified().await;
    drop(guard);
    Ok(stream::iter(1..=request.to).map(|value| Ok(Number { value })))
}

async fn values(mut numbers: sinew::Streaming<Count>) -> Vec<u64> {
    let mut values = Vec::new();
    while let Some(number) = numbers.next().await {
        values.push(number.expect("an item").value);
    }
    values
}

#[tokio::test]
async fn ten_thousand_items_come_whole_and_in_order() {
    let act = Act::start(count).await;
    let numbers = act.count(10_000).await.unwrap();
    assert_eq!(values(numbers).await, (1..=10_000).collect::<Vec<_>>());
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_stream_may_be_empty_and_ends_once_and_for_all() {
    let act = Act::start(count).await;
    let mut numbers = act.count(0).await.unwrap();
    assert!(numbers.next().await.is_none());
    assert!(numbers.next().await.is_none());
}

#[tokio::test]
async fn a_stream_is_a_stream_for_every_combinator() {
    let act = Act::start(count).await;
    let numbers = act.count(1_000_000).await.unwrap();
    let sum = numbers.take(10).map(|number| number.unwrap().value).fold(0, async |sum, value| sum + value);
    assert_eq!(sum.await, 55);
}

#[tokio::test]
async fn nothing_is_made_that_nobody_asked_for() {
    let act = Act::start(count).await;
    let mut numbers = act.count(1_000_000).credit(10).await.unwrap();
    eventually(SOON, || std::future::ready(act.seen.made() == 10)).await;
    for taken in 1..=500 {
        assert_eq!(numbers.next().await.unwrap().unwrap().value, taken);
        assert!(act.seen.made() <= taken + 10, "{} made, {taken} taken", act.seen.made());
    }
    // All that were taken were made good for: the window is full again.
    eventually(SOON, || std::future::ready(act.seen.made() == 510)).await;
}

#[tokio::test]
async fn the_smallest_window_works() {
    let act = Act::start(count).await;
    let numbers = act.count(100).credit(0).await.unwrap();
    assert_eq!(values(numbers).await.len(), 100);
}

#[tokio::test]
async fn many_streams_run_at_once() {
    let act = Act::start(count).await;
    let streams = (1..=50).map(async |to| values(act.count(to).credit(3).await.unwrap()).await.len() as u64);
    let lengths = futures::future::join_all(streams).await;
    assert_eq!(lengths, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_comes_before_the_stream() {
    async fn refuse(request: Count) -> Result<stream::Empty<Result<Number, CounterError>>, CounterError> {
        Err(CounterError::TooFar { limit: request.to - 1 })
    }
    let act = Act::start(refuse).await;
    let error = act.count(8).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(CounterError::TooFar { limit: 7 })), "{error:?}");
}

#[tokio::test]
async fn an_error_in_the_middle_is_the_last_item() {
    let fail = |request: Count, state: State<Arc<Seen>>| {
        let error = CounterError::TooFar { limit: request.to };
        count(request, state).chain(stream::iter([Err(error), Ok(Number { value: 0 })]))
    };
    let act = Act::start(fail).await;
    let mut numbers = act.count(3).await.unwrap();
    for value in 1..=3 {
        assert_eq!(numbers.next().await.unwrap().unwrap(), Number { value });
    }
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Refused(CounterError::TooFar { limit: 3 })), "{error:?}");
    assert!(numbers.next().await.is_none());
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_panic_in_the_middle_is_answered_and_counted_and_harms_nobody_else() {
    let burst = |request: Count, state: State<Arc<Seen>>| {
        count(request, state).map(|number| match number {
            Ok(Number { value: 3 }) => panic!("burst on purpose"),
            other => other,
        })
    };
    let act = Act::start(burst).await;
    let mut numbers = act.count(9).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok() && numbers.next().await.unwrap().is_ok());
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Undeclared(told) if told.status == 500), "{error:?}");
    assert_eq!(values(act.count(2).await.unwrap()).await, [1, 2]);
}

#[tokio::test]
async fn an_item_the_bus_does_not_take_ends_the_stream_with_a_word() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "dump.lines", stream = String)]
    struct Lines {}
    contract! { Dump = "dump" @ "1.0.0" { lines: stream Lines } }
    fn lines(_: Lines) -> impl Stream<Item = Result<String, Problem>> {
        stream::iter([Ok("short".to_owned()), Ok("x".repeat(2 << 20))])
    }
    let stage = Stage::start().await;
    let _dump = stage.start_service(Service::new("dump", ()).serve(Dump, |dump| dump.lines(lines))).await;
    let mut lines = stage.caller.stream(Lines {}).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "short");
    let error = lines.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Refused(told) if told.code == "reply-too-large"), "{error:?}");
}

#[tokio::test]
async fn nobody_serving_is_told_at_once() {
    let stage = Stage::start().await;
    let error = stage.caller.stream(Count { to: 1 }).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders), "{error:?}");
}

#[tokio::test]
async fn a_generated_client_has_a_method_for_the_stream() {
    let act = Act::start(count).await;
    let counter = Counter::client(&act.stage.caller);
    assert_eq!(values(counter.count(Count { to: 3 }).credit(1).await.unwrap()).await, [1, 2, 3]);
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    assert_eq!(Desk::client(&stage.caller).echo(echo("hello")).await.unwrap(), "hello");
}

#[tokio::test]
async fn p4_the_deadline_bounds_the_whole_stream_and_reaches_the_handler() {
    let tell = |request: Count, deadline: Deadline, state: State<Arc<Seen>>| {
        assert!(deadline.remaining().is_some_and(|left| left <= Duration::from_millis(300)));
        count_and_hang(request, state)
    };
    let act = Act::start(tell).await;
    let mut numbers = act.count(2).within(Duration::from_millis(300)).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok() && numbers.next().await.unwrap().is_ok());
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn without_a_bound_there_is_no_deadline() {
    let tell = |request: Count, deadline: Deadline, state: State<Arc<Seen>>| {
        assert_eq!(deadline, Deadline::NONE);
        count(request, state)
    };
    let act = Act::start(tell).await;
    assert_eq!(values(act.count(2).await.unwrap()).await, [1, 2]);
}

#[tokio::test]
async fn a_running_stream_holds_one_hand() {
    let act = Act::with(count_and_hang, |service| service.limits(1, 0)).await;
    let mut first = act.count(1).await.unwrap();
    assert!(first.next().await.unwrap().is_ok());
    let error = act.count(1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Undeclared(told) if told.code == "overloaded" && told.retry),
        "{error:?}"
    );
    drop(first);
    act.seen.dropped(1).await;
    let again = eventually(SOON, || act.count(1).into_future()).await;
    assert!(act.count(1).await.is_err(), "the hand is taken again");
    drop(again);
}

#[tokio::test]
async fn a_time_limit_in_a_layer_bounds_the_opening_and_not_the_items() {
    let limit = Duration::from_millis(200);
    let slow = move |request: Count, state: State<Arc<Seen>>| {
        count(request, state).then(move |number| async move {
            // why: the items together have to take longer than the layer's limit.
            tokio::time::sleep(limit).await;
            number
        })
    };
    let act = Act::with(slow, |service| service.layer(tower::timeout::TimeoutLayer::new(limit))).await;
    assert_eq!(values(act.count(3).await.unwrap()).await, [1, 2, 3]);
}

#[tokio::test]
async fn an_operation_that_streams_says_so_in_its_description() {
    let act = Act::start(count).await;
    let descriptor = Count::descriptor();
    assert!(descriptor.stream && descriptor.idempotent);
    assert_eq!(descriptor.reply["properties"]["value"]["type"], "integer");
    assert!(serde_json::to_value(&descriptor).unwrap()["stream"].as_bool().unwrap());
    assert!(serde_json::to_value(Echo::descriptor()).unwrap().get("stream").is_none());
    let info =
        act.stage.caller.bus().request("$SRV.INFO.counter", &Headers::new(), Bytes::new(), PATIENCE).await;
    let info: serde_json::Value = serde_json::from_slice(info.unwrap().payload()).unwrap();
    assert_eq!(info["endpoints"][0]["metadata"]["stream"], "true");
}
