//! Feeds of events as `edge.yaml` writes them. Values only: [`crate::feed`] says what they mean.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Mistake, below, route::From};

/// How clients follow events: what they get of them, from where on, and how many may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    /// Which events a client gets: what a member of the data, as a JSON pointer, or a header field of the event has to be.
    /// One taken from the query need not be given, and then lets every event pass; the others have to be there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, From>,
    /// What is sent of an event; a client may ask for the other with `?format=`.
    pub format: FeedFormat,
    /// Whether clients may begin in the past, with `?from=` and a time or a sequence. Going on where one was needs no leave.
    pub replay: bool,
    /// Most clients of the route at this edge.
    pub max_clients: usize,
    /// Most clients of the route from one address at this edge.
    pub max_clients_per_ip: usize,
    /// Most events a second to one client, 0 for as many as come; what is more waits in the stream.
    pub max_rate: u32,
    /// Longest silence, in milliseconds; then a sign of life is sent.
    pub heartbeat_ms: u64,
    /// How long a client may stay, in milliseconds; then its feed ends, and it comes again where it was. 0 for as long as it
    /// likes.
    pub longest_ms: u64,
    /// How long a browser waits before it comes again, in milliseconds.
    pub retry_ms: u64,
}

/// What is sent of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeedFormat {
    /// Its data.
    #[default]
    Data,
    /// All of it, as a CloudEvent in JSON.
    CloudEvents,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            filter: BTreeMap::new(),
            format: FeedFormat::default(),
            replay: false,
            max_clients: 10_000,
            max_clients_per_ip: 100,
            max_rate: 0,
            heartbeat_ms: 15_000,
            longest_ms: 0,
            retry_ms: 2_000,
        }
    }
}

impl Feed {
    /// Adds the numbers that cannot work.
    pub(crate) fn out_of_range(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let numbers = [
            ("max_clients", self.max_clients as u64),
            ("max_clients_per_ip", self.max_clients_per_ip as u64),
            ("heartbeat_ms", self.heartbeat_ms),
        ];
        let zero = numbers.into_iter().filter(|(_, value)| *value == 0);
        mistakes.extend(zero.map(|(name, _)| Mistake::new(below(at, name), "0 cannot work: use 1 or more")));
    }
}
