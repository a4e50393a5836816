//! The edge's settings: limits against clients, how long things may take, and routes. Values only, no file is read here.

mod cache;
mod feed;
mod idempotency;
mod load;
mod mistake;
mod object;
mod observe;
mod policies;
mod quota;
mod rate;
mod replies;
mod resilience;
mod route;
mod webhook;

use std::{net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Kind, feed::Criterion, matcher::Template, taking::Pace};

pub use cache::{Cache, Invalidation, Per, QueryKey, TagInvalidation};
pub use feed::{Feed, FeedFormat};
pub use idempotency::Idempotency;
pub use load::{Concurrency, Priority, Shedding};
pub use mistake::Mistake;
pub(crate) use mistake::below;
pub use object::{Disposition, ObjectTarget};
pub use observe::{AccessLog, LogField, LogFormat, LogOnly, Metrics};
pub use policies::Policies;
pub use quota::{Calendar, Quota};
pub use rate::{Algorithm, Key, Period, RateLimit, Scope};
pub use replies::{Compression, Conditional, Lifecycle, Link};
pub use resilience::{Breaker, Coalesce, Limits, Retry, Timeouts};
pub use route::{Action, From, Match, Mirror, Part, Reply, Route, Share, Target, Versions};
pub use webhook::{Secret, Webhook, WebhookFrom, WebhookMode, WebhookRetry};

/// The smallest head buffer the HTTP implementation takes.
const MIN_HEADER_BYTES: usize = 8 * 1024;
const MAX_HEADER_BYTES: usize = 1024 * 1024;

/// Where the edge listens and what it takes from a client.
///
/// ```
/// let config = sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..sinew_edge::Config::default() };
/// assert_eq!(config.max_body_bytes, 1024 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Longest time a client may take to send the head of a request, in milliseconds.
    pub header_timeout_ms: u64,
    /// Longest time from a request's head to its answer, in milliseconds. A client may ask for less with
    /// `Request-Timeout: <seconds>`.
    pub request_timeout_ms: u64,
    /// Largest request body, in bytes. The bus has a limit of its own, which counts too.
    pub max_body_bytes: usize,
    /// Most header fields of a request.
    pub max_headers: usize,
    /// Largest head of a request, in bytes.
    pub max_header_bytes: usize,
    /// Most connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Most connections of one client at once; further ones are closed. Trusted proxies are not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_client: Option<usize>,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Longest time a client may take nothing of what it asked for, in milliseconds; then it is closed.
    pub slow_client_ms: u64,
    /// How many bytes a second a client has to take while an answer waits for it, measured over three times
    /// `slow_client_ms`.
    pub min_read_bytes_per_s: u32,
    /// Longest time draining waits for the requests in flight, in milliseconds.
    pub drain_timeout_ms: u64,
    /// Whether `POST /events/{domain}/{event}` publishes any event; without it only routes publish, those they name.
    pub open_events: bool,
    /// How `GET /events/{domain}/{event}` is followed by anybody; without it only routes are, those they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_feeds: Option<Feed>,
    /// Whose webhooks may be sent to routes that publish: what they name as `WebHook-Request-Origin`; `*` for anybody's.
    pub webhook_origins: Vec<String>,
    /// Most events a minute that such a sender is told it may send; 0 names no limit.
    pub webhook_rate: u32,
    /// The bucket of objects that files of forms are stored in. Services forget those they have used.
    pub files_bucket: String,
    /// Replicas of that bucket, where it does not stand yet.
    pub files_replicas: usize,
    /// How often services without a contract are asked for the routes they want, in milliseconds; 0 never asks.
    pub discovery_ms: u64,
    /// Proxies that are believed when they say who asks, as addresses or networks such as `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
    /// The header field in which they say so; a client may have written the other one.
    pub forwarded_by: ForwardedBy,
    /// How often replicas of the edge tell each other what shared limits counted, in milliseconds.
    pub exchange_ms: u64,
    /// How often what quotas counted is written to the bus, in milliseconds.
    pub quota_write_ms: u64,
    /// Most bytes of replies that are kept, of all routes together. What was not used for longest makes room.
    pub max_cache_bytes: usize,
    /// Most keys each limit counts apart; further ones are counted by the network they come from.
    pub max_limit_keys: usize,
    /// Where metrics are read; nowhere without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// What is logged of each request; nothing without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Where requests name the version of the interface.
    pub versions: Versions,
    /// When requests are turned away because there is too much to do.
    #[serde(skip_serializing_if = "Shedding::is_off")]
    pub shedding: Shedding,
    /// What requests have to pass, on every route that does not say otherwise.
    #[serde(skip_serializing_if = "Policies::is_empty")]
    pub policies: Policies,
    /// Routes beside those of contracts. On the same path these come first.
    pub routes: Vec<Route>,
    /// Who is sent events.
    pub webhooks: Vec<Webhook>,
}

