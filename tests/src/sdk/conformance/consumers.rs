//! Durable consumers: what is out, what comes again, and what never does.

use sinew::bus::{Delivery, Pull};

use super::*;

pub(super) async fn a_message_is_out_until_it_is_acknowledged(backend: Backend) {
    let mut pull = filled(&backend, 2).await;
    let (first, second) = (next(&mut pull).await, next(&mut pull).await);
    assert_eq!((first.sequence, first.attempt, second.sequence, second.attempt), (1, 1, 2, 1));
    assert_eq!(first.message.subject(), backend.subject("a"));
    first.ack().await.unwrap();
    second.ack().await.unwrap();
    nothing_comes(&backend, &mut pull).await;
}

pub(super) async fn what_is_handed_back_comes_again_after_its_delay(backend: Backend) {
    let mut pull = filled(&backend, 1).await;
    next(&mut pull).await.nak(Duration::ZERO).await.unwrap();
    let again = next(&mut pull).await;
    assert_eq!(again.attempt, 2);
    again.nak(Duration::from_secs(1)).await.unwrap();
    let began = backend.bus.now().as_millisecond();
    after(&backend, Duration::from_secs(1)).await;
    let last = next(&mut pull).await;
    assert_eq!(last.attempt, 3);
    let waited = backend.bus.now().as_millisecond() - began;
    assert!(waited >= 950, "it came after {waited} ms");
    last.ack().await.unwrap();
    nothing_comes(&backend, &mut pull).await;
}

pub(super) async fn silence_is_taken_for_failure(backend: Backend) {
    let mut pull =
        filled_for(&backend, 1, |config| PullConfig { ack_wait: Duration::from_secs(1), ..config }).await;
    let silent = next(&mut pull).await;
    after(&backend, Duration::from_secs(1)).await;
    let again = next(&mut pull).await;
    assert_eq!((silent.sequence, again.sequence, again.attempt), (1, 1, 2));
    again.ack().await.unwrap();
}

pub(super) async fn progress_holds_the_message(backend: Backend) {
    let mut pull =
        filled_for(&backend, 1, |config| PullConfig { ack_wait: Duration::from_secs(2), ..config }).await;
    let held = next(&mut pull).await;
    for _ in 0..3 {
        after(&backend, Duration::from_secs(1)).await;
        held.progress().await.unwrap();
    }
    held.ack().await.unwrap();
    nothing_comes(&backend, &mut pull).await;
}

pub(super) async fn what_is_terminated_never_comes_again(backend: Backend) {
    let mut pull =
        filled_for(&backend, 1, |config| PullConfig { ack_wait: Duration::from_secs(1), ..config }).await;
    next(&mut pull).await.term().await.unwrap();
    after(&backend, Duration::from_secs(2)).await;
    nothing_comes(&backend, &mut pull).await;
}

pub(super) async fn a_message_given_up_is_told_of(backend: Backend) {
    let told = backend.stream_name() + "-TOLD";
    let advisories = format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.*", backend.stream_name());
    let config =
        StreamConfig { name: told.clone(), subjects: vec![advisories.clone()], ..StreamConfig::default() };
    backend.bus.ensure_stream(&config).await.unwrap();
    let mut pull = filled_for(&backend, 1, |config| PullConfig {
        max_deliver: 2,
        ack_wait: Duration::from_secs(1),
        ..config
    })
    .await;
    next(&mut pull).await.nak(Duration::ZERO).await.unwrap();
    assert_eq!(next(&mut pull).await.attempt, 2);
    after(&backend, Duration::from_secs(1)).await;
    // Somebody has to ask for more before a server looks after what is out.
    let advisory = async {
        eventually(SOON, || async { backend.bus.last_message(&told, &advisories).await.ok().flatten() }).await
    };
    let advisory = tokio::select! {
        advisory = advisory => advisory,
        again = pull.next(1) => panic!("it does not come again: {again:?}"),
    };
    let body: serde_json::Value = serde_json::from_slice(&advisory.payload).unwrap();
    assert_eq!((&body["stream_seq"], &body["deliveries"]), (&1.into(), &2.into()));
}

