//! How a process reaches the bus. Values only: the binary reads the environment, not this crate.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// How to connect, and where traces go.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Server address; several, separated by commas, name one cluster.
    pub url: String,
    /// Name the server shows for this connection, and `service.name` in traces.
    pub name: String,
    /// Credentials file (JWT and seed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// Token, for servers that ask for one.
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// Certificates (PEM) of the authorities a server's certificate may come from, in the place of the system's own;
    /// naming a file makes an encrypted connection a must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate chain (PEM) to show to a server that asks who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// First token of reply inboxes; give each identity its own so that permissions can separate them.
    pub inbox_prefix: String,
    /// Longest time the first connection may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Copies of each stream and bucket that is opened through this connection, in a cluster; three survive the loss of a
    /// server. What stands with fewer is given as many, where the server allows it; what stands with more keeps them.
    pub replicas: usize,
    /// OTLP endpoint (HTTP, protobuf) such as `http://127.0.0.1:4318`; none switches tracing off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            name: "sinew".to_owned(),
            credentials: None,
            token: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            inbox_prefix: "_INBOX".to_owned(),
            connect_timeout_ms: 5_000,
            replicas: 1,
            otlp_endpoint: None,
        }
    }
}

impl Config {
    /// Creates the configuration that connects `name` to `url` and leaves everything else at its default.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self { url: url.into(), name: name.into(), ..Self::default() }
    }

    /// Sends traces to `endpoint`, if there is one.
    #[must_use]
    pub fn traced_to(mut self, endpoint: Option<String>) -> Self {
        self.otlp_endpoint = endpoint;
        self
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}