/// In which header field a proxy says who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedBy {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            header_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            max_body_bytes: 1024 * 1024,
            max_headers: 100,
            max_header_bytes: 32 * 1024,
            max_connections: 10_000,
            max_connections_per_client: None,
            max_streams: 128,
            slow_client_ms: 30_000,
            min_read_bytes_per_s: 100,
            drain_timeout_ms: 20_000,
            open_events: true,
            open_feeds: None,
            webhook_origins: vec!["*".to_owned()],
            webhook_rate: 0,
            files_bucket: "EDGE_FILES".to_owned(),
            files_replicas: 1,
            discovery_ms: 10_000,
            trusted_proxies: Vec::new(),
            forwarded_by: ForwardedBy::default(),
            exchange_ms: 100,
            quota_write_ms: 1_000,
            max_cache_bytes: 64 * 1024 * 1024,
            max_limit_keys: 100_000,
            metrics: None,
            access_log: None,
            versions: Versions::default(),
            shedding: Shedding::default(),
            policies: Policies::default(),
            routes: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration from the value its document holds.
    ///
    /// # Errors
    /// Every mistake in it, each with a JSON pointer, from which whoever read the document knows the line.
    ///
    /// ```
    /// let value = serde_json::json!({ "port": 80, "max_headers": 0 });
    /// let mistakes = sinew_edge::Config::read(&value).unwrap_err();
    /// assert_eq!(mistakes[0].pointer, "/port");
    /// ```
    pub fn read(value: &Value) -> Result<Self, Vec<Mistake>> {
        mistake::read(value)
    }

    /// Checks every setting, and reports all mistakes at once.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let mistakes: Vec<String> = mistake::all(self).iter().map(Mistake::to_string).collect();
        if mistakes.is_empty() { Ok(()) } else { Err(Error::new(Kind::Config, mistakes.join("; "))) }
    }

    /// Lists the numbers that cannot work.
    fn out_of_range(&self) -> Vec<Mistake> {
        let at_least_one = [
            ("/header_timeout_ms", self.header_timeout_ms),
            ("/request_timeout_ms", self.request_timeout_ms),
            ("/slow_client_ms", self.slow_client_ms),
            ("/max_body_bytes", self.max_body_bytes as u64),
            ("/files_replicas", self.files_replicas as u64),
            ("/max_headers", self.max_headers as u64),
            ("/max_connections", self.max_connections as u64),
            ("/max_streams", self.max_streams.into()),
            ("/exchange_ms", self.exchange_ms),
            ("/quota_write_ms", self.quota_write_ms),
            ("/max_limit_keys", self.max_limit_keys as u64),
        ];
        let zero = at_least_one.into_iter().filter(|(_, value)| *value == 0);
        let mut mistakes: Vec<Mistake> =
            zero.map(|(pointer, _)| Mistake::new(pointer, "0 cannot work: use 1 or more")).collect();
        if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&self.max_header_bytes) {
            let message = format!("has to be {MIN_HEADER_BYTES} to {MAX_HEADER_BYTES}");
            mistakes.push(Mistake::new("/max_header_bytes", message));
        }
        if self.max_connections_per_client == Some(0) {
            let message = "0 lets nobody in: use 1 or more, or leave it out";
            mistakes.push(Mistake::new("/max_connections_per_client", message));
        }
        mistakes.extend(self.shedding.mistakes());
        if let Some(log) = &self.access_log {
            log.out_of_range(&mut mistakes);
        }
        if self
            .metrics
            .as_ref()
            .is_some_and(|metrics| metrics.listen == self.listen && metrics.listen.port() > 0)
        {
            mistakes.push(Mistake::new("/metrics/listen", "is the address of clients: use another port"));
        }
        if let Some(feed) = &self.open_feeds {
            feed.out_of_range("/open_feeds", &mut mistakes);
            Criterion::read(&feed.filter, &Template::default(), "/open_feeds/filter", &mut mistakes);
        }
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if self.files_bucket.is_empty() || !self.files_bucket.bytes().all(name) {
            mistakes.push(Mistake::new("/files_bucket", "write letters, digits, - and _"));
        }
        mistakes
    }

    /// Says whether any route keeps replies.
    pub(crate) fn caches(&self) -> bool {
        let mut routes = self.routes.iter().map(|route| &route.policies);
        self.policies.cache.is_some() || routes.any(|policies| policies.cache.is_some())
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Returns what a client has to take of an answer: a stretch without a byte is always too little.
    pub(crate) fn reading_pace(&self) -> Pace {
        // Streams give a slow client up by themselves and have a last word for it; both come first.
        let stretch = self.slow_client_ms.saturating_mul(3);
        let bytes = u64::from(self.min_read_bytes_per_s).saturating_mul(stretch) / 1_000;
        let stretch = Duration::from_millis(stretch);
        Pace { stretch, bytes: bytes.max(1) }
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

impl ForwardedBy {
    /// Returns the name of the field.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_at_once() {
        let config = Config { max_headers: 0, max_streams: 0, max_header_bytes: 10, ..Config::default() };
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        for name in ["max_headers", "max_streams", "max_header_bytes"] {
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn an_unknown_setting_is_refused_and_a_missing_one_has_its_default() {
        assert!(serde_json::from_str::<Config>(r#"{"port": 1}"#).is_err());
        let config: Config = serde_json::from_str(r#"{"listen": "0.0.0.0:80"}"#).unwrap();
        assert_eq!(config, Config { listen: ([0, 0, 0, 0], 80).into(), ..Config::default() });
    }
}
