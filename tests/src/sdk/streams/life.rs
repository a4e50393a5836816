//! Who goes away is noticed: the caller by the service, the service by the caller. Who is only slow is not.

use super::*;

/// Short enough for a test, long enough for a busy machine.
const IDLE: Duration = Duration::from_millis(900);

#[tokio::test]
async fn dropping_the_stream_drops_the_handlers() {
    let act = Act::start(count_and_hang).await;
    let mut numbers = act.count(1).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    drop(numbers);
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn dropping_the_stream_reaches_a_handler_that_waits_for_credit() {
    let act = Act::start(count).await;
    let numbers = act.count(1_000_000).credit(4).await.unwrap();
    eventually(SOON, || std::future::ready(act.seen.made() == 4)).await;
    drop(numbers);
    act.seen.dropped(1).await;
    assert_eq!(act.seen.made(), 4);
}

#[tokio::test]
async fn giving_up_before_the_stream_is_open_reaches_the_handler() {
    let act = Act::start(count_when_told).await;
    let opening = tokio::spawn(act.count(1).idle(IDLE).into_future());
    eventually(SOON, || std::future::ready(act.seen.made() == 1)).await;
    opening.abort();
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_handler_that_takes_its_time_to_open_is_waited_for() {
    let act = Act::start(count_when_told).await;
    let opening = tokio::spawn(act.count(3).idle(IDLE).into_future());
    // why: only time that goes by shows that signs of life keep the call from being given up.
    tokio::time::sleep(IDLE * 2).await;
    act.seen.go.notify_one();
    assert_eq!(values(opening.await.unwrap().unwrap()).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_slow_producer_is_no_dead_one() {
    let slow = |request: Count, state: State<Arc<Seen>>| {
        count(request, state).then(|number| async move {
            // why: only time that goes by shows that signs of life keep the stream from being given up.
            tokio::time::sleep(IDLE * 2).await;
            number
        })
    };
    let act = Act::start(slow).await;
    assert_eq!(values(act.count(2).idle(IDLE).await.unwrap()).await, [1, 2]);
}

#[tokio::test]
async fn a_slow_consumer_is_no_dead_one() {
    let act = Act::start(count).await;
    let mut numbers = act.count(5).idle(IDLE).credit(1).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    // why: only time that goes by shows that signs of life keep the service from giving up.
    tokio::time::sleep(IDLE * 2).await;
    assert_eq!(values(numbers).await, [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_caller_whose_connection_ends_ends_the_stream() {
    let act = Act::start(count_and_hang).await;
    let bus = connect(&act.stage.harness, "short").await;
    let mut numbers = Ctx::detached(&bus, "short").stream(Count { to: 1 }).idle(IDLE).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    bus.close().await;
    act.seen.dropped(1).await;
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Interrupted(_)), "{error:?}");
    assert!(numbers.next().await.is_none());
}

#[tokio::test]
async fn a_caller_that_falls_silent_ends_the_stream() {
    let act = Act::start(count_and_hang).await;
    let mut hung = foreign::Foreign::connect(&act.stage).await;
    hung.ask(r#"{"to":1}"#, &[(header::CREDIT, "5"), (header::IDLE, "300")]).await;
    assert!(hung.next().await.header(header::SEQ).is_some());
    // Its subscription stands, so the server knows nothing of it.
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_service_whose_connection_ends_ends_the_stream_with_an_error() {
    let act = Act::start(count_and_hang).await;
    let mut numbers = act.count(1).idle(IDLE).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    act.stage.bus.close().await;
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Interrupted(_) | CallError::TimedOut), "{error:?}");
    assert!(error.is_unknown());
    assert!(numbers.next().await.is_none());
}

#[tokio::test]
async fn a_server_that_dies_ends_the_stream_on_both_sides() {
    let mut act = Act::start(count_and_hang).await;
    let mut numbers = act.count(1).idle(IDLE).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    act.stage.harness.kill().await;
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_short_outage_of_the_server_is_no_loss_nobody_notices() {
    let mut act = Act::start(count).await;
    let mut numbers = act.count(100_000).credit(16).await.unwrap();
    let mut taken = 0;
    for _ in 0..100 {
        taken += 1;
        assert_eq!(numbers.next().await.unwrap().unwrap().value, taken);
    }
    act.stage.harness.kill().await;
    act.stage.harness.revive().await;
    // What was under way may be lost; then the stream ends with an error and not with a hole.
    while let Some(number) = numbers.next().await {
        match number {
            Ok(number) => {
                taken += 1;
                assert_eq!(number.value, taken);
            }
            Err(error) => {
                assert!(error.is_unknown(), "{error:?}");
                return;
            }
        }
    }
    assert_eq!(taken, 100_000);
}

#[tokio::test]
async fn p5_draining_lets_a_stream_finish() {
    let slow = |request: Count, State(seen): State<Arc<Seen>>| {
        count(request, State(seen.clone())).then(move |number| {
            let seen = seen.clone();
            async move {
                seen.go.notified().await;
                number
            }
        })
    };
    let act = Act::start(slow).await;
    let mut numbers = act.count(3).await.unwrap();
    act.seen.go.notify_one();
    assert!(numbers.next().await.unwrap().is_ok());
    let (rest, ()) = tokio::join!(
        async {
            let mut rest = Vec::new();
            for _ in 0..2 {
                act.seen.go.notify_one();
                rest.push(numbers.next().await.unwrap().unwrap().value);
            }
            assert!(numbers.next().await.is_none());
            rest
        },
        act.counter.drain(),
    );
    assert_eq!(rest, [2, 3]);
}

#[tokio::test]
async fn p5_a_stream_that_outlasts_the_drain_ends_with_a_word() {
    let brief = |service: Service<Arc<Seen>>| service.drain_within(Duration::from_millis(100));
    let act = Act::with(count_and_hang, brief).await;
    let mut numbers = act.count(1).await.unwrap();
    assert!(numbers.next().await.unwrap().is_ok());
    act.counter.drain().await;
    let error = numbers.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, CallError::Undeclared(told) if told.code == "draining" && told.retry),
        "{error:?}"
    );
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn p5_an_ended_stream_leaves_no_task() {
    let act = Act::start(count).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..10 {
        assert_eq!(values(act.count(3).await.unwrap()).await.len(), 3);
        drop(act.count(1_000).await.unwrap());
    }
    eventually(SOON, || std::future::ready(tasks() <= before)).await;
}