pub(super) async fn no_more_are_out_than_allowed(backend: Backend) {
    let mut pull = filled_for(&backend, 3, |config| PullConfig { max_ack_pending: 2, ..config }).await;
    let (first, second) = (next(&mut pull).await, next(&mut pull).await);
    nothing_comes(&backend, &mut pull).await;
    first.ack().await.unwrap();
    assert_eq!(next(&mut pull).await.sequence, 3);
    drop(second);
}

pub(super) async fn a_filter_takes_its_subject_only(backend: Backend) {
    backend.stream(|config| config).await;
    for rest in ["a.1", "b.1", "a.2"] {
        backend.append(rest, "x").await.unwrap();
    }
    let config = PullConfig { filter: backend.subject("a.*"), ..backend.consumer() };
    let mut pull = backend.bus.pull(&config).await.unwrap();
    let (first, second) = (next(&mut pull).await, next(&mut pull).await);
    assert_eq!((first.sequence, second.sequence), (1, 3));
}

pub(super) async fn a_durable_consumer_goes_on_where_it_ended(backend: Backend) {
    let mut pull = filled(&backend, 3).await;
    next(&mut pull).await.ack().await.unwrap();
    backend.bus.barrier().await.unwrap();
    pull.stop().await;
    while let Some(unstarted) = pull.left().await {
        unstarted.nak(Duration::ZERO).await.unwrap();
    }
    drop(pull);
    backend.bus.barrier().await.unwrap();
    let mut other = backend.other.pull(&backend.consumer()).await.unwrap();
    let mut rest = [next(&mut other).await.sequence, next(&mut other).await.sequence];
    rest.sort_unstable();
    assert_eq!(rest, [2, 3]);
}

pub(super) async fn a_work_queue_forgets_what_is_done(backend: Backend) {
    let stream = backend.stream(|config| StreamConfig { retention: Retention::WorkQueue, ..config }).await;
    backend.append("a", "1").await.unwrap();
    backend.append("a", "2").await.unwrap();
    let mut pull = backend.bus.pull(&backend.consumer()).await.unwrap();
    next(&mut pull).await.ack().await.unwrap();
    next(&mut pull).await.term().await.unwrap();
    eventually(SOON, || async { backend.bus.stream_state(&stream).await.unwrap().messages == 0 }).await;
    let second = PullConfig { durable: "second".to_owned(), ..backend.consumer() };
    assert!(backend.bus.pull(&second).await.is_err(), "everything has one taker");
}

async fn filled(backend: &Backend, count: usize) -> Pull {
    filled_for(backend, count, |config| config).await
}

async fn filled_for(backend: &Backend, count: usize, change: impl FnOnce(PullConfig) -> PullConfig) -> Pull {
    backend.stream(|config| config).await;
    for number in 0..count {
        backend.append("a", &number.to_string()).await.unwrap();
    }
    backend.bus.pull(&change(backend.consumer())).await.unwrap()
}

async fn next(pull: &mut Pull) -> Delivery {
    tokio::time::timeout(SOON, pull.next(1)).await.expect("a message comes").expect("the bus is open")
}

/// Checks that the consumer owes nothing just now.
async fn nothing_comes(backend: &Backend, pull: &mut Pull) {
    backend.bus.barrier().await.unwrap();
    // why: that something does not happen shows only in time.
    let waited = tokio::time::timeout(Duration::from_millis(150), pull.next(1)).await;
    assert!(waited.is_err(), "{waited:?}");
}

/// Waits as long as the broker's time has to move on.
async fn after(backend: &Backend, time: Duration) {
    match &backend.app {
        // In a test of the kit something is in hand: nothing would settle.
        Some(app) => app.skip(time),
        // why: a server's time cannot be moved.
        None => tokio::time::sleep(time).await,
    }
}
