//! Facts about NATS that bite, and the test that shows each one survived. Here stands what no other module shows.
//!
//! | Fact or rule | Shown by |
//! |---|---|
//! | a timed-out request leaves nothing behind | `ten_thousand_timeouts_leave_nothing_behind`, `bus::inlets::tests` |
//! | a request's limit covers a connection that is down | `a_request_without_a_connection_ends_within_its_limit` |
//! | draining loses no reply under way | `draining::p5_*`, `streams::life::p5_*` |
//! | stray bytes in headers cost no connection | `hostile`, `replay::bytes_that_cost_a_connection_do_not_stop_a_replay` |
//! | headers are checked, and read in any case | `sinew_wire::headers::tests`, `requests::header_names_are_read_in_any_case` |
//! | nothing is said to be sent while nothing can be | `without_a_connection_no_publish_answers_ok`, `outage` |
//! | ready only after a round trip | `requests::a_service_is_ready_for_the_first_request_when_start_returns` |
//! | a slow reader is bounded, counted, and its callers hear of it | `outage::a_reader_too_slow_*`, `layers::what_neither_*` |
//! | prefetch ends at twice the hands, and waits alive | `a_group_takes_no_more_than_twice_its_hands` |
//! | a lease keeps its limit over tombstone and update | `store::a_lease_over_a_tombstone_expires`, `a_renewed_lease_expires_as_well` |
//! | no consumer per request, replica or caller | `consumers_do_not_grow_with_use` |
//! | schedules fire late, once, and survive SIGKILL | `schedules`, `inlet::p1_a_retry_that_waits_survives_a_killed_server` |
//! | after a lost compare-and-set the leader is read | `whoever_loses_a_compare_and_set_reads_what_won` |
//! | a stream is deaf while it gets a leader | `connection::a_message_that_no_stream_takes_for_a_moment_*` |
//! | copies are a setting of what stands | `what_stands_with_too_few_copies_is_given_as_many_*` |
//! | discovery, limits, panics, graceful stop are ours | `discovery`, `layers`, `requests::a_panicking_*`, `draining` |
//! | one connection per process | `requests::a_dropped_bus_takes_its_connection_along` |
//! | batch get, many replies, schedules are ours | `store::a_reader_*`, `conformance::messages`, `schedules` |
//! | an acknowledgement is as durable as the sync | `events::p1_what_was_acknowledged_*`, findings of `sinew check` |
//! | CloudEvents: every attribute, percent-encoded | `every_attribute_of_an_event_travels_encoded`, `sinew_wire::event::tests` |
//! | the server traces nothing by itself | `broker::settings::tests`, `no_configuration_of_ours_traces_messages` |
//! | a recorded trace costs the server its headers | `traces::the_server_is_told_to_leave_the_trace_*` |
//! | every refusal carries its delay | `every_refusal_carries_a_delay_and_a_dead_letter_ends_it` |
//! | the server's `max_deliver` stands above ours | `the_server_allows_more_deliveries_than_the_group_takes` |
//! | a dead letter is stored before the event is given up | `p1_nothing_is_given_up_before_its_letter_is_stored` |
//! | long delays leave the consumer | `inlet::p1_a_long_delay_leaves_the_consumer_and_the_attempts_go_on` |
//! | signs of life at a third of `ack_wait` | `signs_of_life_come_at_a_third_of_the_servers_patience` |
//! | a redrive is a new message with its old id | `dead_letters::p1_a_retried_letter_*`, `p1_a_letter_that_dies_again_*` |
//! | poison and panics neither block nor vanish | `retries::p1_poison_*`, `retries::p1_a_panicking_*` |
//! | the media type is always sent, absent means JSON | `events::p1_a_published_*`, `requests::a_bare_nats_client_is_answered_in_json` |
//! | numbers stay numbers | `sinew_wire::codec::tests`, `cargo xtask tidy` |
//!
//! What the client library does wrong is no fact here any more: the connection is our own.

use std::{sync::Arc, time::Instant};

use serde_json::Value;
use sinew::{DEAD_LETTERS, EVENTS, Group, Kind, Retry, State, bus::Subscription};
use tokio::sync::Semaphore;

use super::book::{Book, mail, quick};
use super::*;
use crate::harness::{Cluster, SOON, eventually};

const GROUP: &str = "mail+mailer";

