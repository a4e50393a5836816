//! The administration of streams and consumers: JSON in, JSON out, errors by the numbers a nats-server uses.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Packet, Server,
    consumer::{Consumer, Request},
    refusal,
    settings::{ConsumerSettings, StreamSettings},
    stream::{Refused, Stream},
    subject::overlap,
};

pub(super) const NO_STREAM: Refused = Refused(404, 10_059, "stream not found");
pub(super) const NO_CONSUMER: Refused = Refused(404, 10_014, "consumer not found");
const BAD_REQUEST: Refused = Refused(400, 10_003, "bad request");
const STREAM_STANDS: Refused =
    Refused(400, 10_058, "stream name already in use with a different configuration");
const OVERLAP: Refused = Refused(400, 10_065, "subjects overlap with an existing stream");
const NOT_UNIQUE: Refused = Refused(400, 10_100, "filtered consumer not unique on workqueue stream");
const CONSUMER_STANDS: Refused = Refused(400, 10_148, "consumer already exists");
const DELETE_DENIED: Refused = Refused(400, 10_057, "message delete not permitted");
const PURGE_DENIED: Refused = Refused(400, 10_110, "stream purge not permitted");
const NO_SEQUENCE: Refused = Refused(400, 10_043, "sequence not found");

type Answer = Result<Value, Refused>;

impl Server {
    /// Carries out `$JS.API.<operation>` and answers.
    pub(super) fn api(&mut self, operation: &str, packet: &Packet) {
        let tokens: Vec<&str> = operation.split('.').collect();
        if let ["CONSUMER", "MSG", "NEXT", stream, name] = tokens[..] {
            return self.ask(stream, name, packet);
        }
        if let ["DIRECT", "GET", stream, ..] = tokens[..] {
            let subject = tokens.get(3..).filter(|rest| !rest.is_empty()).map(|rest| rest.join("."));
            return self.read(stream, subject.as_deref(), packet);
        }
        let Some(reply) = &packet.reply else { return };
        let body: Value = serde_json::from_slice(&packet.payload).unwrap_or_default();
        let answer = match tokens[..] {
            ["INFO"] => Ok(json!({ "streams": self.streams.len(), "limits": {}, "tiers": {} })),
            ["STREAM", verb, ..] => self.stream_api(verb, &tokens[2..], body),
            ["CONSUMER", verb, stream, ..] => self.consumer_api(verb, stream, &tokens[3..], body),
            _ => Err(BAD_REQUEST),
        };
        let answer = answer.unwrap_or_else(refusal);
        self.queue.push_back(Packet::new(reply.clone(), answer.to_string()));
    }

    fn stream_api(&mut self, verb: &str, rest: &[&str], body: Value) -> Answer {
        match (verb, rest) {
            ("NAMES", []) => Ok(page("streams", self.streams.keys().map(|name| json!(name)).collect())),
            ("LIST", []) => Ok(page("streams", self.streams.values().map(Stream::info).collect())),
            ("CREATE", [name]) => self.create_stream(name, body),
            ("UPDATE", [name]) => self.update_stream(name, body),
            ("DELETE", [name]) => {
                self.streams.remove(*name).ok_or(NO_STREAM)?;
                Ok(json!({ "success": true }))
            }
            ("INFO", [name]) => Ok(self.streams.get(*name).ok_or(NO_STREAM)?.info()),
            ("PURGE", [name]) => self.purge(name, &body),
            ("MSG", ["GET", name]) => self.get(name, &body),
            ("MSG", ["DELETE", name]) => self.delete(name, &body),
            _ => Err(BAD_REQUEST),
        }
    }

    fn consumer_api(&mut self, verb: &str, stream: &str, rest: &[&str], body: Value) -> Answer {
        // The old spelling of the same: CONSUMER.DURABLE.CREATE.<stream>.<name>.
        if let ("DURABLE", "CREATE", [stream, name]) = (verb, stream, rest) {
            return self.create_consumer(stream, name, body);
        }
        let consumers = |server: &Self| {
            server.streams.get(stream).ok_or(NO_STREAM).map(|found| {
                found.consumers.iter().map(|(name, one)| one.info(found, name)).collect::<Vec<_>>()
            })
        };
        match (verb, rest) {
            ("CREATE", [name, ..]) => self.create_consumer(stream, name, body),
            ("NAMES", []) => {
                let infos = consumers(self)?;
                Ok(page("consumers", infos.into_iter().map(|mut info| info["name"].take()).collect()))
            }
            ("LIST", []) => Ok(page("consumers", consumers(self)?)),
            ("INFO", [name]) => {
                let stream = self.streams.get(stream).ok_or(NO_STREAM)?;
                Ok(stream.consumers.get(*name).ok_or(NO_CONSUMER)?.info(stream, name))
            }
            ("DELETE", [name]) => {
                let stream = self.streams.get_mut(stream).ok_or(NO_STREAM)?;
                stream.consumers.remove(*name).ok_or(NO_CONSUMER)?;
                Ok(json!({ "success": true }))
            }
            _ => Err(BAD_REQUEST),
        }
    }

    fn create_stream(&mut self, name: &str, config: Value) -> Answer {
        let settings: StreamSettings = settings(name, &config)?;
        if let Some(stands) = self.streams.get(name) {
            let same = stands.settings == settings;
            return if same { Ok(stands.info()) } else { Err(STREAM_STANDS) };
        }
        self.overlapping(&settings)?;
        let stream = Stream::new(settings, config, self.now);
        let info = stream.info();
        self.streams.insert(name.to_owned(), stream);
        Ok(info)
    }

