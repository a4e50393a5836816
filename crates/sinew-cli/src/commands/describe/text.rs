//! A description as people read it.

use std::time::Duration;

use sinew::wire::{
    DependencyDescriptor, EventDescriptor, GroupDescriptor, LimitsDescriptor, OperationDescriptor,
};

use super::Described;
use crate::{
    output::{Output, Style, columns},
    permissions::Grant,
    quantity,
};

/// Writes the whole page of one service; a heading stands only where something follows.
pub(super) fn page(described: &Described, output: &Output) -> String {
    let service = &described.service;
    let title = format!(
        "{} {}  {}",
        output.paint(Style::Strong, &service.name),
        service.version,
        service.description
    );
    let requires = service
        .requires
        .iter()
        .map(|one| row([format!("{}.{}", one.service, one.operation), one.subject.clone()]));
    let groups = service.groups.iter().flat_map(|one| group(&service.name, one));
    let sections = [
        ("operations", service.operations.iter().map(|one| operation(&service.name, one)).collect()),
        ("limits", service.limits.iter().flat_map(limits).collect()),
        ("groups", groups.collect()),
        ("publishes", service.publishes.iter().map(event).collect()),
        ("requires", requires.collect()),
        ("calls", service.dependencies.iter().map(dependency).collect()),
        ("may subscribe to", described.permissions.subscribe.iter().map(grant).collect()),
        ("may publish to", described.permissions.publish.iter().map(grant).collect()),
    ];
    let section = |(name, rows): &(&str, Vec<Vec<String>>)| match rows.as_slice() {
        [] => String::new(),
        rows => format!("\n\n{}\n{}", output.paint(Style::Strong, name), columns(rows)),
    };
    let body: String = sections.iter().map(section).collect();
    let silent = service.publishes.is_empty() && service.requires.is_empty();
    let note = if silent {
        "\n\nnothing is said of events it publishes or operations it calls: if there are any, add them with \
         `Service::publishes` and `Service::requires`, or its permissions lack them"
    } else {
        ""
    };
    format!("{}{body}{}", title.trim_end(), output.paint(Style::Quiet, note))
}

fn operation(service: &str, operation: &OperationDescriptor) -> Vec<String> {
    let http = operation.http.as_ref().map(|http| format!("{} {}", http.method, http.path));
    let kind = match (operation.stream, &operation.upload) {
        (true, _) => Some("stream"),
        (false, Some(_)) => Some("upload"),
        (false, None) => None,
    };
    let repeated = match (operation.idempotent, kind) {
        (true, None) => "idempotent".to_owned(),
        (false, None) => "once".to_owned(),
        (true, Some(kind)) => format!("idempotent {kind}"),
        (false, Some(kind)) => kind.to_owned(),
    };
    row([
        format!("{service}.{}", operation.name),
        operation.subject.clone(),
        repeated,
        http.unwrap_or_else(|| "-".to_owned()),
        operation.description.clone(),
    ])
}

fn limits(limits: &LimitsDescriptor) -> [Vec<String>; 3] {
    [
        row(["at once".to_owned(), quantity::count(limits.concurrency, "request")]),
        row(["waiting".to_owned(), quantity::count(limits.queue, "request")]),
        row(["draining".to_owned(), format!("at most {}", time(limits.drain_ms))]),
    ]
}

fn group(service: &str, group: &GroupDescriptor) -> [Vec<String>; 2] {
    let again = match group.attempts {
        1 => "one attempt".to_owned(),
        attempts => format!("{attempts} attempts, at most {} of waiting in all", time(group.retry_budget_ms)),
    };
    let at_once = if group.ordered { "keys at once, each in order" } else { "at once" };
    let batch = group.batch.as_ref().map_or_else(String::new, |batch| {
        format!(", in batches of {} within {}", batch.max, time(batch.linger_ms))
    });
    [
        row([
            group.name.clone(),
            format!("on {} v{}", group.event.name, group.event.version),
            group.event.subject.clone(),
        ]),
        row([
            String::new(),
            format!("{} {at_once}{batch}", group.concurrency),
            format!("{again}, then dlq.{service}.{}", group.name),
        ]),
    ]
}

fn dependency(dependency: &DependencyDescriptor) -> Vec<String> {
    let name = match dependency.service.as_str() {
        "*" => "everybody else",
        name => name,
    };
    let retries = match dependency.retries {
        0 => "never tried again".to_owned(),
        retries => format!(
            "{} within {} of waiting, at most {} % more load or {} a second",
            if retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") },
            time(dependency.retry_pause_ms),
            dependency.retry_percent,
            dependency.retry_per_second,
        ),
    };
    let attempt = dependency.attempt_ms.map(|ms| format!("{} an attempt", time(ms)));
    let bulkhead = dependency.bulkhead.map(|limit| format!("{limit} at once"));
    let breaker = dependency.breaker.as_ref().map(|breaker| {
        format!(
            "breaker: {} % of at least {} calls in {}, then {} to {} of rest",
            breaker.percent,
            breaker.calls,
            time(breaker.window_ms),
            time(breaker.pause_ms),
            time(breaker.longest_pause_ms),
        )
    });
    let rest: Vec<String> = [attempt, bulkhead, breaker].into_iter().flatten().collect();
    row([name.to_owned(), retries, rest.join("; ")])
}

fn event(event: &EventDescriptor) -> Vec<String> {
    row([format!("{} v{}", event.name, event.version), event.subject.clone(), event.description.clone()])
}

fn grant(grant: &Grant) -> Vec<String> {
    row([grant.subject.clone(), grant.purpose.clone()])
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    let mut cells = Vec::from(cells);
    if let Some(first) = cells.first_mut() {
        first.insert_str(0, "  ");
    }
    cells
}

fn time(milliseconds: u64) -> String {
    quantity::duration(Duration::from_millis(milliseconds))
}
