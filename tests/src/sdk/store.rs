//! Streams and buckets, as far as the SDK shows them.

use sinew::Kind;
use sinew::bus::{Kv, KvChange, Retention, StreamConfig};

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_lease_over_a_tombstone_expires() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("LEASES").await.unwrap();
    let revision = kv.swap("shard-1", "a".into(), 0, None).await.unwrap();
    kv.delete("shard-1", revision).await.unwrap();
    let tombstone = kv.get("shard-1").await.unwrap().expect("a tombstone stands");
    assert_eq!(tombstone.value, None);
    kv.swap("shard-1", "b".into(), tombstone.revision, Some(Duration::from_secs(1))).await.unwrap();
    assert_eq!(value(&kv, "shard-1").await.as_deref(), Some(&b"b"[..]));
    eventually(SOON, || async { value(&kv, "shard-1").await.is_none() }).await;
}

#[tokio::test]
async fn a_renewed_lease_lives_on() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("LEASES").await.unwrap();
    let second = Some(Duration::from_secs(1));
    let mut revision = kv.swap("long", "a".into(), 0, second).await.unwrap();
    kv.swap("short", "b".into(), 0, second).await.unwrap();
    while value(&kv, "short").await.is_some() {
        revision = kv.swap("long", "a".into(), revision, second).await.unwrap();
    }
    assert_eq!(value(&kv, "long").await.as_deref(), Some(&b"a"[..]));
}

#[tokio::test]
async fn a_lost_compare_and_set_is_a_conflict() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("LEASES").await.unwrap();
    let first = kv.swap("shard-1", "a".into(), 0, None).await.unwrap();
    assert_eq!(kv.swap("shard-1", "b".into(), 0, None).await.unwrap_err().kind(), Kind::Conflict);
    kv.swap("shard-1", "b".into(), first, None).await.unwrap();
    assert_eq!(kv.delete("shard-1", first).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(value(&kv, "shard-1").await.as_deref(), Some(&b"b"[..]));
}

#[tokio::test]
async fn a_watch_tells_what_stands_and_what_changes() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("TEST").await.unwrap();
    kv.put("a", "1".into()).await.unwrap();
    let mut watch = kv.watch();
    assert_eq!(watch.next().await, Some(KvChange::Put("a".into(), "1".into())));
    let revision = kv.put("b", "2".into()).await.unwrap();
    assert_eq!(watch.next().await, Some(KvChange::Put("b".into(), "2".into())));
    kv.delete("b", revision).await.unwrap();
    assert_eq!(watch.next().await, Some(KvChange::Gone("b".into())));
}

#[tokio::test]
async fn fifty_watches_of_a_process_are_one_consumer_and_each_sees_everything() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("TEST").await.unwrap();
    kv.put("a", "1".into()).await.unwrap();
    let mut watches: Vec<_> = (0..50).map(|_| kv.watch()).collect();
    // The last ones come late: they begin with what stands.
    let mut late = watches.split_off(25);
    for watch in &mut watches {
        assert_eq!(watch.next().await, Some(KvChange::Put("a".into(), "1".into())));
    }
    let revision = kv.put("b", "2".into()).await.unwrap();
    kv.put("a", "3".into()).await.unwrap();
    // Another handle of the same process, too.
    late.push(stage.bus.kv("TEST").await.unwrap().watch());
    assert_eq!(watches[0].next().await, Some(KvChange::Put("b".into(), "2".into())));
    assert_eq!(watches[0].next().await, Some(KvChange::Put("a".into(), "3".into())));
    for watch in &mut late {
        assert_eq!(watch.next().await, Some(KvChange::Put("b".into(), "2".into())));
        assert_eq!(watch.next().await, Some(KvChange::Put("a".into(), "3".into())));
    }
    assert_eq!(stage.bus.consumers("KV_TEST").await.unwrap().len(), 1);
    kv.delete("b", revision).await.unwrap();
    for watch in watches[1..].iter_mut().chain(&mut late) {
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                if let KvChange::Gone(key) = watch.next().await.unwrap() {
                    return key;
                }
            }
        });
        assert_eq!(told.await.unwrap(), "b");
    }
}

#[tokio::test]
async fn the_last_watch_to_go_ends_the_watcher_and_the_next_begins_anew() {
    let stage = Stage::start().await;
    let kv = stage.bus.kv("TEST").await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (mut one, mut other) = (kv.watch(), kv.watch());
    for (number, value) in (1u32..).zip(["1", "2", "3"]) {
        kv.put("a", value.into()).await.unwrap();
        // A watch that joins a watcher begins with what that knows, which may be the value before.
        let newest = Some(KvChange::Put("a".into(), value.into()));
        for watch in [&mut one, &mut other] {
            let hears = async { while watch.next().await != newest {} };
            tokio::time::timeout(PATIENCE, hears).await.unwrap();
        }
        assert_eq!(tasks(), before + 1, "{number}");
        one = kv.watch();
        if number == 2 {
            other = kv.watch();
            eventually(SOON, || std::future::ready(tasks() == before)).await;
        }
    }
}

