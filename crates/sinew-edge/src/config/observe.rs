//! What others see of the edge: where metrics are read, and what is logged of each request.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mistake;

/// Where metrics are read, as Prometheus does: `GET /metrics`, never on the address of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address to listen on; port 0 lets the system choose one.
    pub listen: SocketAddr,
}

/// One line for each request, without its secrets: neither `Authorization` nor cookies are ever written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// How a line is written.
    pub format: LogFormat,
    /// `stdout`, `stderr` or a file, which is appended to and opened again at SIGHUP.
    pub to: String,
    /// Which requests are written.
    pub only: LogOnly,
    /// How many successes in a hundred are written. Errors and slow requests always are.
    pub sample_percent: u8,
    /// From how many milliseconds on a request is written whatever became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_ms: Option<u64>,
    /// Whether queries are written: they may hold what is nobody's business.
    pub query: bool,
    /// What is written, in this order; everything where it is empty. The combined format has its own.
    pub fields: Vec<LogField>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// As Apache's and nginx's combined log.
    Combined,
    /// Pairs of name and value.
    Logfmt,
}

/// Which requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogOnly {
    /// All of them.
    #[default]
    All,
    /// Those answered with 400 or above.
    Errors,
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogField {
    /// When it was answered.
    Time,
    /// The id of its trace.
    Trace,
    /// Who asked, by way of trusted proxies.
    Client,
    /// The method.
    Method,
    /// The path, with the query where `query` says so.
    Path,
    /// The path template of its route.
    Route,
    /// The answer's status.
    Status,
    /// The problem code, where it was refused.
    Code,
    /// Bytes of the answer's body; absent for streams.
    Bytes,
    /// Milliseconds until the answer began.
    DurationMs,
    /// Those of them that operations took, retries included; absent where none was asked, and for streams.
    UpstreamMs,
    /// `User-Agent`.
    UserAgent,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            to: "stdout".to_owned(),
            only: LogOnly::default(),
            sample_percent: 100,
            slow_ms: None,
            query: false,
            fields: Vec::new(),
        }
    }
}

impl AccessLog {
    pub(super) fn out_of_range(&self, mistakes: &mut Vec<Mistake>) {
        if self.to.is_empty() {
            mistakes.push(Mistake::new("/access_log/to", "write stdout, stderr or the path of a file"));
        }
        if self.sample_percent > 100 {
            mistakes.push(Mistake::new("/access_log/sample_percent", "has to be 0 to 100"));
        }
        if self.format == LogFormat::Combined && !self.fields.is_empty() {
            let message = "the combined format has its own fields: leave them out, or use json or logfmt";
            mistakes.push(Mistake::new("/access_log/fields", message));
        }
    }
}

impl LogField {
    pub(crate) const ALL: [Self; 12] = [
        Self::Time,
        Self::Trace,
        Self::Client,
        Self::Method,
        Self::Path,
        Self::Route,
        Self::Status,
        Self::Code,
        Self::Bytes,
        Self::DurationMs,
        Self::UpstreamMs,
        Self::UserAgent,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Trace => "trace",
            Self::Client => "client",
            Self::Method => "method",
            Self::Path => "path",
            Self::Route => "route",
            Self::Status => "status",
            Self::Code => "code",
            Self::Bytes => "bytes",
            Self::DurationMs => "duration_ms",
            Self::UpstreamMs => "upstream_ms",
            Self::UserAgent => "user_agent",
        }
    }
}
