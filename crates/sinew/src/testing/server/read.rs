//! Reading a stream: single messages from its leader, and batches of them (NATS ADR-31).

use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};
use sinew_wire::Headers;

use super::{
    Entry, Packet, Server,
    api::NO_STREAM,
    stream::{Refused, Stream},
    subject::matches,
};

const NO_MESSAGE: Refused = Refused(404, 10_037, "no message found");

impl Server {
    /// Answers `STREAM.MSG.GET`.
    pub(super) fn get(&self, name: &str, body: &Value) -> Result<Value, Refused> {
        let stream = self.streams.get(name).ok_or(NO_STREAM)?;
        let (sequence, entry) = find(stream, body).ok_or(NO_MESSAGE)?;
        let mut message = json!({
            "subject": entry.subject,
            "seq": sequence,
            "time": entry.stored.to_string(),
            "data": BASE64.encode(&entry.payload),
        });
        if !entry.headers.is_empty() {
            message["hdrs"] = BASE64.encode(&block(&entry.headers)).into();
        }
        Ok(json!({ "message": message }))
    }

    /// Answers `DIRECT.GET`: one message, or as many as asked for and an end mark.
    pub(super) fn read(&mut self, name: &str, subject: Option<&str>, packet: &Packet) {
        let Some(inbox) = packet.reply.clone() else { return };
        let Some(stream) = self.streams.get(name) else {
            self.route(&inbox, &Packet::status(inbox.clone(), 503));
            return;
        };
        let mut body: Value = serde_json::from_slice(&packet.payload).unwrap_or_else(|_| json!({}));
        if let Some(subject) = subject {
            body["last_by_subj"] = subject.into();
        }
        let answers = match body["batch"].as_u64() {
            Some(batch) => page(stream, name, &inbox, &body, batch),
            None => match find(stream, &body) {
                Some((sequence, entry)) => vec![part(name, &inbox, sequence, entry)],
                None => vec![Packet::status(&inbox, 404)],
            },
        };
        for answer in answers {
            self.route(&inbox, &answer);
        }
    }
}

fn find<'s>(stream: &'s Stream, body: &Value) -> Option<(u64, &'s Entry)> {
    if let Some(subject) = body["last_by_subj"].as_str() {
        let sequence = stream.newest(subject)?;
        return Some((sequence, stream.entries().get(&sequence)?));
    }
    if let (None, None, Some(sequence)) =
        (body["next_by_subj"].as_str(), body["start_time"].as_str(), body["seq"].as_u64())
    {
        return Some((sequence, stream.entries().get(&sequence)?));
    }
    from(stream, body).next()
}

/// Goes through the messages from `seq` or `start_time` on that are on `next_by_subj`.
fn from<'s>(stream: &'s Stream, body: &Value) -> impl Iterator<Item = (u64, &'s Entry)> {
    let begin = body["seq"].as_u64().unwrap_or(1);
    let pattern = body["next_by_subj"].as_str().unwrap_or(">").to_owned();
    let time: Option<Timestamp> = body["start_time"].as_str().and_then(|text| text.parse().ok());
    let wanted = move |entry: &Entry| {
        matches(&pattern, &entry.subject) && time.is_none_or(|time| entry.stored >= time)
    };
    let entries = stream.entries().range(begin..).filter(move |(_, entry)| wanted(entry));
    entries.map(|(sequence, entry)| (*sequence, entry))
}

fn page(stream: &Stream, name: &str, inbox: &str, body: &Value, batch: u64) -> Vec<Packet> {
    let found: Vec<(u64, &Entry)> = from(stream, body).collect();
    if found.is_empty() {
        return vec![Packet::status(inbox, 404)];
    }
    let batch = usize::try_from(batch).unwrap_or(usize::MAX).min(found.len());
    let (mut answers, mut last) = (Vec::new(), 0);
    for (place, (sequence, entry)) in found.iter().take(batch).enumerate() {
        let mut answer = part(name, inbox, *sequence, entry);
        mark(&mut answer, last, found.len() - place - 1);
        last = *sequence;
        answers.push(answer);
    }
    let mut end = Packet::status(inbox, 204);
    mark(&mut end, last, found.len() - batch);
    answers.push(end);
    answers
}

fn part(stream: &str, inbox: &str, sequence: u64, entry: &Entry) -> Packet {
    let mut headers = entry.headers.clone();
    let mut set = |name: &'static str, value: String| {
        // Names are ours, values are names of streams, subjects and numbers.
        let _ = headers.set(name, value);
    };
    set("Nats-Stream", stream.to_owned());
    set("Nats-Subject", entry.subject.clone());
    set("Nats-Sequence", sequence.to_string());
    set("Nats-Time-Stamp", entry.stored.to_string());
    Packet { headers, ..Packet::new(inbox, entry.payload.clone()) }
}

fn mark(packet: &mut Packet, last: u64, pending: usize) {
    let _ = packet.headers.set("Nats-Last-Sequence", last.to_string());
    let _ = packet.headers.set("Nats-Num-Pending", pending.to_string());
}

/// Writes headers as they are stored.
fn block(headers: &Headers) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, value) in headers.iter() {
        block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    block.extend_from_slice(b"\r\n");
    block
}
