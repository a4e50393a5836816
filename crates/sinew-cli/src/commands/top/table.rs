//! The difference between two samples. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::sample::{Counters, Sample, Standing};
use crate::{
    output::{Output, Style, columns},
    quantity,
};

/// What happened between two looks.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    seconds: f64,
    operations: Vec<OperationRow>,
    groups: Vec<GroupRow>,
}

/// One operation, over all its instances.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationRow {
    service: String,
    operation: String,
    instances: u64,
    /// Per second.
    requests: f64,
    /// Per second.
    errors: f64,
    /// Turned away for want of room, per second.
    shed: f64,
    /// Since the instances started.
    panics: u64,
    /// Mean, in milliseconds; `None` where nothing was done.
    latency_ms: Option<f64>,
    /// `None` where no instance tells.
    in_flight: Option<u64>,
}

/// One consumer group.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupRow {
    service: String,
    group: String,
    /// Settled per second.
    settled: f64,
    /// Events it was not given yet.
    lag: u64,
    in_hand: u64,
    /// Of those in hand, given for a second time or more.
    redelivered: u64,
    /// Events that wait in its own inlet: retries that were put off, redrives, replays.
    inlet: u64,
    /// Requests for events that wait at the server; none where nobody is free, or nobody there.
    waiting: u64,
    dead_letters: u64,
}

impl Table {
    /// Compares two samples. An instance counts where it stands in both: what one did before the first is not known.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let time = now.at.saturating_duration_since(before.at);
        let mut operations: BTreeMap<(&str, &str), (u64, Counters)> = BTreeMap::new();
        for (key @ (service, operation, _), counters) in &now.operations {
            let (instances, sum) = operations.entry((service, operation)).or_default();
            *instances += 1;
            let earlier = before.operations.get(key).unwrap_or(counters);
            add(sum, &since(earlier, counters));
        }
        let operations =
            operations.into_iter().map(|((service, operation), (instances, sum))| OperationRow {
                service: service.to_owned(),
                operation: operation.to_owned(),
                instances,
                requests: rate(sum.requests, time),
                errors: rate(sum.errors, time),
                shed: rate(sum.shed, time),
                panics: sum.panics,
                latency_ms: (sum.requests > 0 && sum.nanos > 0)
                    .then(|| rounded(sum.nanos as f64 / sum.requests as f64 / 1e6)),
                in_flight: sum.in_flight,
            });
        let group = |((service, group), standing): (&(String, String), &Standing)| {
            let earlier = before.groups.get(&(service.clone(), group.clone())).unwrap_or(standing);
            GroupRow {
                service: service.clone(),
                group: group.clone(),
                settled: rate(standing.settled.saturating_sub(earlier.settled), time),
                lag: standing.pending,
                in_hand: standing.unsettled,
                redelivered: standing.redelivered,
                inlet: standing.inlet,
                waiting: standing.waiting,
                dead_letters: standing.dead,
            }
        };
        Self {
            seconds: rounded(time.as_secs_f64()),
            operations: operations.collect(),
            groups: now.groups.iter().map(group).collect(),
        }
    }

    /// Leaves out other services than these; none means all.
    pub(super) fn only(mut self, services: &[String]) -> Self {
        if !services.is_empty() {
            self.operations.retain(|row| services.contains(&row.service));
            self.groups.retain(|row| services.contains(&row.service));
        }
        self
    }

    /// Writes both tables for people.
    pub(super) fn to_text(&self, output: &Output) -> String {
        let head = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut operations = vec![head(&[
            "OPERATION",
            "INSTANCES",
            "REQ/S",
            "ERR/S",
            "SHED/S",
            "LATENCY",
            "IN FLIGHT",
            "PANICS",
        ])];
        operations.extend(self.operations.iter().map(OperationRow::cells));
        let mut groups = vec![head(&[
            "GROUP",
            "SETTLED/S",
            "LAG",
            "IN HAND",
            "AGAIN",
            "INLET",
            "WAITING",
            "DEAD LETTERS",
        ])];
        groups.extend(self.groups.iter().map(GroupRow::cells));
        if self.operations.is_empty() && self.groups.is_empty() {
            return "nobody answers discovery and there is no consumer group: start a service, for example with \
                    `cargo run -p hello`"
                .to_owned();
        }
        let tables = [operations, groups].into_iter().filter(|table| table.len() > 1);
        let title = |table: String| match table.split_once('\n') {
            Some((head, rows)) => format!("{}\n{rows}", output.paint(Style::Strong, head)),
            None => table,
        };
        tables.map(|table| title(columns(&table))).collect::<Vec<_>>().join("\n\n")
    }
}

