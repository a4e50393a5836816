//! Each finding appears for its reason and not without it.

use serde_json::{Value, json};

use super::*;
use crate::discovery::Info;

fn stream(name: &str, subjects: &[&str]) -> StreamInfo {
    StreamInfo {
        name: name.into(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        replicas: 3,
        in_memory: false,
        refuses_when_full: false,
        max_messages: None,
        max_bytes: None,
        max_consumers: None,
        messages: 0,
        bytes: 0,
        consumers: 0,
        first_sequence: 0,
        last_sequence: 0,
    }
}

fn consumer(name: &str) -> ConsumerInfo {
    ConsumerInfo {
        stream: EVENTS.into(),
        name: name.into(),
        durable: true,
        filters: vec!["evt.a.b".into()],
        max_deliver: Some(28),
        pending: 4,
        unsettled: 0,
        redelivered: 0,
        waiting: 0,
        bound: false,
        delivered: 0,
        settled_below: 0,
        settled: 0,
        last_delivery: None,
    }
}

fn service(groups: Value, running: bool) -> Known {
    let contract = json!({ "name": "shop", "version": "1.0.0", "groups": groups });
    let info: Info = serde_json::from_value(json!({ "name": "shop", "version": "1.0.0" })).unwrap();
    Known {
        contract: Some(serde_json::from_value(contract).unwrap()),
        instances: running.then_some(info).into_iter().collect(),
    }
}

fn group(name: &str, subject: &str) -> Value {
    let event = json!({ "name": "a.b", "subject": subject, "version": 1, "schema": {} });
    json!([{ "name": name, "event": event, "concurrency": 1, "attempts": 1, "retry_budget_ms": 0 }])
}

fn codes(seen: &Seen) -> Vec<&'static str> {
    judge(seen).iter().map(|finding| finding.code).collect()
}

fn with_consumer(consumer: ConsumerInfo, known: Option<Known>) -> Vec<&'static str> {
    let services = known.into_iter().map(|known| ("shop".to_owned(), known)).collect();
    codes(&Seen { consumers: vec![consumer], services, ..Seen::default() })
}

#[test]
fn an_empty_bus_is_fine() {
    assert_eq!(codes(&Seen::default()), [""; 0]);
}

#[test]
fn redelivery_without_end_is_found() {
    let endless = ConsumerInfo { max_deliver: None, waiting: 1, ..consumer("shop+mailer") };
    assert_eq!(with_consumer(endless, None), [code::ENDLESS_REDELIVERY]);
}

#[test]
fn a_consumer_is_unserved_when_nobody_could_be_taking_from_it() {
    let mailer = || service(group("mailer", "evt.a.b"), true);
    let idle = || consumer("shop+mailer");
    assert_eq!(with_consumer(idle(), Some(mailer())), [""; 0], "all hands may be busy");
    assert_eq!(
        with_consumer(idle(), Some(service(group("mailer", "evt.a.b"), false))),
        [code::UNSERVED_CONSUMER]
    );
    assert_eq!(with_consumer(idle(), Some(service(json!([]), true))), [code::UNSERVED_CONSUMER]);
    assert_eq!(with_consumer(idle(), None), [code::UNSERVED_CONSUMER]);
    assert_eq!(with_consumer(ConsumerInfo { waiting: 1, ..idle() }, None), [""; 0]);
    assert_eq!(with_consumer(consumer("foreign"), None), [code::UNSERVED_CONSUMER]);
    assert_eq!(with_consumer(ConsumerInfo { unsettled: 1, ..consumer("foreign") }, None), [""; 0]);
    assert_eq!(with_consumer(ConsumerInfo { durable: false, ..consumer("watch") }, None), [""; 0]);
}

#[test]
fn an_event_outside_the_stream_is_found() {
    let seen = |subject: &str, captured: &str| Seen {
        streams: vec![stream(EVENTS, &[captured])],
        services: [("shop".to_owned(), service(group("mailer", subject), true))].into(),
        ..Seen::default()
    };
    assert_eq!(codes(&seen("evt.a.b", "evt.>")), [""; 0]);
    assert_eq!(codes(&seen("evt.a.b", "evt.orders.>")), [code::UNCOVERED_EVENT]);
    let mut without = seen("evt.a.b", "evt.>");
    without.streams.clear();
    assert_eq!(codes(&without), [""; 0], "the first event makes the stream");
}

#[test]
fn limits_are_near_from_nine_tenths_on() {
    let seen = |messages, bytes, consumers| Seen {
        streams: vec![StreamInfo {
            messages,
            bytes,
            consumers,
            max_messages: Some(10),
            max_bytes: Some(1_000),
            ..stream("X", &["x"])
        }],
        ..Seen::default()
    };
    assert_eq!(codes(&seen(8, 899, 899)), [""; 0]);
    assert_eq!(codes(&seen(9, 900, 900)), [code::NEAR_LIMIT; 3]);
    assert_eq!(codes(&Seen { storage: Some((95, 100)), ..Seen::default() }), [code::NEAR_LIMIT]);
}

#[test]
fn one_copy_is_as_safe_as_its_sync() {
    let seen = |sync, replicas| Seen {
        streams: vec![StreamInfo { replicas, ..stream(EVENTS, &["evt.>"]) }],
        sync,
        ..Seen::default()
    };
    assert_eq!(codes(&seen(SyncMode::Always, 1)), [""; 0]);
    assert_eq!(codes(&seen(SyncMode::Unknown, 3)), [""; 0]);
    let severity = |sync| judge(&seen(sync, 1)).first().map(|finding| finding.severity);
    assert_eq!(severity(SyncMode::Unknown), Some(Severity::Note));
    assert_eq!(severity(SyncMode::Every("2m".into())), Some(Severity::Warning));
}

#[test]
fn dead_letters_are_counted_by_group() {
    let seen =
        Seen { dead: vec![("dlq.shop.mailer".into(), 2), ("dlq.shop.idle".into(), 0)], ..Seen::default() };
    let findings = judge(&seen);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].code, findings[0].about.as_str()), (code::DEAD_LETTERS, "shop/mailer"));
}
