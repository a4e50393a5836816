//! Promise 1 over hours: a retry that has to wait long does so at the server, in the group's own inlet.

use sinew::{EVENTS, REDELIVERIES, Redelivery, Retry};

use super::book::{Book, mail};
use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn p1_a_long_delay_leaves_the_consumer_and_the_attempts_go_on() {
    let stage = Stage::start().await;
    let book = Book::default();
    book.fail(2);
    let _mail =
        stage.start_service(mail(&book, |group| group.retry(short()).longest_hold(Duration::ZERO))).await;
    stage.caller.publish(Noted { number: 7 }).id("n-7").await.unwrap();
    let entries = book.reaches(3).await;
    assert_eq!(book.attempts(), [1, 2, 3]);
    assert!(entries.iter().all(|entry| entry.id.as_deref() == Some("n-7")), "{entries:?}");
    let why: Vec<_> = entries.iter().map(|entry| entry.redelivery).collect();
    assert_eq!(why, [None, Some(Redelivery::Retry), Some(Redelivery::Retry)]);
    // Handled is handled: nothing waits, and nothing is in flight.
    eventually(SOON, || async { stage.bus.stream_state(REDELIVERIES).await.unwrap().messages == 0 }).await;
    eventually(SOON, || async { unanswered(&stage).await == 0 }).await;
    assert_eq!(book.entries().len(), 3);
}

#[tokio::test]
async fn p1_a_delay_of_hours_waits_at_the_server_and_keeps_nobody_waiting() {
    let stage = Stage::start().await;
    let book = Book::default();
    book.fail(1);
    let hours = Retry::exponential(Duration::from_secs(360_000), Duration::from_secs(360_000));
    let _mail = stage.start_service(mail(&book, |group| group.retry(hours).concurrency(1))).await;
    stage.publish(1).await;
    stage.publish(2).await;
    book.reaches(2).await;
    let waiting =
        async || stage.bus.last_message(REDELIVERIES, "redo-at.mail.mailer.EVENTS-1").await.unwrap();
    let waiting = eventually(SOON, waiting).await;
    assert_eq!(waiting.payload, pack(&Noted { number: 1 }), "the bytes as they came");
    let told = |name| waiting.headers.get(name).unwrap_or_default();
    assert_eq!((told("Sinew-Attempt"), told("Sinew-Origin-Sequence")), ("1", "1"));
    assert_eq!((told("Sinew-Origin-Subject"), told("Sinew-Redelivery")), (Noted::SUBJECT, "retry"));
    assert_eq!((told("ce-type"), told("Nats-Schedule-Target")), ("desk.noted.v3", "redo.mail.mailer"));
    eventually(SOON, || async { unanswered(&stage).await == 0 }).await;
}

#[tokio::test]
async fn p1_a_retry_that_waits_survives_a_killed_server() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    let book = Book::default();
    book.fail(1);
    let later = Retry::exponential(Duration::from_secs(3), Duration::from_secs(3));
    let _mail =
        stage.start_service(mail(&book, |group| group.retry(later).longest_hold(Duration::ZERO))).await;
    stage.publish(5).await;
    let gone =
        async || stage.bus.last_message(REDELIVERIES, "redo-at.>").await.is_ok_and(|last| last.is_some());
    eventually(SOON, || async { gone().await || book.entries().len() == 2 }).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    // A server writes down lazily what its consumers have acknowledged: killed, it may hand out the original once more, as
    // if for the first time. What waited comes all the same, as the second attempt it is.
    let second =
        |entry: &super::book::Entry| (entry.attempt, entry.redelivery) == (2, Some(Redelivery::Retry));
    eventually(SOON, || std::future::ready(book.entries().iter().any(second))).await;
    assert!(book.numbers().iter().all(|number| *number == 5));
}

#[tokio::test]
async fn p1_retries_spent_over_the_inlet_end_as_one_dead_letter() {
    let stage = Stage::start().await;
    let book = Book::default();
    book.fail(u32::MAX);
    let policy = |group: sinew::Group| group.retry(short().attempts(3)).longest_hold(Duration::ZERO);
    let _mail = stage.start_service(mail(&book, policy)).await;
    stage.publish(1).await;
    let letter = async || stage.bus.last_message(sinew::DEAD_LETTERS, "dlq.mail.mailer").await.unwrap();
    let letter = eventually(SOON, letter).await;
    let told = |name| letter.headers.get(name);
    assert_eq!((told("Sinew-Dead-Attempts"), told("Sinew-Dead-Sequence")), (Some("3"), Some("1")));
    assert_eq!((told("Sinew-Attempt"), told("Nats-Scheduler")), (None, None), "its way is not the event's");
    assert_eq!(book.attempts(), [1, 2, 3]);
    eventually(SOON, || async { stage.bus.stream_state(REDELIVERIES).await.unwrap().messages == 0 }).await;
}

#[tokio::test]
async fn an_event_cannot_claim_to_be_a_redelivery() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let mut headers = Headers::new();
    for (name, value) in
        [("content-type", "application/json"), ("Sinew-Attempt", "100"), ("Sinew-Redelivery", "replay")]
    {
        headers.set(name, value).unwrap();
    }
    stage.bus.publish_acked(Noted::SUBJECT, &headers, r#"{"number":1}"#.into(), PATIENCE).await.unwrap();
    let entries = book.reaches(1).await;
    assert_eq!((entries[0].attempt, entries[0].redelivery), (1, None));
}

#[tokio::test]
async fn streams_of_an_older_version_are_given_what_they_lack() {
    let stage = Stage::start().await;
    let old = |name: &str, subject: &str| sinew::bus::StreamConfig {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        ..sinew::bus::StreamConfig::default()
    };
    for (name, subject) in [(EVENTS, "evt.>"), (sinew::DEAD_LETTERS, "dlq.>")] {
        stage.bus.ensure_stream(&old(name, subject)).await.unwrap();
    }
    stage
        .bus
        .publish_acked(Noted::SUBJECT, &Headers::new(), r#"{"number":1}"#.into(), PATIENCE)
        .await
        .unwrap();
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    stage
        .caller
        .publish(Noted { number: 2 })
        .after(Duration::ZERO)
        .await
        .expect("the stream takes schedules now");
    book.reaches(2).await;
    assert_eq!(book.numbers(), [1, 2], "and what stood there still does");
    let listening = stage.bus.consumer_state("GIVEN_UP", "mail+mailer").await.unwrap().unwrap();
    assert!(listening.filter().ends_with("MAX_DELIVERIES.*.mail+mailer"), "{}", listening.filter());
}

/// Delays of up to a second, which is all the patience of a test.
fn short() -> Retry {
    Retry::exponential(Duration::from_millis(50), Duration::from_millis(100))
}

/// Returns how many events are out and not answered.
async fn unanswered(stage: &Stage) -> u64 {
    stage.bus.consumer_state(EVENTS, "mail+mailer").await.unwrap().unwrap().unanswered
}