#[tokio::test]
async fn ten_thousand_timeouts_leave_nothing_behind() {
    let stage = Stage::start().await;
    let mut asked = stage.bus.subscribe("deaf", None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let caller = stage.caller.bus();
    let mut late = Vec::new();
    for _ in 0..10 {
        let (none, soon) = (Headers::new(), Duration::from_millis(20));
        let round = (0..1_000).map(|_| caller.request("deaf", &none, Bytes::new(), soon));
        for outcome in futures::future::join_all(round).await {
            assert_eq!(outcome.unwrap_err().kind(), Kind::TimedOut);
        }
        caller.barrier().await.unwrap();
    }
    stage.bus.barrier().await.unwrap();
    asked.drain().await;
    while let Some(request) = asked.next_drained().await {
        late.push(request.reply_to().unwrap().to_owned());
    }
    assert!(late.len() > 1_000, "only {} were heard", late.len());
    for reply in &late {
        stage.bus.publish(reply, &Headers::new(), "too late".into()).await.unwrap();
    }
    stage.bus.barrier().await.unwrap();
    // None of them is anybody's: the next caller gets its own.
    let _desk = stage.serve(repeat).await;
    assert_eq!(stage.call("mine").await.unwrap(), "mine");
    assert_eq!(caller.dropped(), 0);
}

#[tokio::test]
async fn a_request_without_a_connection_ends_within_its_limit() {
    let mut stage = Stage::start().await;
    stage.harness.kill().await;
    let began = Instant::now();
    // Whether the loss was noticed already or not.
    for _ in 0..20 {
        let limit = Duration::from_millis(100);
        let asked = stage.caller.bus().request(Echo::SUBJECT, &Headers::new(), Bytes::new(), limit).await;
        let kind = asked.unwrap_err().kind();
        assert!(matches!(kind, Kind::Disconnected | Kind::TimedOut), "{kind:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_connection_no_publish_answers_ok() {
    let mut stage = Stage::start().await;
    let bus = stage.caller.bus().clone();
    stage.harness.kill().await;
    eventually(SOON, || std::future::ready(!bus.is_connected())).await;
    let (began, none) = (Instant::now(), Headers::new());
    let flood =
        futures::future::join_all((0..5_000).map(|_| bus.publish("noise", &none, Bytes::new()))).await;
    assert!(flood.iter().all(|sent| sent.as_ref().is_err_and(|error| error.kind() == Kind::Disconnected)));
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_group_takes_no_more_than_twice_its_hands() {
    let stage = Stage::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Service::new("mail", gate.clone())
        .on("mailer", hold, |group| group.concurrency(4).ack_wait(Duration::from_millis(300)));
    let _mail = stage.start_service(held).await;
    let mut acks = tap(&stage).await;
    for number in 0..50 {
        stage.publish(number).await;
    }
    // Three signs of life of one event span the server's patience: by then whatever waited unseen had come again.
    let mut signs = 0;
    while signs < 40 {
        signs += u32::from(said(&mut acks).await == "+WPI");
    }
    let standing = stage.bus.consumer(EVENTS, GROUP).await.unwrap().unwrap();
    assert!((4..=8).contains(&standing.unsettled), "{standing:?}");
    assert_eq!(standing.redelivered, 0, "what waits for a hand is kept alive");
    gate.add_permits(50);
    eventually(SOON, async || stage.bus.consumer(EVENTS, GROUP).await.unwrap().unwrap().settled == 50).await;
}

#[tokio::test]
async fn a_renewed_lease_expires_as_well() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("LEASES").await.unwrap();
    let second = Some(Duration::from_secs(1));
    let mut revision = kv.swap("shard", "a".into(), 0, second).await.unwrap();
    for _ in 0..3 {
        revision = kv.swap("shard", "a".into(), revision, second).await.unwrap();
    }
    eventually(SOON, async || kv.get("shard").await.unwrap().is_none_or(|entry| entry.value.is_none())).await;
}

#[tokio::test]
async fn consumers_do_not_grow_with_use() {
    let stage = Stage::start().await;
    let book = Book::default();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica =
            desk((), repeat).on("sorter", ignore, |group| group.ordered_by(|event: &Noted| event.number));
        replicas.push(stage.start_service(replica).await);
        replicas.push(stage.start_service(mail(&book, |group| group)).await);
    }
    let count = async || {
        let streams = stage.bus.streams().await.unwrap();
        streams.into_iter().map(|stream| (stream.name, stream.consumers)).collect::<Vec<_>>()
    };
    let before = count().await;
    assert!(before.contains(&(EVENTS.to_owned(), 2)), "one for each group: {before:?}");
    for number in 0..100 {
        assert!(stage.call("again").await.is_ok());
        stage.publish(number).await;
    }
    book.reaches(100).await;
    assert_eq!(count().await, before);
}

#[tokio::test]
async fn whoever_loses_a_compare_and_set_reads_what_won() {
    let cluster = Cluster::start().await;
    let bus = async |name| Bus::connect(Config::new(cluster.url(), name)).await.unwrap();
    let (one, other) = (bus("one").await, bus("other").await);
    let contents = sinew::bus::StreamConfig {
        name: "RACE".to_owned(),
        subjects: vec!["race.>".to_owned()],
        replicas: 3,
        ..Default::default()
    };
    one.ensure_stream(&contents).await.unwrap();
    let behind = |sequence: u64| {
        let mut headers = Headers::new();
        headers.set("Nats-Expected-Last-Subject-Sequence", sequence.to_string()).unwrap();
        headers
    };
    let mut last = 0;
    for _ in 0..100 {
        let won = one.publish_acked("race.x", &behind(last), "one".into(), PATIENCE).await.unwrap();
        let lost = other.publish_acked("race.x", &behind(last), "other".into(), PATIENCE).await;
        assert_eq!(lost.unwrap_err().kind(), Kind::Conflict);
        // A replica might not know of it yet.
        let read = other.last_message("RACE", "race.x").await.unwrap().unwrap();
        assert_eq!(read.sequence, won.sequence);
        last = read.sequence;
    }
}

#[tokio::test]
async fn what_stands_with_too_few_copies_is_given_as_many_as_are_asked_for() {
    let cluster = Cluster::start().await;
    let bus = Bus::connect(Config::new(cluster.url(), "grown")).await.unwrap();
    let copies = async |name: &str| {
        bus.streams().await.unwrap().into_iter().find(|one| one.name == name).unwrap().replicas
    };
    let one = sinew::bus::StreamConfig {
        name: "GROWS".to_owned(),
        subjects: vec!["grows.>".to_owned()],
        ..Default::default()
    };
    bus.ensure_stream(&one).await.unwrap();
    let kept = bus.kv("GROWN").await.unwrap().put("key", "value".into()).await.unwrap();
    sinew::ensure_streams(&bus).await.unwrap();
    let all = ["GROWS", "KV_GROWN", "EVENTS"];
    for name in all {
        assert_eq!(copies(name).await, 1, "{name}");
    }
    let more = bus.with_replicas(3);
    more.ensure_stream(&one).await.unwrap();
    let bucket = more.kv("GROWN").await.unwrap();
    sinew::ensure_streams(&more).await.unwrap();
    for name in all {
        assert_eq!(copies(name).await, 3, "{name}");
    }
    let read = eventually(SOON, || async { bucket.get("key").await.ok().flatten() }).await;
    assert_eq!((read.revision, read.value.as_deref()), (kept, Some(&b"value"[..])));
    // Whoever asks for fewer takes none away.
    bus.ensure_stream(&one).await.unwrap();
    assert_eq!(copies("GROWS").await, 3);
    bus.close().await;
}

#[tokio::test]
async fn every_refusal_carries_a_delay_and_a_dead_letter_ends_it() {
    let stage = Stage::start().await;
    let book = Book::default();
    book.fail(4);
    let _mail = stage.start_service(mail(&book, |group| group.retry(quick().attempts(4)))).await;
    let mut acks = tap(&stage).await;
    stage.publish(1).await;
    for _ in 0..3 {
        let said = said(&mut acks).await;
        let delay = said.strip_prefix("-NAK ").unwrap_or_else(|| panic!("a refusal with a delay: {said}"));
        let delay: Value = serde_json::from_str(delay).unwrap();
        assert!(delay["delay"].as_u64().is_some_and(|nanos| nanos <= 20_000_000), "{delay}");
    }
    assert_eq!(said(&mut acks).await, "+TERM");
}

#[tokio::test]
async fn the_server_allows_more_deliveries_than_the_group_takes() {
    let stage = Stage::start().await;
    for attempts in [1, 8, 50] {
        let book = Book::default();
        let group = |group: Group| group.retry(quick().attempts(attempts));
        let mail = stage.start_service(mail(&book, group)).await;
        let allowed = stage.bus.consumer(EVENTS, GROUP).await.unwrap().unwrap().max_deliver;
        assert!(allowed.is_some_and(|allowed| allowed > u64::from(attempts)), "{attempts}: {allowed:?}");
        mail.drain().await;
    }
}

#[tokio::test]
async fn p1_nothing_is_given_up_before_its_letter_is_stored() {
    let stage = Stage::start().await;
    let book = Book::default();
    book.fail(1_000);
    let quickly = |group: Group| group.retry(Retry::never()).ack_wait(Duration::from_millis(200));
    let _mail = stage.start_service(mail(&book, quickly)).await;
    let delete = format!("$JS.API.STREAM.DELETE.{DEAD_LETTERS}");
    stage.bus.request(&delete, &Headers::new(), Bytes::new(), PATIENCE).await.unwrap();
    let mut acks = tap(&stage).await;
    stage.publish(1).await;
    // There is nowhere to keep it, so it comes again and again.
    book.reaches(3).await;
    sinew::ensure_streams(&stage.bus).await.unwrap();
    while said(&mut acks).await != "+TERM" {}
    assert_eq!(stage.bus.stream_state(DEAD_LETTERS).await.unwrap().messages, 1);
    assert!(book.attempts().len() >= 3, "none of the earlier attempts gave it up");
}

#[tokio::test]
async fn signs_of_life_come_at_a_third_of_the_servers_patience() {
    let stage = Stage::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let patience = Duration::from_millis(600);
    let held = Service::new("mail", gate.clone()).on("mailer", hold, |group| group.ack_wait(patience));
    let _mail = stage.start_service(held).await;
    let mut acks = tap(&stage).await;
    stage.publish(1).await;
    assert_eq!(said(&mut acks).await, "+WPI");
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(said(&mut acks).await, "+WPI");
    }
    let mean = began.elapsed() / 6;
    // A busy machine is late, never early.
    assert!(mean > patience / 4 && mean < patience, "one every {mean:?}");
    gate.add_permits(1);
    while said(&mut acks).await != "+ACK" {}
}

#[tokio::test]
async fn every_attribute_of_an_event_travels_encoded() {
    let stage = Stage::start().await;
    stage.caller.publish(Noted { number: 1 }).id("ä \"1\"").about("100 %").await.unwrap();
    let stored = stage.bus.last_message(EVENTS, Noted::SUBJECT).await.unwrap().unwrap();
    let told = |name| stored.headers.get(name).unwrap_or_default();
    assert_eq!((told("ce-id"), told("ce-subject")), ("%C3%A4%20%221%22", "100%20%25"));
    assert_eq!(
        (told("content-type"), told("ce-datacontenttype")),
        ("application/msgpack", "application/msgpack")
    );
}

#[tokio::test]
async fn the_media_type_of_a_foreign_event_may_be_an_attribute_only() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let mut headers = Headers::new();
    headers.set("ce-datacontenttype", "application%2Fmsgpack").unwrap();
    let payload = pack(&Noted { number: 5 });
    stage.bus.publish_acked(Noted::SUBJECT, &headers, payload, PATIENCE).await.unwrap();
    // Without either it is JSON.
    stage
        .bus
        .publish_acked(Noted::SUBJECT, &Headers::new(), r#"{"number":6}"#.into(), PATIENCE)
        .await
        .unwrap();
    book.reaches(2).await;
    let mut numbers = book.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [5, 6]);
}

#[test]
fn no_configuration_of_ours_traces_messages() {
    let text = include_str!("../../../deploy/nats/sinew.conf");
    let mut settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    assert!(settings.all(|line| !line.contains("msg_trace")));
}

/// Listens to what the group tells the server of its events.
async fn tap(stage: &Stage) -> Subscription {
    let acks = stage.caller.bus().subscribe(&format!("$JS.ACK.{EVENTS}.{GROUP}.>"), None).await.unwrap();
    stage.caller.bus().barrier().await.unwrap();
    acks
}

async fn said(acks: &mut Subscription) -> String {
    let ack = tokio::time::timeout(SOON, acks.next()).await.expect("a word about an event").unwrap();
    String::from_utf8(ack.payload().to_vec()).unwrap()
}

async fn hold(_: Noted, State(gate): State<Arc<Semaphore>>) -> Result<(), Problem> {
    gate.acquire().await.map_err(|_| Problem::new(500, "closed", "the gate is gone"))?.forget();
    Ok(())
}

async fn ignore(_: Noted) -> Result<(), Problem> {
    Ok(())
}