impl OperationRow {
    fn cells(&self) -> Vec<String> {
        let latency = |ms: f64| quantity::duration(Duration::from_secs_f64(ms / 1e3));
        vec![
            format!("{}.{}", self.service, self.operation),
            self.instances.to_string(),
            self.requests.to_string(),
            self.errors.to_string(),
            self.shed.to_string(),
            self.latency_ms.map_or_else(|| "-".to_owned(), latency),
            self.in_flight.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            self.panics.to_string(),
        ]
    }
}

impl GroupRow {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![format!("{}/{}", self.service, self.group), self.settled.to_string()];
        let counts = [self.lag, self.in_hand, self.redelivered, self.inlet, self.waiting, self.dead_letters];
        cells.extend(counts.map(|count| count.to_string()));
        cells
    }
}

/// What was counted in between; panics and what is in flight count as they stand.
fn since(before: &Counters, now: &Counters) -> Counters {
    Counters {
        requests: now.requests.saturating_sub(before.requests),
        errors: now.errors.saturating_sub(before.errors),
        nanos: now.nanos.saturating_sub(before.nanos),
        shed: now.shed.saturating_sub(before.shed),
        panics: now.panics,
        in_flight: now.in_flight,
    }
}

fn add(sum: &mut Counters, other: &Counters) {
    sum.requests += other.requests;
    sum.errors += other.errors;
    sum.nanos += other.nanos;
    sum.shed += other.shed;
    sum.panics += other.panics;
    sum.in_flight = match (sum.in_flight, other.in_flight) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
    };
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { rounded(count as f64 / time.as_secs_f64()) }
}

/// Three significant digits are all that a glance takes in.
fn rounded(number: f64) -> f64 {
    let digits = 2 - number.abs().max(1e-3).log10().floor() as i32;
    let scale = 10f64.powi(digits.clamp(0, 6));
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sample(at: Instant, instances: &[(&str, Counters)], settled: u64) -> Sample {
        let key = |id: &str| ("shop".to_owned(), "sell".to_owned(), id.to_owned());
        let standing = Standing { settled, pending: 7, ..Standing::default() };
        Sample {
            at,
            operations: instances.iter().map(|(id, counters)| (key(id), *counters)).collect(),
            groups: [(("shop".to_owned(), "mailer".to_owned()), standing)].into(),
        }
    }

    fn counters(requests: u64, errors: u64, nanos: u64) -> Counters {
        Counters { requests, errors, nanos, ..Counters::default() }
    }

    #[test]
    fn instances_are_added_up_and_newcomers_count_from_the_next_look_on() {
        let begin = Instant::now();
        let before = sample(begin, &[("a", counters(10, 1, 1_000)), ("b", counters(5, 0, 0))], 100);
        let now = sample(
            begin + Duration::from_secs(2),
            &[("a", counters(30, 2, 40_001_000)), ("b", counters(5, 0, 0)), ("c", counters(1_000, 0, 0))],
            300,
        );
        let table = Table::between(&before, &now);
        let row = &table.operations[0];
        assert_eq!((row.instances, row.requests, row.errors), (3, 10.0, 0.5));
        assert_eq!((row.latency_ms, row.in_flight), (Some(2.0), None));
        assert_eq!((table.groups[0].settled, table.groups[0].lag), (100.0, 7));
        assert!(table.only(&["other".to_owned()]).operations.is_empty());
    }

    #[test]
    fn a_restarted_instance_does_not_count_backwards() {
        let begin = Instant::now();
        let before = sample(begin, &[("a", counters(1_000, 9, 9_000))], 100);
        let now = sample(begin + Duration::from_secs(1), &[("a", counters(3, 0, 5))], 0);
        let table = Table::between(&before, &now);
        assert_eq!((table.operations[0].requests, table.groups[0].settled), (0.0, 0.0));
    }

    #[test]
    fn three_digits_are_shown() {
        assert_eq!([12_345.678, 123.4, 1.23456, 0.0123].map(rounded), [12_346.0, 123.0, 1.23, 0.0123]);
        assert_eq!(rounded(0.0), 0.0);
    }
}
