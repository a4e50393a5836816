//! Promise 1, continued: an event that cannot be handled is tried again, then kept; it never blocks and never vanishes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use sinew::bus::{PullConfig, Stored};
use sinew::{Attempt, DEAD_LETTERS, EVENTS, Group, Retry, State};

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn p1_a_failing_event_is_retried_with_delays_and_then_kept() {
    let stage = Stage::start().await;
    let log = Log::default();
    let _mail = stage.start_service(mail(&log, always_busy, |group| group.retry(quick().attempts(4)))).await;
    stage.caller.publish(Noted { number: 7 }).id("n-7").await.unwrap();
    let letter = dead_letter(&stage).await;
    let attempts = log.taken();
    assert_eq!(attempts.iter().map(|entry| entry.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(letter.subject, "dlq.mail.mailer");
    assert_eq!(letter.payload, pack(&Noted { number: 7 }), "the bytes as they came");
    let told = |name| letter.headers.get(name).unwrap_or_default();
    assert_eq!((told("ce-id"), told("ce-type")), ("n-7", "desk.noted.v3"), "the headers as they came");
    assert_eq!(told("content-type"), "application/msgpack");
    assert_eq!((told("Sinew-Dead-Code"), told("Sinew-Dead-Attempts")), ("busy", "4"));
    assert_eq!((told("Sinew-Dead-Subject"), told("Sinew-Dead-Sequence")), (Noted::SUBJECT, "1"));
    assert!(told("Sinew-Dead-Reason").contains("busy"));
}

#[tokio::test]
async fn p1_a_retry_waits() {
    let stage = Stage::start().await;
    let log = Log::default();
    // Full jitter may draw next to nothing; the sum of twelve draws below 40 ms cannot stay below 40 ms in practice.
    let slow = Retry::exponential(Duration::from_millis(40), Duration::from_millis(40)).attempts(13);
    let _mail = stage.start_service(mail(&log, always_busy, |group| group.retry(slow))).await;
    stage.publish(1).await;
    let _letter = dead_letter(&stage).await;
    let attempts = log.taken();
    let took = attempts.last().unwrap().at - attempts[0].at;
    assert!(took > Duration::from_millis(40), "twelve retries took {took:?}");
}

#[tokio::test]
async fn p1_an_error_that_says_no_is_not_retried() {
    let stage = Stage::start().await;
    let log = Log::default();
    let _mail = stage.start_service(mail(&log, never_there, |group| group)).await;
    stage.publish(1).await;
    let letter = dead_letter(&stage).await;
    assert_eq!(letter.headers.get("Sinew-Dead-Code"), Some("out-of-stock"));
    assert_eq!(log.taken().len(), 1);
}

#[tokio::test]
async fn p1_a_panicking_handler_is_retried_like_a_failing_one() {
    let stage = Stage::start().await;
    let log = Log::default();
    let panic_once = async |event: Noted, Attempt(attempt): Attempt, State(log): State<Log>| {
        log.note(&event, attempt);
        assert!(attempt > 1, "this test asks for the panic");
        Ok::<_, Problem>(())
    };
    let _mail = stage.start_service(mail(&log, panic_once, |group| group.retry(quick()))).await;
    stage.publish(1).await;
    eventually(SOON, || std::future::ready(log.taken().len() == 2)).await;
    assert_eq!(dead_letters(&stage).await, 0);
}

#[tokio::test]
async fn p1_poison_is_kept_as_it_came_and_the_next_event_flows() {
    let stage = Stage::start().await;
    let log = Log::default();
    let _mail = stage.start_service(mail(&log, write_down, |group| group.concurrency(1))).await;
    let poison = Bytes::from_static(b"\xc1 not what it says");
    let mut headers = Headers::new();
    headers.set("content-type", "application/msgpack").unwrap();
    headers.set("x-mark", "kept").unwrap();
    // Orders to the server that hold for the event's own stream: repeated at the other one they would be refused.
    headers.set("Nats-Expected-Stream", EVENTS).unwrap();
    headers.set("Nats-Expected-Last-Sequence", "0").unwrap();
    stage.bus.publish_acked(Noted::SUBJECT, &headers, poison.clone(), PATIENCE).await.unwrap();
    stage.publish(2).await;
    eventually(SOON, || std::future::ready(log.taken().iter().any(|entry| entry.number == 2))).await;
    let letter = dead_letter(&stage).await;
    assert_eq!(letter.payload, poison);
    assert_eq!(letter.headers.get("x-mark"), Some("kept"));
    assert_eq!(letter.headers.get("Sinew-Dead-Code"), Some("poison"));
    assert_eq!(log.taken().len(), 1, "no handler has seen the poison");
}

#[tokio::test]
async fn p1_an_event_too_large_to_be_kept_with_its_reason_is_kept_by_reference() {
    let stage = Stage::start().await;
    let log = Log::default();
    let _mail = stage.start_service(mail(&log, write_down, |group| group)).await;
    let huge = vec![b'x'; stage.bus.max_payload() - 10];
    stage.bus.publish_acked(Noted::SUBJECT, &Headers::new(), huge.into(), PATIENCE).await.unwrap();
    let letter = dead_letter(&stage).await;
    assert!(letter.payload.is_empty());
    assert_eq!(letter.headers.get("Sinew-Dead-Sequence"), Some("1"), "where the event still stands");
}

#[tokio::test]
async fn p1_a_handler_longer_than_the_servers_patience_has_the_event_for_itself() {
    let stage = Stage::start().await;
    let log = Log::default();
    let slow = async |event: Noted, Attempt(attempt): Attempt, State(log): State<Log>| {
        log.note(&event, attempt);
        // why: only time shows that the server does not lose its patience.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        log.note(&event, attempt);
        Ok::<_, Problem>(())
    };
    let impatient = |group: Group| group.ack_wait(Duration::from_secs(1));
    let _mail = stage.start_service(mail(&log, slow, impatient)).await;
    stage.publish(1).await;
    eventually(SOON, || std::future::ready(log.taken().len() >= 2)).await;
    assert!(log.taken().iter().all(|entry| entry.attempt == 1), "{:?}", log.taken());
    assert_eq!(log.taken().len(), 2);
}

#[tokio::test]
async fn p1_an_event_handed_back_untouched_has_not_used_up_its_attempts() {
    let stage = Stage::start().await;
    sinew::ensure_streams(&stage.bus).await.unwrap();
    stage.publish(7).await;
    let mut member = stage.bus.pull(&same_group()).await.unwrap();
    for _ in 0..3 {
        member.next(1).await.unwrap().nak(Duration::ZERO).await.unwrap();
    }
    member.stop().await;
    while let Some(unstarted) = member.left().await {
        unstarted.nak(Duration::ZERO).await.unwrap();
    }
    let log = Log::default();
    let _mail = stage.start_service(mail(&log, write_down, |group| group.retry(Retry::never()))).await;
    eventually(SOON, || std::future::ready(log.taken().len() == 1)).await;
    assert_eq!(dead_letters(&stage).await, 0);
}

/// What a handler has seen.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug)]
struct Entry {
    number: u32,
    attempt: u32,
    at: Instant,
}

impl Log {
    fn note(&self, event: &Noted, attempt: u32) {
        self.0.lock().unwrap().push(Entry { number: event.number, attempt, at: Instant::now() });
    }

    fn taken(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }
}

fn mail<M: Send + Sync + 'static>(
    log: &Log,
    handler: impl sinew::EventHandler<Noted, Log, M>,
    configure: impl FnOnce(Group) -> Group,
) -> Service<Log> {
    Service::new("mail", log.clone()).on("mailer", handler, configure)
}

fn quick() -> Retry {
    Retry::exponential(Duration::from_millis(5), Duration::from_millis(20))
}

/// The consumer a member of `mailer` joins, as the service would join it.
fn same_group() -> PullConfig {
    PullConfig {
        stream: EVENTS.to_owned(),
        durable: "mail+mailer".to_owned(),
        filter: Noted::SUBJECT.to_owned(),
        ack_wait: Duration::from_secs(30),
        max_deliver: 100,
        max_ack_pending: 10,
        begin: sinew::bus::Begin::First,
    }
}

async fn always_busy(
    event: Noted,
    Attempt(attempt): Attempt,
    State(log): State<Log>,
) -> Result<(), DeskError> {
    log.note(&event, attempt);
    Err(DeskError::Busy)
}

async fn never_there(
    event: Noted,
    Attempt(attempt): Attempt,
    State(log): State<Log>,
) -> Result<(), DeskError> {
    log.note(&event, attempt);
    Err(DeskError::OutOfStock { sku: "tea".to_owned() })
}

async fn write_down(event: Noted, Attempt(attempt): Attempt, State(log): State<Log>) -> Result<(), Problem> {
    log.note(&event, attempt);
    Ok(())
}

async fn dead_letter(stage: &Stage) -> Stored {
    eventually(SOON, || async {
        stage.bus.last_message(DEAD_LETTERS, "dlq.mail.mailer").await.ok().flatten()
    })
    .await
}

async fn dead_letters(stage: &Stage) -> u64 {
    stage.bus.stream_state(DEAD_LETTERS).await.unwrap().messages
}