    fn update_stream(&mut self, name: &str, config: Value) -> Answer {
        let settings: StreamSettings = settings(name, &config)?;
        self.overlapping(&settings)?;
        let stream = self.streams.get_mut(name).ok_or(NO_STREAM)?;
        (stream.settings, stream.config) = (settings, config);
        Ok(stream.info())
    }

    fn overlapping(&self, settings: &StreamSettings) -> Result<(), Refused> {
        let others = self.streams.iter().filter(|(name, _)| **name != settings.name);
        let mut taken = others.flat_map(|(_, stream)| &stream.settings.subjects);
        match taken.any(|subject| settings.subjects.iter().any(|own| overlap(own, subject))) {
            true => Err(OVERLAP),
            false => Ok(()),
        }
    }

    fn purge(&mut self, name: &str, body: &Value) -> Answer {
        let stream = self.streams.get_mut(name).ok_or(NO_STREAM)?;
        if stream.settings.deny_purge {
            return Err(PURGE_DENIED);
        }
        let keep = body["keep"].as_u64().and_then(|keep| usize::try_from(keep).ok()).unwrap_or(0);
        let below = body["seq"].as_u64().filter(|below| *below > 0).unwrap_or(u64::MAX);
        let purged = stream.purge(body["filter"].as_str().unwrap_or(">"), below, keep);
        Ok(json!({ "success": true, "purged": purged }))
    }

    fn delete(&mut self, name: &str, body: &Value) -> Answer {
        let stream = self.streams.get_mut(name).ok_or(NO_STREAM)?;
        if stream.settings.deny_delete {
            return Err(DELETE_DENIED);
        }
        let sequence = body["seq"].as_u64().filter(|sequence| stream.entries().contains_key(sequence));
        stream.remove(sequence.ok_or(NO_SEQUENCE)?);
        Ok(json!({ "success": true }))
    }

    fn create_consumer(&mut self, stream: &str, name: &str, mut body: Value) -> Answer {
        let now = self.now;
        let config = body["config"].take();
        let wanted: ConsumerSettings = read(&config)?;
        let stream = self.streams.get_mut(stream).ok_or(NO_STREAM)?;
        if let Some(stands) = stream.consumers.get_mut(name) {
            if body["action"] == "create" && stands.settings != wanted {
                return Err(CONSUMER_STANDS);
            }
            (stands.settings, stands.config) = (wanted, config);
        } else {
            let mut others = stream.consumers.values().flat_map(|other| other.settings.filters());
            let shares = others.any(|taken| wanted.filters().iter().any(|own| overlap(own, taken)));
            if stream.settings.is_work_queue() && shares {
                return Err(NOT_UNIQUE);
            }
            let next = start(stream, &wanted);
            stream.consumers.insert(name.to_owned(), Consumer::new(wanted, config, now, next));
        }
        let made = stream.consumers.get(name).ok_or(NO_CONSUMER)?;
        Ok(made.info(stream, name))
    }

    fn ask(&mut self, stream: &str, name: &str, packet: &Packet) {
        let Some(inbox) = packet.reply.clone() else { return };
        let consumer = self.streams.get_mut(stream).and_then(|stream| stream.consumers.get_mut(name));
        let Some(consumer) = consumer else {
            self.route(&inbox, &Packet::status(inbox.clone(), 503));
            return;
        };
        let body: Value = serde_json::from_slice(&packet.payload).unwrap_or_default();
        consumer.ask(Request {
            inbox,
            left: body["batch"].as_u64().unwrap_or(1).max(1),
            heartbeat: !body["idle_heartbeat"].is_null(),
            max_bytes: body["max_bytes"].as_u64().and_then(|room| usize::try_from(room).ok()),
            expires: body["expires"].as_u64().map(Duration::from_nanos),
        });
    }
}

impl Stream {
    fn info(&self) -> Value {
        let bytes: usize = self.entries().values().map(|entry| entry.payload.len()).sum();
        json!({
            "type": "io.nats.jetstream.api.v1.stream_info_response",
            "config": self.config,
            "created": self.created.to_string(),
            "state": {
                "messages": self.entries().len(),
                "bytes": bytes,
                "first_seq": self.first(),
                "last_seq": self.last,
                "consumer_count": self.consumers.len(),
            },
        })
    }
}

impl Consumer {
    fn info(&self, stream: &Stream, name: &str) -> Value {
        let (floor, delivered) = self.progress();
        json!({
            "type": "io.nats.jetstream.api.v1.consumer_info_response",
            "stream_name": stream.settings.name,
            "name": name,
            "config": self.config,
            "created": self.created.to_string(),
            "delivered": { "consumer_seq": self.delivered, "stream_seq": delivered },
            "ack_floor": { "stream_seq": floor },
            "num_ack_pending": self.unsettled(),
            "num_redelivered": self.redelivered(),
            "num_waiting": self.requests(),
            "num_pending": self.pending(stream.entries()),
        })
    }
}

/// Returns the first message a new consumer delivers.
fn start(stream: &Stream, settings: &ConsumerSettings) -> u64 {
    match settings.deliver_policy.as_str() {
        "new" => stream.last + 1,
        "last" => settings.filters().iter().filter_map(|one| stream.newest(one)).max().unwrap_or(1),
        "by_start_sequence" => settings.opt_start_seq.max(1),
        _ => 1,
    }
}

fn settings(name: &str, config: &Value) -> Result<StreamSettings, Refused> {
    let mut settings: StreamSettings = read(config)?;
    settings.name = name.to_owned();
    if settings.subjects.is_empty() {
        settings.subjects.push(name.to_owned());
    }
    Ok(settings)
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Refused> {
    serde_json::from_value(value.clone()).map_err(|_| BAD_REQUEST)
}

fn page(what: &str, items: Vec<Value>) -> Value {
    json!({ "total": items.len(), "offset": 0, "limit": items.len(), what: items })
}
