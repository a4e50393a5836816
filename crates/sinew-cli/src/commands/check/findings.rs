//! What is wrong or will be, judged from what was seen on the bus. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use sinew::{
    EVENTS,
    bus::{ConsumerInfo, StreamInfo},
};

use super::sync::SyncMode;
use crate::{
    catalogue::Known,
    commands::tail::target::GroupName,
    output::{Output, Style},
    quantity,
    subjects::covers,
};

/// A limit counts as near from this part of it on.
const NEAR: f64 = 0.9;
/// What a server of version 2.15 allows a stream that sets no limit of its own.
const USUAL_CONSUMERS: u64 = 1_000;

/// The codes of findings; each has a page in `sinew explain`.
pub(super) mod code {
    pub(crate) const ENDLESS_REDELIVERY: &str = "SNW-5014";
    pub(crate) const LAZY_SYNC: &str = "SNW-5015";
    pub(crate) const UNSERVED_CONSUMER: &str = "SNW-5016";
    pub(crate) const UNCOVERED_EVENT: &str = "SNW-5017";
    pub(crate) const NEAR_LIMIT: &str = "SNW-5018";
    pub(crate) const DEAD_LETTERS: &str = "SNW-5019";
}

/// What the bus holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) streams: Vec<StreamInfo>,
    /// Consumers of the stream of events.
    pub(super) consumers: Vec<ConsumerInfo>,
    /// Consumers of the groups' own inlets. Who serves a group serves its inlet.
    pub(super) inlets: Vec<ConsumerInfo>,
    pub(super) services: BTreeMap<String, Known>,
    /// Dead letters by subject.
    pub(super) dead: Vec<(String, u64)>,
    /// Bytes of storage in use and allowed, where there is a limit.
    pub(super) storage: Option<(u64, u64)>,
    pub(super) sync: SyncMode,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Something is wrong.
    Warning,
    /// Something may be, and only a person can know.
    Note,
}

/// One thing worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// The stream, consumer, event or group in question.
    pub(super) about: String,
    pub(super) text: String,
    pub(super) next_step: String,
}

/// Judges what was seen.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(seen.consumers.iter().chain(&seen.inlets).filter_map(endless));
    findings.extend(seen.consumers.iter().filter_map(|consumer| unserved(seen, consumer)));
    findings.extend(uncovered(seen));
    findings.extend(seen.streams.iter().flat_map(near_limits));
    findings.extend(storage(seen));
    findings.extend(seen.dead.iter().filter_map(dead_letters));
    findings.extend(lazy(seen));
    findings
}

impl Finding {
    /// Writes it for people.
    pub(super) fn to_text(&self, output: &Output) -> String {
        let (style, word) = match self.severity {
            Severity::Warning => (Style::Doubtful, "warning"),
            Severity::Note => (Style::Quiet, "note"),
        };
        let head = output.paint(style, &format!("{word}[{}]", self.code));
        format!("{head}: {}\n  next: {}", self.text, self.next_step)
    }
}

fn endless(consumer: &ConsumerInfo) -> Option<Finding> {
    let ConsumerInfo { name, stream, .. } = consumer;
    consumer.max_deliver.is_none().then(|| Finding {
        code: code::ENDLESS_REDELIVERY,
        severity: Severity::Warning,
        about: name.clone(),
        text: format!("consumer {name} of {stream} delivers an event without end when nobody can handle it"),
        next_step: format!("set its limit: `nats consumer edit {stream} {name} --max-deliver 20`"),
    })
}

fn unserved(seen: &Seen, consumer: &ConsumerInfo) -> Option<Finding> {
    if !consumer.durable || consumer.waiting > 0 || consumer.bound {
        return None;
    }
    let name = &consumer.name;
    let group = GroupName::of_consumer(name);
    let why = match &group {
        Some(group) => match seen.services.get(&group.service) {
            Some(known) if known.instances.is_empty() => format!("no instance of {} runs", group.service),
            None => format!("no service {} is known", group.service),
            // It runs. All hands may be busy, unless its contract has no such group any more.
            Some(Known { contract: Some(contract), .. })
                if contract.groups.iter().all(|own| own.name != group.group) =>
            {
                format!("{} {} has no such group", contract.name, contract.version)
            }
            Some(_) => return None,
        },
        None if consumer.unsettled > 0 => return None,
        None => "it belongs to no service of Sinew".to_owned(),
    };
    let behind = quantity::count(consumer.pending + consumer.unsettled, "event");
    Some(Finding {
        code: code::UNSERVED_CONSUMER,
        severity: Severity::Warning,
        about: group.as_ref().map_or_else(|| name.clone(), ToString::to_string),
        text: format!("nobody takes what consumer {name} of {EVENTS} keeps: {why}; {behind} behind"),
        next_step: format!(
            "start the service; if the group is gone for good: `nats consumer rm {EVENTS} {name}`"
        ),
    })
}

