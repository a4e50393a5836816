//! Who goes away is noticed: the caller by the service, the service by the caller. Who is only slow is not.

use async_nats::{HeaderName, HeaderValue};

use super::*;

/// Short enough for a test, long enough for a busy machine.
const IDLE: Duration = Duration::from_millis(900);

/// Takes until the end, and notes what the end was.
async fn note_the_end(
    _: Add,
    mut items: Upload<Summand>,
    ctx: Ctx,
    State(seen): State<Arc<Seen>>,
) -> Result<Sum, AdderError> {
    let work = async move {
        let guard = Guard(seen);
        while let Some(item) = items.next().await {
            match item {
                Ok(_) => guard.0.taken.fetch_add(1, Ordering::SeqCst),
                Err(problem) => return Err(AdderError::Other(problem)),
            };
        }
        panic!("the upload came to its end, although its caller did not");
    };
    let outcome = ctx.shield(work).await;
    assert!(matches!(&outcome, Err(AdderError::Other(told)) if told.code == "upload-interrupted"));
    outcome
}

fn numbers_without_end(act: &Act) -> impl Stream<Item = Summand> + Send + use<> {
    act.numbers(3).chain(stream::pending())
}

#[tokio::test]
async fn dropping_the_call_drops_the_handler_and_ends_what_was_moved_elsewhere_with_an_error() {
    let act = Act::start(note_the_end).await;
    let call = act.stage.caller.upload(Add { start: 0 }, numbers_without_end(&act));
    let call = tokio::spawn(call.into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    call.abort();
    // The stream of items and the shielded work.
    act.seen.dropped(2).await;
}

#[tokio::test]
async fn dropping_the_call_reaches_a_handler_that_takes_nothing() {
    let act = Act::start(take_and_hang).await;
    let call = tokio::spawn(act.add(1_000_000).into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    call.abort();
    act.seen.dropped(2).await;
}

#[tokio::test]
async fn p4_the_deadline_bounds_the_whole_upload_and_reaches_the_handler() {
    let tell = |request: Add, items: Upload<Summand>, deadline: Deadline, state: State<Arc<Seen>>| {
        assert!(deadline.remaining().is_some_and(|left| left <= Duration::from_millis(300)));
        add(request, items, state)
    };
    let act = Act::start(tell).await;
    let call = act.stage.caller.upload(Add { start: 0 }, numbers_without_end(&act));
    let error = call.within(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    act.seen.dropped(2).await;
}

#[tokio::test]
async fn without_a_bound_there_is_no_deadline() {
    let tell = |request: Add, items: Upload<Summand>, deadline: Deadline, state: State<Arc<Seen>>| {
        assert_eq!(deadline, Deadline::NONE);
        add(request, items, state)
    };
    let act = Act::start(tell).await;
    assert_eq!(act.add(2).await.unwrap(), sum_to(2));
}

#[tokio::test]
async fn a_slow_producer_and_a_slow_handler_are_no_dead_ones() {
    let slow = |request: Add, items: Upload<Summand>, state: State<Arc<Seen>>| async move {
        let sum = add(request, items, state).await;
        // why: only time that goes by shows that signs of life keep the call from being given up.
        tokio::time::sleep(IDLE * 2).await;
        sum
    };
    let act = Act::start(slow).await;
    let items = act.numbers(2).then(|item| async move {
        // why: only time that goes by shows that signs of life keep the upload from being given up.
        tokio::time::sleep(IDLE * 2).await;
        item
    });
    assert_eq!(act.stage.caller.upload(Add { start: 0 }, items).idle(IDLE).await.unwrap(), sum_to(2));
}

#[tokio::test]
async fn a_handler_that_waits_before_it_takes_is_waited_for() {
    let act = Act::start(add_when_told).await;
    let call = tokio::spawn(act.add(100).idle(IDLE).into_future());
    // why: only time that goes by shows that signs of life keep both sides from giving up.
    tokio::time::sleep(IDLE * 2).await;
    act.seen.go.notify_one();
    assert_eq!(call.await.unwrap().unwrap(), sum_to(100));
}

#[tokio::test]
async fn a_caller_whose_connection_ends_ends_the_upload_with_an_error() {
    let act = Act::start(note_the_end).await;
    let bus = connect(&act.stage.harness, "short").await;
    let caller = Ctx::detached(&bus, "short");
    let call =
        tokio::spawn(caller.upload(Add { start: 0 }, numbers_without_end(&act)).idle(IDLE).into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    bus.close().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    act.seen.dropped(2).await;
}

#[tokio::test]
async fn a_caller_that_falls_silent_ends_the_upload() {
    let act = Act::start(note_the_end).await;
    // Its subscription stands, so the server knows nothing of it.
    let bus = act.stage.caller.bus();
    let inbox = bus.new_inbox();
    let mut words = bus.subscribe(&inbox, None).await.unwrap();
    let raw = async_nats::connect(act.stage.harness.url()).await.unwrap();
    let headers = headers(&[(header::UPLOAD, "items"), (header::IDLE, "300")]);
    raw.publish_with_reply_and_headers(Add::SUBJECT, inbox, headers, r#"{"start":0}"#.into()).await.unwrap();
    let word = words.next().await.unwrap();
    assert_eq!(word.payload().as_ref(), b"=8");
    act.seen.dropped(1).await;
    let reply = loop {
        let message = words.next().await.unwrap();
        if message.reply_to().is_none() {
            break message;
        }
    };
    assert_eq!(problem(&reply).code, "upload-interrupted");
}

#[tokio::test]
async fn a_lost_item_is_noticed_and_stops_the_sender() {
    let act = Act::start(note_the_end).await;
    let bus = act.stage.caller.bus();
    let inbox = bus.new_inbox();
    let mut words = bus.subscribe(&inbox, None).await.unwrap();
    let raw = async_nats::connect(act.stage.harness.url()).await.unwrap();
    let upload = headers(&[(header::UPLOAD, "items")]);
    raw.publish_with_reply_and_headers(Add::SUBJECT, inbox, upload, r#"{"start":0}"#.into()).await.unwrap();
    let to = words.next().await.unwrap().reply_to().unwrap().to_owned();
    for number in ["1", "3"] {
        let numbered = headers(&[(header::SEQ, number)]);
        raw.publish_with_headers(to.clone(), numbered, r#"{"value":1}"#.into()).await.unwrap();
    }
    let stop = words.next().await.unwrap();
    assert_eq!(stop.payload().as_ref(), b"-");
    let reply = words.next().await.unwrap();
    let told = problem(&reply);
    assert_eq!(told.detail.as_deref(), Some("1 items were lost on the way"));
    assert_eq!(act.seen.taken(), 1);
}

#[tokio::test]
async fn a_service_whose_connection_ends_ends_the_upload() {
    let act = Act::start(take_and_hang).await;
    let call = act.stage.caller.upload(Add { start: 0 }, numbers_without_end(&act));
    let call = tokio::spawn(call.idle(IDLE).into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    act.stage.bus.close().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_dies_ends_the_upload_on_both_sides() {
    let mut act = Act::start(note_the_end).await;
    let call = act.stage.caller.upload(Add { start: 0 }, numbers_without_end(&act));
    let call = tokio::spawn(call.idle(IDLE).into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    act.stage.harness.kill().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    act.seen.dropped(2).await;
}

#[tokio::test]
async fn p5_draining_lets_an_upload_finish() {
    let act = Act::start(add_when_told).await;
    let call = tokio::spawn(act.add(500).into_future());
    eventually(SOON, || std::future::ready(act.seen.made() == 8)).await;
    let go = async { act.seen.go.notify_one() };
    tokio::join!(act.adder.drain(), go);
    assert_eq!(call.await.unwrap().unwrap(), sum_to(500));
}

#[tokio::test]
async fn p5_an_upload_that_outlasts_the_drain_ends_with_a_word() {
    let brief = |service: Service<Arc<Seen>>| service.drain_within(Duration::from_millis(100));
    let act = Act::with(add, brief).await;
    let call = act.stage.caller.upload(Add { start: 0 }, numbers_without_end(&act));
    let call = tokio::spawn(call.into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    act.adder.drain().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, CallError::Refused(AdderError::Other(told)) if told.code == "draining" && told.retry),
        "{error:?}"
    );
}

#[tokio::test]
async fn p5_an_ended_upload_leaves_no_task() {
    let act = Act::start(add).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..10 {
        assert_eq!(act.add(3).await.unwrap(), sum_to(3));
        drop(act.add(1_000).into_future());
    }
    eventually(SOON, || std::future::ready(tasks() <= before)).await;
}

/// Headers as another client writes them.
fn headers(pairs: &[(&str, &str)]) -> async_nats::HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}
