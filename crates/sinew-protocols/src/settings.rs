//! What the calls of workflows may do, and how they reach their hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Secrets;

/// How calls leave this process.
#[derive(Clone)]
pub struct Settings {
    /// Certificates in PEM that are trusted beside those of the system.
    pub extra_roots: Vec<String>,
    /// Where hosts really are: `host:port` to an address, in place of a name server.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// The values behind `$secrets`, by name. They reach requests, never the log.
    pub secrets: Secrets,
    /// What a workflow may do on this machine; nothing by default.
    pub allow: Allow,
    /// The program that runs containers; `docker`, or else `podman`, when it is not set.
    pub container_engine: Option<PathBuf>,
    /// The most bytes of a reply, a document or a process's output that are read.
    pub max_body: usize,
}

/// What a workflow may do on this machine.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    /// Commands of `run: shell`, by their first word, and those that start MCP servers; `*` for all.
    ///
    /// A command that is named is started without a shell, as plain words; with `*` a command is a text for `sh`.
    pub shell: BTreeSet<String>,
    /// Languages of `run: script`, such as `python`.
    pub script: BTreeSet<String>,
    /// Images of `run: container`, by their name without a tag; `*` for all.
    pub container: BTreeSet<String>,
    /// Directories whose files may be read as documents, by `file:` URIs, and mounted into containers.
    pub file: BTreeSet<PathBuf>,
}

impl fmt::Debug for Settings {
    /// Names secrets without showing them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets: Vec<_> = self.secrets.keys().collect();
        f.debug_struct("Settings")
            .field("resolve", &self.resolve)
            .field("secrets", &secrets)
            .field("allow", &self.allow)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extra_roots: Vec::new(),
            resolve: BTreeMap::new(),
            secrets: Secrets::new(),
            allow: Allow::default(),
            container_engine: None,
            max_body: 8 << 20,
        }
    }
}
