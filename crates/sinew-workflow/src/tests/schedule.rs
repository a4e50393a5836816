//! Schedules: which moments, which events, and what is wrong with them.

use expect_test::expect;
use serde_json::{Value, json};

use super::define;
use crate::{Definition, Gathering, Need, Timestamp};

const DAY: i64 = 24 * 60 * 60 * 1_000;

fn scheduled(schedule: &str) -> Definition {
    define(&format!("schedule: {schedule}\ndo: [ {{ a: {{ set: {{}} }} }} ]"))
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn event(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "data": data })
}

#[test]
fn intervals_count_from_when_the_schedule_came_into_force() {
    let definition = scheduled("{ every: PT15M }");
    let schedule = definition.schedule().unwrap();
    assert_eq!(definition.needs().into_iter().collect::<Vec<_>>(), [Need::Schedule]);
    let (since, quarter) = (at(1_000), 15 * 60 * 1_000);
    assert_eq!(schedule.next(since, since), Some(at(1_000 + quarter)));
    assert_eq!(schedule.next(since, at(1_000 + quarter)), Some(at(1_000 + 2 * quarter)));
    let late = at(1_000 + 2 * quarter + 7);
    assert_eq!(schedule.next(since, late), Some(at(1_000 + 3 * quarter)), "no drift");
    assert_eq!(schedule.next(since, at(0)), Some(since));
}

#[test]
fn cron_expressions_are_in_utc() {
    let next = |cron: &str, last: i64| {
        let definition = scheduled(&format!("{{ cron: '{cron}' }}"));
        definition.schedule().unwrap().next(at(0), at(last)).unwrap().to_string()
    };
    assert_eq!(next("0 0 * * *", 0), "1970-01-02T00:00:00.000Z");
    assert_eq!(next("0 9 * * MON", DAY), "1970-01-05T09:00:00.000Z");
    assert_eq!(next("*/10 * * * * *", 1), "1970-01-01T00:00:10.000Z", "seconds are optional");
    assert_eq!(next("0 0 29 2 *", 0), "1972-02-29T00:00:00.000Z");
    assert_eq!(next("@hourly", 5), "1970-01-01T01:00:00.000Z");
}

#[test]
fn the_next_starts_so_long_after_the_end_of_the_last() {
    let definition = scheduled("{ after: PT30S }");
    let schedule = definition.schedule().unwrap();
    assert_eq!(schedule.again(at(7)), Some(at(30_007)));
    assert_eq!(schedule.next(at(0), at(0)), None);
}

#[test]
fn what_is_wrong_with_a_schedule_is_said_at_its_place() {
    let findings = |schedule: &str| {
        let source = format!(
            "document: {{ dsl: '1.0.3', namespace: t, name: t, version: '1.0.0' }}\nschedule: {schedule}\ndo: [ {{ a: {{ set: {{}} }} }} ]"
        );
        Definition::parse(&source, "t.yaml").unwrap_err().to_string()
    };
    expect!["t.yaml:2:19: error[SNW-2006]: `61 * * * *` is not a cron expression: number out of bounds.; write minute, hour, day of month, month and day of week, such as `0 9 * * MON`"].assert_eq(&findings("{ cron: '61 * * * *' }"));
    expect!["t.yaml:2:19: error[SNW-2006]: `0 0 30 2 *` is not a cron expression: no such moment ever comes; write minute, hour, day of month, month and day of week, such as `0 9 * * MON`"].assert_eq(&findings("{ cron: '0 0 30 2 *' }"));
    expect!["t.yaml:2:20: error[SNW-2006]: instances cannot start at intervals of no length; write for example `every: PT1M`"].assert_eq(&findings("{ every: PT0S }"));
    expect![
        "t.yaml:2:20: error[SNW-2006]: a schedule has no data to compute from; write the duration itself"
    ]
    .assert_eq(&findings("{ after: '${ .x }' }"));
    expect!["t.yaml:2:11: error[SNW-2005]: the schedule never starts anything: `every`, `cron`, `after` or `on` is missing; add for example `every: PT1H`"].assert_eq(&findings("{}"));
    expect!["t.yaml:2:32: error[SNW-2006]: `read` goes with `on`; remove it"]
        .assert_eq(&findings("{ every: PT1H, read: data }"));
    expect!["t.yaml:2:17: error[SNW-2006]: `one`, `any` and `all` exclude each other; keep one of them"]
        .assert_eq(&findings("{ on: { one: { with: { type: a } }, all: [] } }"));
}

#[test]
fn an_event_starts_an_instance_with_itself_as_input() {
    let definition = scheduled("{ on: { one: { with: { type: low } } } }");
    assert!(definition.schedule().unwrap().is_triggered());
    assert_eq!(serde_json::to_value(definition.triggers()).unwrap(), json!([{ "type": "low" }]));
    let mut gathering = Gathering::default();
    assert_eq!(definition.gather(&mut gathering, &event("high", json!(1)), Some("1"), at(0)), None);
    let low = event("low", json!(2));
    assert_eq!(definition.gather(&mut gathering, &low, Some("2"), at(0)), Some(json!([low])));
    assert_eq!(definition.gather(&mut gathering, &low, Some("2"), at(0)), None, "the same again");
    assert_eq!(definition.gather(&mut gathering, &low, Some("3"), at(0)), Some(json!([low])));
    let data = scheduled("{ on: { one: { with: { type: low } } }, read: data }");
    assert_eq!(data.gather(&mut Gathering::default(), &low, None, at(0)), Some(json!([2])));
}

#[test]
fn events_wait_for_those_they_belong_to() {
    let filter =
        |kind: &str| format!("{{ with: {{ type: {kind} }}, correlate: {{ room: {{ from: .data }} }} }}");
    let on = format!("{{ on: {{ all: [ {}, {} ] }}, read: data }}", filter("heat"), filter("damp"));
    let definition = scheduled(&on);
    let mut gathering = Gathering::default();
    let mut give = |kind: &str, room: u32| {
        let stored = serde_json::to_string(&gathering).unwrap();
        gathering = serde_json::from_str(&stored).unwrap();
        definition.gather(&mut gathering, &event(kind, json!(room)), None, at(0))
    };
    assert_eq!(give("heat", 1), None);
    assert_eq!(give("heat", 2), None);
    assert_eq!(give("heat", 1), None, "a second one of its kind begins a group of its own");
    assert_eq!(give("damp", 2), Some(json!([2, 2])));
    assert_eq!(give("damp", 1), Some(json!([1, 1])));
    assert_eq!(give("damp", 1), Some(json!([1, 1])));
    assert_eq!(give("damp", 1), None);
    assert_eq!(gathering.groups.len(), 1);
}

#[test]
fn events_are_collected_until_it_is_enough() {
    let definition = scheduled("{ on: { any: [], until: 'length == 2' }, read: data }");
    let mut gathering = Gathering::default();
    let mut give = |number: u32| definition.gather(&mut gathering, &event("a", json!(number)), None, at(0));
    assert_eq!((give(1), give(2), give(3)), (None, Some(json!([1, 2])), None));
}