#[tokio::test]
async fn a_reader_brings_every_message_in_order() {
    let stage = Stage::start().await;
    log_stream(&stage.bus).await;
    // More than two batches, with another subject's messages in between.
    let appends = (0..1_300).map(|number| {
        let subject = if number % 13 == 0 { "log.other" } else { "log.mine" };
        append(&stage.bus, subject, number)
    });
    for appended in futures::future::join_all(appends).await {
        appended.unwrap();
    }
    let mut reader = stage.caller.bus().read_stream("LOG", "log.mine", 1).await.unwrap();
    let mut sequences = Vec::new();
    loop {
        let batch = reader.batch().await.unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.iter().all(|stored| stored.subject == "log.mine"));
        sequences.extend(batch.iter().map(|stored| stored.sequence));
    }
    assert_eq!(sequences.len(), 1_200);
    assert!(sequences.is_sorted_by(|a, b| a < b));
    assert!(reader.batch().await.unwrap().is_empty(), "the end is no error");
    let ack = append(&stage.bus, "log.mine", 9_999).await.unwrap();
    assert_eq!(
        reader.batch().await.unwrap().iter().map(|stored| stored.sequence).collect::<Vec<_>>(),
        [ack.sequence]
    );
}

#[tokio::test]
async fn a_reader_starts_where_it_is_told() {
    let stage = Stage::start().await;
    log_stream(&stage.bus).await;
    for number in 0..10 {
        append(&stage.bus, "log.mine", number).await.unwrap();
    }
    stage.bus.purge_stream("LOG", "log.mine", 5).await.unwrap();
    let read = async |from| {
        let batch = stage.bus.read_stream("LOG", "log.*", from).await.unwrap().batch().await.unwrap();
        batch.iter().map(|stored| stored.sequence).collect::<Vec<_>>()
    };
    assert_eq!(read(8).await, [8, 9, 10]);
    assert_eq!(read(1).await, [5, 6, 7, 8, 9, 10], "what was purged is gone");
    assert!(read(11).await.is_empty());
}

#[tokio::test]
async fn a_reader_gives_up_a_batch_that_broke_and_reads_it_again() {
    let mut stage = Stage::start().await;
    log_stream(&stage.bus).await;
    for number in 0..20 {
        append(&stage.bus, "log.mine", number).await.unwrap();
    }
    let mut reader = stage.bus.read_stream("LOG", "log.mine", 1).await.unwrap();
    // Dropped in the middle: the answers are on their way.
    assert!(futures::poll!(std::pin::pin!(reader.batch())).is_pending());
    assert_eq!(reader.batch().await.unwrap().len(), 20);
    stage.harness.restart().await;
    append_later(&stage.bus).await;
    assert_eq!(reader.batch().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_append_behind_the_wrong_message_is_a_conflict() {
    let stage = Stage::start().await;
    log_stream(&stage.bus).await;
    let ack = append(&stage.bus, "log.mine", 1).await.unwrap();
    let mut headers = Headers::new();
    headers.set("Nats-Expected-Last-Subject-Sequence", ack.sequence.to_string()).unwrap();
    let again = async || stage.bus.publish_acked("log.mine", &headers, Bytes::new(), PATIENCE).await;
    again().await.unwrap();
    assert_eq!(again().await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(stage.bus.stream_state("LOG").await.unwrap().messages, 2);
}

#[tokio::test]
async fn an_append_that_no_stream_takes_says_so() {
    let stage = Stage::start().await;
    assert_eq!(append(&stage.bus, "nowhere", 1).await.unwrap_err().kind(), Kind::NoResponders);
    assert_eq!(stage.bus.stream_state("NOWHERE").await.unwrap_err().kind(), Kind::JetStream);
}

#[tokio::test]
async fn ensuring_a_stream_twice_leaves_it_as_it_is() {
    let stage = Stage::start().await;
    log_stream(&stage.bus).await;
    append(&stage.bus, "log.mine", 1).await.unwrap();
    log_stream(&stage.bus).await;
    assert_eq!(stage.bus.stream_state("LOG").await.unwrap().messages, 1);
    let overlapping =
        StreamConfig { name: "OTHER".into(), subjects: vec!["log.mine".into()], ..StreamConfig::default() };
    assert_eq!(stage.bus.ensure_stream(&overlapping).await.unwrap_err().kind(), Kind::JetStream);
}

#[tokio::test]
async fn a_work_queue_forgets_what_is_done() {
    let stage = Stage::start().await;
    let (name, subjects) = ("WORK".to_owned(), vec!["work.>".to_owned()]);
    let config = StreamConfig { name, subjects, retention: Retention::WorkQueue, ..StreamConfig::default() };
    stage.bus.ensure_stream(&config).await.unwrap();
    append(&stage.bus, "work.a", 1).await.unwrap();
    let consumer = sinew::bus::PullConfig {
        stream: "WORK".into(),
        durable: "worker".into(),
        filter: "work.>".into(),
        ack_wait: Duration::from_secs(30),
        max_deliver: 5,
        max_ack_pending: 10,
        begin: sinew::bus::Begin::First,
    };
    let mut pull = stage.bus.pull(&consumer).await.unwrap();
    let delivery = pull.next(1).await.unwrap();
    assert_eq!((delivery.attempt, delivery.sequence), (1, 1));
    delivery.ack().await.unwrap();
    eventually(SOON, || async { stage.bus.stream_state("WORK").await.unwrap().messages == 0 }).await;
}

async fn log_stream(bus: &Bus) {
    let config =
        StreamConfig { name: "LOG".into(), subjects: vec!["log.>".into()], ..StreamConfig::default() };
    bus.ensure_stream(&config).await.unwrap();
}

async fn append(bus: &Bus, subject: &str, number: u32) -> Result<sinew::bus::PubAck, sinew::Error> {
    bus.publish_acked(subject, &Headers::new(), number.to_string().into(), PATIENCE).await
}

/// Appends as soon as the server is back.
async fn append_later(bus: &Bus) {
    eventually(SOON, || async { append(bus, "log.mine", 9).await.ok() }).await;
}

async fn value(kv: &Kv, key: &str) -> Option<Bytes> {
    kv.get(key).await.unwrap().and_then(|entry| entry.value)
}
