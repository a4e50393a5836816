//! Webhooks as `edge.yaml` writes them. Values only: [`crate::webhook`] says what they mean.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use http::{HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::{bus::Begin, wire::OperationName};

use super::{Config, Mistake, below};
use crate::feed;

/// Somebody outside who is sent events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its name: what its dead letters are found by, as group of service `edge`. Replicas of one name share the work.
    pub name: String,
    /// The events, each as `domain.event`; `*` stands for every domain or event.
    pub events: Vec<String>,
    /// Where they are sent with POST.
    pub url: String,
    /// Where it begins when it is new: `now`, `first`, a moment such as `2026-01-31T08:00:00Z`, or the id of an event. One
    /// that stands goes on where it was.
    #[serde(default)]
    pub from: WebhookFrom,
    /// Only events of which a member of the data, as a JSON pointer, or a header field is this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Value>,
    /// What requests are signed with: the newest first, then those that hold a while longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Further header fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How an event is written.
    #[serde(default)]
    pub mode: WebhookMode,
    /// Longest time for one attempt, in milliseconds.
    #[serde(default = "timeout")]
    pub timeout_ms: u64,
    /// Most requests at once of this edge.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// A member of the data, as a JSON pointer: events with the same one are sent one after the other, in the order they
    /// were stored. Without it no order is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// How a request that failed is repeated.
    #[serde(default)]
    pub retry: WebhookRetry,
    /// Whether addresses of private networks, and of this machine, may be sent to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

/// Where a secret stands: exactly one of `file` and `env`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// In this file, all of it but white space around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// In this variable of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    #[serde(skip)]
    pub(crate) value: Option<String>,
}

/// Where a webhook begins that is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WebhookFrom {
    /// With the event of this id, its sequence in the stream.
    Sequence(u64),
    /// `now`, `first` or a moment.
    Word(String),
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookMode {
    /// Its data as the body, its attributes in `ce-` fields.
    #[default]
    Binary,
    /// All of it in the body, as `application/cloudevents+json`.
    Structured,
}

/// How a request that failed is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookRetry {
    /// Longest first pause, in milliseconds; it doubles from attempt to attempt.
    pub first_ms: u64,
    /// Longest pause, in milliseconds.
    pub longest_ms: u64,
    /// Attempts, the first one included; then the event is a dead letter.
    pub attempts: u32,
}

impl Default for WebhookFrom {
    fn default() -> Self {
        Self::Word("now".to_owned())
    }
}

impl WebhookFrom {
    /// Says where that is; `None` where it is nowhere.
    pub(crate) fn begin(&self) -> Option<Begin> {
        match self {
            Self::Sequence(sequence) => Some(Begin::Sequence(*sequence)),
            Self::Word(word) => match word.as_str() {
                "now" => Some(Begin::Now),
                "first" => Some(Begin::First),
                moment => moment.parse().ok().map(Begin::Time),
            },
        }
    }
}

impl Default for WebhookRetry {
    fn default() -> Self {
        Self { first_ms: 1_000, longest_ms: 3_600_000, attempts: 15 }
    }
}

impl Secret {
    /// Reads what stands there.
    fn resolve(
        &mut self,
        env: &impl Fn(&str) -> Option<String>,
        file: &impl Fn(&std::path::Path) -> std::io::Result<String>,
    ) -> Result<(), String> {
        let value = match (&self.file, &self.env) {
            (Some(path), _) => {
                file(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
            }
            (None, Some(name)) => env(name).ok_or_else(|| format!("the environment has no {name}"))?,
            (None, None) => return Ok(()),
        };
        let value = value.trim().to_owned();
        if value.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        self.value = Some(value);
        Ok(())
    }
}

/// A secret does not get into logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("file", &self.file).field("env", &self.env).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the secrets of webhooks from where they stand; whoever starts an edge does this before.
    ///
    /// # Errors
    /// Every secret that cannot be read, with a JSON pointer.
    pub fn resolve_secrets(
        &mut self,
        env: impl Fn(&str) -> Option<String>,
        file: impl Fn(&std::path::Path) -> std::io::Result<String>,
    ) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Vec::new();
        for (at, webhook) in self.webhooks.iter_mut().enumerate() {
            for (number, secret) in webhook.secrets.iter_mut().enumerate() {
                if let Err(reason) = secret.resolve(&env, &file) {
                    mistakes.push(Mistake::new(format!("/webhooks/{at}/secrets/{number}"), reason));
                }
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// Lists what is wrong with the webhooks.
pub(super) fn mistakes(webhooks: &[Webhook]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let at = format!("/webhooks/{index}");
        let mut wrong = |key: &str, message: &str| mistakes.push(Mistake::new(below(&at, key), message));
        if webhook.name.parse::<OperationName>().is_err() {
            wrong("name", "is no name: use lower-case letters, digits, - and _");
        }
        if webhooks[..index].iter().any(|other| other.name == webhook.name) {
            wrong("name", "stands twice: replicas share a name, webhooks do not");
        }
        let url: Option<Uri> = webhook.url.parse().ok();
        let scheme = url.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) || url.as_ref().is_none_or(|url| url.host().is_none()) {
            wrong("url", "write https://host/path");
        }
        if webhook.url.contains('@') {
            wrong("url", "holds a password: send it in `headers`, or sign with `secrets`");
        }
        if webhook.from.begin().is_none() {
            wrong("from", "write now, first, a moment such as 2026-01-31T08:00:00Z, or the id of an event");
        }
        let pointer = |pointer: &String| pointer.starts_with('/');
        if !webhook.order_by.iter().all(pointer) {
            wrong("order_by", "is no JSON pointer: it begins with a slash");
        }
        for (key, zero) in
            [("timeout_ms", webhook.timeout_ms == 0), ("concurrency", webhook.concurrency == 0)]
        {
            if zero {
                wrong(key, "0 cannot work: use 1 or more");
            }
        }
        if webhook.retry.attempts == 0 {
            wrong("retry", "`attempts` counts the first one, too: use 1 or more");
        }
        if webhook.events.is_empty() {
            wrong("events", "which ones? write domain.event, or domain.*");
        }
        for (number, secret) in webhook.secrets.iter().enumerate() {
            if secret.file.is_some() == secret.env.is_some() {
                wrong("secrets", &format!("number {number} has to say exactly one of `file` and `env`"));
            }
        }
        for (name, value) in &webhook.headers {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err()
            {
                wrong("headers", &format!("{name:?} is no header field"));
            }
        }
        feed::subjects(&webhook.events, &below(&at, "events"), &mut mistakes);
    }
    mistakes
}

fn timeout() -> u64 {
    15_000
}

fn concurrency() -> usize {
    8
}
