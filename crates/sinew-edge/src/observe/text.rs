//! Metrics as text: the exposition format of Prometheus, version 0.0.4.

use std::{
    fmt::{Display, Write as _},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::counts::{BOUNDS, Counts, Label, Metrics, STATUSES};
use crate::Edge;

type Listed = [(Label, Arc<Counts>)];

/// Writes all there is to tell.
pub(super) fn write(edge: &Edge, metrics: &Metrics) -> String {
    let routes = metrics.list();
    let mut text = String::with_capacity(16 * 1024);
    requests(&mut text, &routes);
    durations(&mut text, &routes);
    traffic(&mut text, &routes);
    family(&mut text, "sinew_edge_refusals_total", "counter", "Problems told to clients, by code.");
    for (code, count) in metrics.refused.list().filter(|(_, count)| *count > 0) {
        sample(&mut text, "sinew_edge_refusals_total", &[("code", code)], count);
    }
    edge.policies.describe(&mut text);
    edge.policies.tallies.describe(&mut text);
    circuits(&mut text, edge);
    state(&mut text, edge, metrics);
    edge.reloads.describe(&mut text);
    process(&mut text);
    text
}

/// Begins a family of samples.
pub(crate) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Writes one sample.
pub(crate) fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    text.push_str(name);
    for (at, (label, value)) in labels.iter().enumerate() {
        let _ = write!(text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
        for character in value.chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                '\n' => text.push_str("\\n"),
                plain => text.push(plain),
            }
        }
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// Writes a family of one sample.
pub(super) fn one(text: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    family(text, name, kind, help);
    sample(text, name, &[], value);
}

fn labels((method, path, name): &Label) -> [(&str, &str); 3] {
    [("method", method), ("route", path), ("name", name)]
}

fn requests(text: &mut String, routes: &Listed) {
    family(text, "sinew_edge_requests_total", "counter", "Requests answered, by route and status.");
    for (label, counts) in routes {
        let [method, route, name] = labels(label);
        for (status, count) in STATUSES.iter().zip(&counts.statuses) {
            let count = count.load(Relaxed);
            if count > 0 {
                let status = status.to_string();
                sample(text, "sinew_edge_requests_total", &[method, route, name, ("status", &status)], count);
            }
        }
    }
}

fn durations(text: &mut String, routes: &Listed) {
    let name = "sinew_edge_request_duration_seconds";
    family(text, name, "histogram", "Time from a request's head to the beginning of its answer.");
    for (label, counts) in routes {
        let all: Vec<u64> = counts.took.iter().map(|count| count.load(Relaxed)).collect();
        if all.iter().all(|count| *count == 0) {
            continue;
        }
        let [method, route, named] = labels(label);
        let mut sum = 0;
        for (at, count) in all.iter().enumerate() {
            sum += count;
            let bound = BOUNDS.get(at).map(|micros| *micros as f64 / 1e6);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            sample(text, &format!("{name}_bucket"), &[method, route, named, ("le", &bound)], sum);
        }
        let seconds = counts.micros.load(Relaxed) as f64 / 1e6;
        sample(text, &format!("{name}_sum"), &[method, route, named], seconds);
        sample(text, &format!("{name}_count"), &[method, route, named], sum);
    }
}

fn traffic(text: &mut String, routes: &Listed) {
    type Read = fn(&Counts) -> u64;
    let families: [(&str, &str, &str, Read); 3] = [
        ("sinew_edge_requests_in_flight", "gauge", "Requests without an answer yet.", |counts| {
            counts.in_flight.load(Relaxed)
        }),
        ("sinew_edge_request_bytes_total", "counter", "Announced bytes of bodies of requests.", |counts| {
            counts.asked.load(Relaxed)
        }),
        ("sinew_edge_response_bytes_total", "counter", "Bytes of answers, but for streams.", |counts| {
            counts.answered.load(Relaxed)
        }),
    ];
    for (name, kind, help, read) in families {
        family(text, name, kind, help);
        for (label, counts) in routes {
            sample(text, name, &labels(label), read(counts));
        }
    }
}

fn circuits(text: &mut String, edge: &Edge) {
    let name = "sinew_edge_circuit_open";
    family(
        text,
        name,
        "gauge",
        "Operations that are not asked because they keep failing: 1 open, 0.5 being tried.",
    );
    for route in edge.table.load().routes() {
        for (operation, tried) in route.policies.circuits() {
            let value = if tried { 0.5 } else { 1.0 };
            sample(text, name, &[("name", &route.name), ("operation", &operation)], value);
        }
    }
}

fn state(text: &mut String, edge: &Edge, metrics: &Metrics) {
    let table = edge.table.load();
    one(text, "sinew_edge_connections", "gauge", "Open connections.", edge.observer.connections());
    one(text, "sinew_edge_routes", "gauge", "Routes in force beside the edge's own.", table.routes().len());
    let help = "Route tables put into place since the start.";
    one(text, "sinew_edge_tables_total", "counter", help, metrics.tables.load(Relaxed));
    let connected = u8::from(edge.bus.is_connected());
    one(text, "sinew_edge_bus_connected", "gauge", "Whether the bus is there.", connected);
    let ready = u8::from(edge.checks.iter().all(crate::ReadyCheck::is_ready));
    one(text, "sinew_edge_ready", "gauge", "What /healthz/ready says.", ready);
    if let Some(log) = &edge.observer.log {
        let help = "Lines of the access log that found no room.";
        one(text, "sinew_edge_access_log_lost_total", "counter", help, log.lost());
    }
}

/// Tells of the process what the kernel does, where it does.
fn process(text: &mut String) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let resident = read("status").and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    if let Some(kilobytes) = resident {
        let help = "Memory in use.";
        one(text, "process_resident_memory_bytes", "gauge", help, kilobytes * 1024);
    }
    let ticks = read("stat").map(|stat| {
        // The name, in brackets, may hold blanks; behind it the 12th and 13th fields are hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    });
    if let Some(ticks) = ticks {
        one(text, "process_cpu_seconds_total", "counter", "Processor time used.", ticks as f64 / 100.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_sample() {
        let mut text = String::new();
        sample(&mut text, "m", &[("a", "x\"}\n1\\"), ("b", "")], 2);
        assert_eq!(text, "m{a=\"x\\\"}\\n1\\\\\",b=\"\"} 2\n");
    }
}
