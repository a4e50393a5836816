//! What the bus says about itself, and where catalogue and reality differ.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sinew::{Bus, DEAD_LETTERS, EVENTS, REDELIVERIES, bus::StreamInfo, wire::Headers};

use super::{
    findings::{self, Finding, Seen},
    sync::SyncMode,
};

use crate::{
    catalogue::{self, Known},
    error::Error,
    output::{Output, Style, columns},
    quantity,
};

const PATIENCE: Duration = Duration::from_secs(2);

/// What was found on the bus.
#[derive(Serialize)]
pub(super) struct Found {
    server: String,
    max_payload: usize,
    /// JetStream's use and limits; `None` when it does not answer.
    jetstream: Option<JetStream>,
    /// When writes reach the disk. A server tells that to its operators only.
    sync: SyncMode,
    streams: Vec<StreamInfo>,
    /// What is wrong or will be.
    pub(super) findings: Vec<Finding>,
    /// Services in the catalogue that nobody serves.
    absent: Vec<String>,
    /// Services that answer, but have no contract in the catalogue: those of other NATS clients.
    uncatalogued: Vec<String>,
}

#[derive(Serialize)]
struct JetStream {
    streams: u64,
    consumers: u64,
    storage: u64,
    /// Bytes; `None` where the account has no limit of its own.
    max_storage: Option<u64>,
    memory: u64,
}

pub(super) async fn look(bus: &Bus, sync: SyncMode) -> Result<Found, Error> {
    let jetstream = jetstream(bus).await;
    let mut seen = Seen { services: catalogue::services(bus).await?, sync, ..Seen::default() };
    if let Some(jetstream) = &jetstream {
        seen.streams = bus.streams().await?;
        seen.consumers = bus.consumers(EVENTS).await?;
        seen.inlets = bus.consumers(REDELIVERIES).await?;
        seen.dead = bus.subject_counts(DEAD_LETTERS, "dlq.>").await?;
        seen.storage = jetstream.max_storage.map(|limit| (jetstream.storage, limit));
    }
    let names = |wanted: fn(&Known) -> bool| {
        seen.services.iter().filter(|(_, known)| wanted(known)).map(|(name, _)| name.clone()).collect()
    };
    Ok(Found {
        server: bus.server_version(),
        max_payload: bus.max_payload(),
        jetstream,
        findings: findings::judge(&seen),
        absent: names(|known| known.instances.is_empty()),
        uncatalogued: names(|known| known.contract.is_none()),
        sync: seen.sync,
        streams: seen.streams,
    })
}

async fn jetstream(bus: &Bus) -> Option<JetStream> {
    let answer = bus.request("$JS.API.INFO", &Headers::new(), Bytes::new(), PATIENCE).await.ok()?;
    let info: Value = serde_json::from_slice(answer.payload()).ok()?;
    let number = |pointer: &str| info.pointer(pointer).and_then(Value::as_u64);
    Some(JetStream {
        streams: number("/streams")?,
        consumers: number("/consumers")?,
        storage: number("/storage")?,
        max_storage: number("/limits/max_storage"),
        memory: number("/memory")?,
    })
}

impl Found {
    pub(super) fn to_text(&self, output: &Output) -> String {
        let jetstream = match &self.jetstream {
            Some(js) => format!(
                "{}, {}, {} stored{}",
                quantity::count(js.streams, "stream"),
                quantity::count(js.consumers, "consumer"),
                quantity::size(js.storage),
                js.max_storage.map_or_else(String::new, |limit| format!(" of {}", quantity::size(limit))),
            ),
            None => output.paint(Style::Bad, "does not answer: start the server with `-js`"),
        };
        let absent = match self.absent.as_slice() {
            [] => output.paint(Style::Good, "none"),
            names => output.paint(Style::Doubtful, &names.join(", ")),
        };
        let uncatalogued = match self.uncatalogued.as_slice() {
            [] => output.paint(Style::Good, "none"),
            names => format!("{}; called as JSON", names.join(", ")),
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let table = columns(&[
            row("server", format!("nats-server {}", self.server)),
            row("largest message", quantity::size(self.max_payload as u64)),
            row("jetstream", jetstream),
            row("sync", self.sync.text()),
            row("served by nobody", absent),
            row("no contract", uncatalogued),
        ]);
        let findings: String =
            self.findings.iter().map(|finding| format!("\n\n{}", finding.to_text(output))).collect();
        format!("{table}{findings}")
    }
}