/// Without the stream of events there is nothing to compare with: the first event makes it.
fn uncovered(seen: &Seen) -> Vec<Finding> {
    let Some(events) = seen.streams.iter().find(|stream| stream.name == EVENTS) else { return Vec::new() };
    let contracts = seen.services.values().filter_map(|known| known.contract.as_ref());
    let subjects = contracts.flat_map(|contract| {
        let taken = contract.groups.iter().map(|group| (&group.event, "takes"));
        let published = contract.publishes.iter().map(|event| (event, "publishes"));
        taken.chain(published).map(|(event, verb)| (&event.subject, format!("{} {verb} it", contract.name)))
    });
    let outside = subjects.filter(|(subject, _)| !events.subjects.iter().any(|own| covers(own, subject)));
    let mut by_subject: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (subject, who) in outside {
        let all = by_subject.entry(subject).or_default();
        if !all.contains(&who) {
            all.push(who);
        }
    }
    let finding = |(subject, who): (&String, Vec<String>)| Finding {
        code: code::UNCOVERED_EVENT,
        severity: Severity::Warning,
        about: subject.clone(),
        text: format!("stream {EVENTS} does not capture {subject}: {}", who.join(", ")),
        next_step: format!(
            "give the stream its subjects back: `nats stream edit {EVENTS} --subjects 'evt.>'`"
        ),
    };
    by_subject.into_iter().map(finding).collect()
}

fn near_limits(stream: &StreamInfo) -> Vec<Finding> {
    let full =
        if stream.refuses_when_full { "it will refuse what is new" } else { "it drops what is oldest" };
    let consumers = Some(stream.max_consumers.unwrap_or(USUAL_CONSUMERS));
    let limits = [
        (stream.messages, stream.max_messages, "messages", full),
        (stream.bytes, stream.max_bytes, "bytes", full),
        (stream.consumers, consumers, "consumers", "it will refuse new ones"),
    ];
    let near = limits.into_iter().filter_map(|(used, limit, what, then)| {
        let limit = limit.filter(|&limit| is_near(used, limit))?;
        Some(Finding {
            code: code::NEAR_LIMIT,
            severity: Severity::Warning,
            about: stream.name.clone(),
            text: format!("stream {} holds {used} of {limit} {what}: when full, {then}", stream.name),
            next_step: format!("raise the limit (`nats stream edit {}`) or find who fills it", stream.name),
        })
    });
    near.collect()
}

fn storage(seen: &Seen) -> Option<Finding> {
    let (used, limit) = seen.storage.filter(|&(used, limit)| is_near(used, limit))?;
    Some(Finding {
        code: code::NEAR_LIMIT,
        severity: Severity::Warning,
        about: "jetstream".to_owned(),
        text: format!(
            "the account stores {} of {}: when full, nothing is accepted",
            quantity::size(used),
            quantity::size(limit)
        ),
        next_step: "raise the account's limit, or give streams an age after which they drop messages"
            .to_owned(),
    })
}

fn dead_letters((subject, count): &(String, u64)) -> Option<Finding> {
    let (service, group) = subject.strip_prefix("dlq.")?.split_once('.')?;
    (*count > 0).then(|| Finding {
        code: code::DEAD_LETTERS,
        severity: Severity::Warning,
        about: format!("{service}/{group}"),
        text: format!(
            "{} of {service}/{group}: events nobody handled",
            quantity::count(*count, "dead letter")
        ),
        next_step: format!("`sinew dlq ls {service}/{group}` shows why; then retry, edit or drop them"),
    })
}

fn lazy(seen: &Seen) -> Option<Finding> {
    let single = seen.streams.iter().filter(|stream| stream.replicas <= 1 && !stream.in_memory);
    let names: Vec<&str> =
        single.map(|stream| stream.name.as_str()).filter(|name| !name.starts_with("KV_")).collect();
    let (severity, how) = match &seen.sync {
        _ if names.is_empty() => return None,
        SyncMode::Always => return None,
        SyncMode::Every(interval) => (Severity::Warning, format!("the server syncs every {interval}")),
        SyncMode::Unknown => (Severity::Note, "a server does not tell its clients when it syncs".to_owned()),
    };
    Some(Finding {
        code: code::LAZY_SYNC,
        severity,
        about: names.join(", "),
        text: format!(
            "{} on one server only, and {how}: a power failure may take acknowledged messages along",
            names.join(", ")
        ),
        next_step:
            "set `sync_interval: always` in its jetstream section (show the file with --server-config), or \
                    run three servers and three replicas"
                .to_owned(),
    })
}

fn is_near(used: u64, limit: u64) -> bool {
    limit > 0 && used as f64 >= NEAR * limit as f64
}

#[cfg(test)]
mod tests;
