//! Streams and buckets: what is stored, under which number, and for how long.

use sinew::Kind;
use sinew::bus::KvChange;

use super::*;

pub(super) async fn appends_are_numbered(backend: Backend) {
    let stream = backend.stream(|config| config).await;
    for number in 1..=3 {
        let ack = backend.append("a", "x").await.unwrap();
        assert_eq!((ack.stream.as_str(), ack.sequence, ack.duplicate), (stream.as_str(), number, false));
    }
    let state = backend.other.stream_state(&stream).await.unwrap();
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (3, 1, 3));
}

pub(super) async fn an_append_that_no_stream_takes_says_so(backend: Backend) {
    assert_eq!(backend.append("a", "x").await.unwrap_err().kind(), Kind::NoResponders);
    let state = backend.bus.stream_state(&backend.stream_name()).await;
    assert_eq!(state.unwrap_err().kind(), Kind::JetStream);
}

pub(super) async fn an_append_behind_the_wrong_message_is_a_conflict(backend: Backend) {
    backend.stream(|config| config).await;
    backend.append("other", "x").await.unwrap();
    let behind = async |sequence: &str| {
        backend.append_with("a", "x", &[("Nats-Expected-Last-Subject-Sequence", sequence)]).await
    };
    assert_eq!(behind("1").await.unwrap_err().kind(), Kind::Conflict, "that is another subject's");
    assert_eq!(behind("0").await.unwrap().sequence, 2);
    assert_eq!(behind("0").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(behind("2").await.unwrap().sequence, 3);
}

pub(super) async fn the_same_message_id_is_stored_once(backend: Backend) {
    backend.stream(|config| config).await;
    let once = async || backend.append_with("a", "x", &[("Nats-Msg-Id", "m-1")]).await.unwrap();
    let (first, second) = (once().await, once().await);
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((second.sequence, second.duplicate), (1, true));
    assert_eq!(backend.append("a", "x").await.unwrap().sequence, 2);
}

pub(super) async fn a_limit_per_subject_keeps_the_newest(backend: Backend) {
    let stream = backend.stream(|config| StreamConfig { max_per_subject: 2, ..config }).await;
    for number in 1..=3 {
        backend.append("a", &number.to_string()).await.unwrap();
        backend.append("b", &number.to_string()).await.unwrap();
    }
    assert_eq!(backend.bus.stream_state(&stream).await.unwrap().messages, 4);
    assert_eq!(read(&backend, "a", 1).await, ["2", "3"]);
}

pub(super) async fn the_newest_message_of_a_subject_is_read(backend: Backend) {
    let stream = backend.stream(|config| config).await;
    let newest = async |rest| backend.other.last_message(&stream, &backend.subject(rest)).await.unwrap();
    assert!(newest("a").await.is_none());
    backend.append("a", "1").await.unwrap();
    backend.append_with("a", "2", &[("x-mark", "kept")]).await.unwrap();
    backend.append("b", "3").await.unwrap();
    let stored = newest("a").await.unwrap();
    assert_eq!((stored.sequence, stored.payload.as_ref()), (2, &b"2"[..]));
    assert_eq!((stored.subject, stored.headers.get("x-mark")), (backend.subject("a"), Some("kept")));
    assert_eq!(newest("*").await.unwrap().sequence, 3);
}

pub(super) async fn purging_leaves_what_stands_behind(backend: Backend) {
    let stream = backend.stream(|config| config).await;
    for number in 1..=4 {
        backend.append("a", &number.to_string()).await.unwrap();
        backend.append("b", &number.to_string()).await.unwrap();
    }
    backend.bus.purge_stream(&stream, &backend.subject("a"), 5).await.unwrap();
    assert_eq!(backend.bus.stream_state(&stream).await.unwrap().messages, 6);
    assert_eq!(read(&backend, "a", 1).await, ["3", "4"]);
    assert_eq!(read(&backend, "b", 1).await, ["1", "2", "3", "4"]);
}

pub(super) async fn a_reader_goes_on_where_it_ended(backend: Backend) {
    let stream = backend.stream(|config| config).await;
    assert!(read(&backend, "a", 1).await.is_empty());
    let appends = (0..600).map(|_| backend.append("a", "x"));
    for appended in futures::future::join_all(appends).await {
        appended.unwrap();
    }
    let mut reader = backend.other.read_stream(&stream, &backend.subject("*"), 90).await.unwrap();
    let mut sequences = Vec::new();
    while sequences.last() != Some(&600) {
        sequences.extend(reader.batch().await.unwrap().iter().map(|stored| stored.sequence));
    }
    assert_eq!(sequences, (90..=600).collect::<Vec<u64>>());
    assert!(reader.batch().await.unwrap().is_empty());
    backend.append("a", "last").await.unwrap();
    // Every member of a cluster may be asked, and one may still lag.
    while reader.batch().await.unwrap().is_empty() {}
}

pub(super) async fn ensuring_twice_changes_nothing_and_overlaps_are_refused(backend: Backend) {
    let stream = backend.stream(|config| config).await;
    backend.append("a", "1").await.unwrap();
    backend.stream(|config| StreamConfig { max_per_subject: 1, ..config }).await;
    backend.append("a", "2").await.unwrap();
    assert_eq!(backend.bus.stream_state(&stream).await.unwrap().messages, 2);
    let overlapping = StreamConfig {
        name: format!("{stream}-2"),
        subjects: vec![backend.subject("a")],
        ..StreamConfig::default()
    };
    assert_eq!(backend.bus.ensure_stream(&overlapping).await.unwrap_err().kind(), Kind::JetStream);
}

pub(super) async fn a_scheduled_message_comes_when_it_is_due(backend: Backend) {
    let (name, subjects) = (backend.stream_name(), [backend.subject(">")]);
    let config = serde_json::json!({
        "name": name, "subjects": subjects, "storage": "file", "allow_direct": true, "allow_msg_schedules": true,
        "num_replicas": backend.replicas,
    });
    let create = format!("$JS.API.STREAM.CREATE.{name}");
    backend.bus.request(&create, &Headers::new(), config.to_string().into(), PATIENCE).await.unwrap();
    let target = backend.subject("due");
    let due = backend.bus.now() + Duration::from_secs(2);
    let at = format!("@at {due}");
    let order = [
        ("Nats-Schedule", at.as_str()),
        ("Nats-Schedule-Target", target.as_str()),
        ("Nats-Msg-Id", "m-1"),
        ("x-mark", "kept"),
    ];
    backend.append_with("wait.1", "later", &order).await.unwrap();
    let fired = async || backend.bus.last_message(&name, &target).await.unwrap();
    assert!(fired().await.is_none(), "not yet");
    backend.pass(Duration::from_secs(2)).await;
    let stored = eventually(SOON, fired).await;
    assert_eq!((stored.payload.as_ref(), stored.headers.get("x-mark")), (&b"later"[..], Some("kept")));
    assert_eq!(stored.headers.get("Nats-Scheduler"), Some(backend.subject("wait.1").as_str()));
    assert_eq!((stored.headers.get("Nats-Msg-Id"), stored.headers.get("Nats-Schedule")), (None, None));
    let waiting = backend.subject("wait.1");
    eventually(SOON, async || backend.bus.last_message(&name, &waiting).await.unwrap().is_none()).await;
}

pub(super) async fn a_bucket_compares_and_sets(backend: Backend) {
    let kv = backend.kv().await;
    assert!(kv.get("a").await.unwrap().is_none());
    let first = kv.swap("a", "1".into(), 0, None).await.unwrap();
    assert_eq!(kv.swap("a", "2".into(), 0, None).await.unwrap_err().kind(), Kind::Conflict);
    let second = kv.swap("a", "2".into(), first, None).await.unwrap();
    kv.put("b.c", "3".into()).await.unwrap();
    assert_eq!(kv.entries("b.*").await.unwrap(), [("b.c".to_owned(), Bytes::from("3"))]);
    assert_eq!(kv.delete("a", first).await.unwrap_err().kind(), Kind::Conflict);
    kv.delete("a", second).await.unwrap();
    assert_eq!(kv.get("a").await.unwrap().unwrap().value, None);
    assert_eq!(kv.entries(">").await.unwrap().len(), 1);
}

pub(super) async fn an_entry_expires(backend: Backend) {
    let kv = backend.kv().await;
    let revision = kv.swap("a", "1".into(), 0, None).await.unwrap();
    kv.delete("a", revision).await.unwrap();
    let tombstone = kv.get("a").await.unwrap().unwrap();
    kv.swap("a", "2".into(), tombstone.revision, Some(Duration::from_secs(2))).await.unwrap();
    let value = async || kv.get("a").await.unwrap().and_then(|entry| entry.value);
    assert_eq!(value().await.as_deref(), Some(&b"2"[..]));
    backend.pass(Duration::from_secs(2)).await;
    eventually(SOON, async || value().await.is_none()).await;
}

pub(super) async fn a_watch_tells_what_stands_and_what_changes(backend: Backend) {
    let kv = backend.kv().await;
    kv.put("a", "1".into()).await.unwrap();
    let mut watch = kv.watch();
    assert_eq!(watch.next().await, Some(KvChange::Put("a".into(), "1".into())));
    let revision = kv.put("b", "2".into()).await.unwrap();
    assert_eq!(watch.next().await, Some(KvChange::Put("b".into(), "2".into())));
    kv.delete("b", revision).await.unwrap();
    assert_eq!(watch.next().await, Some(KvChange::Gone("b".into())));
}

async fn read(backend: &Backend, rest: &str, from: u64) -> Vec<String> {
    let reader = backend.bus.read_stream(&backend.stream_name(), &backend.subject(rest), from).await;
    let batch = reader.unwrap().batch().await.unwrap();
    batch.iter().map(|stored| String::from_utf8_lossy(&stored.payload).into_owned()).collect()
}
