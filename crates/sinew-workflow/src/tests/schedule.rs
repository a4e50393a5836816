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
fn cron_expressions_are_in_utc_unless_they_name_a_zone() {
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
    expect!["t.yaml:2:42: error[SNW-2006]: `Europe/Belin` is not a time zone of the IANA database; write for example `Europe/Berlin`"].assert_eq(&findings("{ cron: '0 9 * * *', timezone: Europe/Belin }"));
    expect!["t.yaml:2:36: error[SNW-2006]: `timezone` goes with `cron`; remove it"]
        .assert_eq(&findings("{ every: PT1H, timezone: Asia/Tokyo }"));
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

/// Returns the moments of an expression in Berlin from `last` on, as its clock shows them.
fn in_berlin(cron: &str, last: &str, count: usize) -> Vec<String> {
    let definition = scheduled(&format!("{{ cron: '{cron}', timezone: Europe/Berlin }}"));
    let schedule = definition.schedule().unwrap();
    assert_eq!(schedule.zone(), Some("Europe/Berlin"));
    let zone = crate::schedule::zone("Europe/Berlin").unwrap();
    let start: jiff::Timestamp = last.parse().unwrap();
    let mut moment = at(start.as_millisecond());
    let mut moments = Vec::new();
    for _ in 0..count {
        moment = schedule.next(at(0), moment).unwrap();
        let shown = jiff::Timestamp::from_millisecond(moment.as_millis()).unwrap().to_zoned(zone.clone());
        moments.push(shown.strftime("%d %H:%M%:z").to_string());
    }
    moments
}

#[test]
fn a_calendar_follows_the_clock_of_its_zone_through_its_changes() {
    // Set forward on 29 March 2026 at 2:00, and back on 25 October at 3:00.
    let spring = "2026-03-28T00:00:00Z";
    assert_eq!(in_berlin("30 2 * * *", spring, 3), ["28 02:30+01:00", "29 03:30+02:00", "30 02:30+02:00"]);
    let within = "2026-03-29T01:10:00Z";
    assert_eq!(in_berlin("30 2 * * *", within, 1), ["29 03:30+02:00"], "asked when the clock was just set");
    assert_eq!(in_berlin("30 2,3 29 * *", spring, 1), ["29 03:30+02:00"], "what falls together comes once");
    let hours = ["29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00", "29 04:00+02:00"];
    assert_eq!(in_berlin("*/30 * * * *", "2026-03-29T00:00:00Z", 4), hours);
    let autumn = "2026-10-24T12:00:00Z";
    assert_eq!(in_berlin("30 2 * * *", autumn, 2), ["25 02:30+02:00", "26 02:30+01:00"], "the first time");
    let hours = ["25 02:30+02:00", "25 02:00+01:00", "25 02:30+01:00", "25 03:00+01:00"];
    assert_eq!(in_berlin("*/30 * * * *", "2026-10-25T00:00:00Z", 4), hours, "every hour that passes");
}

#[test]
fn zone_and_missed_moments_are_said_in_either_spelling() {
    let source = "document: { dsl: '1.0.3', namespace: t, name: t, version: '1.0.0', metadata: { timezone: Asia/Tokyo, missed: all } }\nschedule: { cron: '0 9 * * *' }\ndo: [ { a: { set: {} } } ]";
    let definition = Definition::parse(source, "t.yaml").unwrap();
    let schedule = definition.schedule().unwrap();
    assert_eq!((schedule.zone(), schedule.missed()), (Some("Asia/Tokyo"), Some(crate::Missed::All)));
    assert_eq!(schedule.next(at(0), at(0)).unwrap().to_string(), "1970-01-02T00:00:00.000Z");
    let own = scheduled("{ every: PT1H, missed: skip }");
    assert_eq!(own.schedule().unwrap().missed(), Some(crate::Missed::Skip));
    assert_eq!(scheduled("{ every: PT1H }").schedule().unwrap().missed(), None, "the host decides");
}

proptest::proptest! {
    #[test]
    fn the_next_moment_of_a_calendar_is_the_first_one_and_there_is_no_gap(
        from in 1_700_000_000i64..1_900_000_000, minute in 0u8..60, every: bool,
    ) {
        let hours = if every { "*" } else { "2" };
        let definition = scheduled(&format!("{{ cron: '{minute} {hours} * * *', timezone: America/New_York }}"));
        let schedule = definition.schedule().unwrap();
        let last = at(from * 1_000);
        let next = schedule.next(at(0), last).unwrap();
        proptest::prop_assert!(next > last);
        // Asked a moment before it, the same comes.
        proptest::prop_assert_eq!(schedule.next(at(0), at(next.as_millis() - 1)), Some(next));
        let hour = 3_600_000;
        let most = if every { hour } else { 25 * hour };
        proptest::prop_assert!(next.since(last) <= most);
    }
}
