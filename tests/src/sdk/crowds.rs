//! More than a service can take at once: requests are turned away and told when to come back, events wait.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

use sinew::{Retry, State};
use tokio::task::JoinSet;

use super::*;
use crate::harness::eventually;

const CROWD: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_requests_are_answered_or_turned_away_and_never_left_waiting() {
    let stage = Stage::start().await;
    let desk = stage.start_service(desk((), take_time).limits(16, 512)).await;
    let mut calls = JoinSet::new();
    for _ in 0..CROWD {
        let call = stage.caller.call(echo("slow")).within(PATIENCE).no_retry().into_future();
        calls.spawn(call);
    }
    let (mut answered, mut turned_away) = (0, 0);
    while let Some(outcome) = calls.join_next().await {
        match outcome.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => {
                assert_eq!(error.to_problem().code, "overloaded", "{error:?}");
                assert!(error.retry_hint().is_some(), "it says when to come back");
                turned_away += 1;
            }
        }
    }
    assert_eq!(answered + turned_away, CROWD);
    assert!(answered >= 16 + 512, "the queue is used: {answered}");
    assert!(turned_away > 0, "the queue is bounded");
    desk.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_ten_thousand_slow_events_wait_and_none_is_lost() {
    let stage = Stage::start().await;
    let seen = Seen::default();
    let service = Service::new("slow", seen.clone())
        .on("reader", read_slowly, |group| group.concurrency(64).retry(Retry::never()));
    let _reader = stage.start_service(service).await;
    for numbers in (0..CROWD).collect::<Vec<_>>().chunks(500) {
        let published =
            numbers.iter().map(|number| stage.caller.publish(Noted { number: *number }).into_future());
        futures::future::try_join_all(published).await.unwrap();
    }
    let all = || std::future::ready(seen.0.lock().unwrap().len() == CROWD as usize);
    eventually(PATIENCE, all).await;
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<u32>>>);

async fn take_time(request: Echo) -> Result<String, DeskError> {
    // why: the work of a slow handler.
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(request.text)
}

async fn read_slowly(event: Noted, State(seen): State<Seen>) -> Result<(), Problem> {
    // why: the work of a slow handler.
    tokio::time::sleep(Duration::from_millis(2)).await;
    seen.0.lock().unwrap().insert(event.number);
    Ok(())
}
