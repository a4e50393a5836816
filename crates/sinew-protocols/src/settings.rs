//! What the calls of workflows may do, and how they reach their hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;

/// How calls leave this process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Certificates in PEM that are trusted beside those of the system.
    pub extra_roots: Vec<String>,
    /// Where hosts really are: `host:port` to an address, in place of a name server.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// The values behind `$secrets`, by name. They reach requests, never the log.
    pub secrets: BTreeMap<String, Value>,
    /// Which processes a workflow may start; none by default.
    pub allow: Allow,
    /// The most bytes of a reply or document that are read.
    pub max_body: usize,
}

/// The processes a workflow may start on this machine.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    /// Commands of `run: shell`, by their first word; `*` for all.
    pub shell: BTreeSet<String>,
    /// Languages of `run: script`, such as `python`.
    pub script: BTreeSet<String>,
    /// Images of `run: container`, by their name without a tag; `*` for all.
    pub container: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extra_roots: Vec::new(),
            resolve: BTreeMap::new(),
            secrets: BTreeMap::new(),
            allow: Allow::default(),
            max_body: 8 << 20,
        }
    }
}
