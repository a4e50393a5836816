//! What is kept of replies, as `edge.yaml` writes it.

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Key, Mistake, below};

/// Replies that are kept and used again, as they themselves allow it (RFC 9111). Without a word it keeps what says in
/// `Cache-Control`, `Expires` or `Last-Modified` for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long a reply is fresh that does not say, in milliseconds. Without it such a reply is not kept, unless it says
    /// when it was changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh_ms: Option<u64>,
    /// How long a reply that is not fresh any more is used while it is asked for anew, in milliseconds, where it does not
    /// say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate_ms: Option<u64>,
    /// How long one is used when there is no better answer than a failure, in milliseconds, where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_if_error_ms: Option<u64>,
    /// Statuses that are kept; every one that may be where nothing is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// The largest body that is kept, in bytes.
    pub max_entry_bytes: usize,
    /// For whom a reply is kept.
    pub per: Per,
    /// What else tells replies apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Key>,
    /// Which parameters of the query tell replies apart; all of them where nothing is said.
    #[serde(skip_serializing_if = "QueryKey::is_all")]
    pub query: QueryKey,
    /// What replies are about, such as `orders` or `order:{id}`, where `{id}` stands for a field of the path. Those a reply
    /// names in `Cache-Tag` or `Surrogate-Key` come on top.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Events behind which replies do not hold any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invalidate_on: Vec<Invalidation>,
}

/// For whom a reply is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// For everybody, unless a request says who asks: then only what says that it may be shared.
    #[default]
    Everybody,
    /// For each `Authorization` and `Cookie` apart.
    Consumer,
}

/// Which parameters of the query tell replies apart. At most one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryKey {
    /// Only these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// All but these, such as `utm_source`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// An event behind which replies do not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Invalidation {
    /// Lets go of all of the route.
    All(String),
    /// Lets go of what has these tags.
    Tags(TagInvalidation),
}

/// An event behind which replies with tags do not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagInvalidation {
    /// The event, as `domain.event`.
    pub event: String,
    /// The tags; `{/pointer}` stands for what the event has there.
    pub tags: Vec<String>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            fresh_ms: None,
            stale_while_revalidate_ms: None,
            stale_if_error_ms: None,
            statuses: Vec::new(),
            max_entry_bytes: 1024 * 1024,
            per: Per::default(),
            key: Vec::new(),
            query: QueryKey::default(),
            tags: Vec::new(),
            invalidate_on: Vec::new(),
        }
    }
}

impl Cache {
    /// Lists what cannot work.
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        for (index, status) in self.statuses.iter().enumerate() {
            if !(200..=599).contains(status) || matches!(status, 206 | 304) {
                let message = "is no status that can be kept: use 200 to 599, and neither 206 nor 304";
                mistakes.push(Mistake::new(format!("{at}/statuses/{index}"), message));
            }
        }
        if self.max_entry_bytes == 0 {
            mistakes.push(Mistake::new(below(at, "max_entry_bytes"), "0 keeps nothing: use 1 or more"));
        }
        for (index, key) in self.key.iter().enumerate() {
            let wrong = match key {
                Key::Header(name) if HeaderName::try_from(name.as_str()).is_err() => {
                    "is no name of a header field"
                }
                Key::Claim(_) => {
                    "the edge does not verify tokens yet: use a header, a cookie or `per: consumer`"
                }
                _ => continue,
            };
            mistakes.push(Mistake::new(format!("{at}/key/{index}"), wrong));
        }
        if self.query.only.is_some() && !self.query.without.is_empty() {
            let message = "say either `only` or `without`: one of them says it all";
            mistakes.push(Mistake::new(below(at, "query"), message));
        }
        for (index, tag) in self.tags.iter().enumerate() {
            if tag.is_empty() || tag.matches('{').count() != tag.matches('}').count() {
                let message = "write a tag such as orders, or order:{id} with a field of the path";
                mistakes.push(Mistake::new(format!("{at}/tags/{index}"), message));
            }
        }
        for (index, one) in self.invalidate_on.iter().enumerate() {
            one.check(&format!("{at}/invalidate_on/{index}"), mistakes);
        }
    }
}

impl QueryKey {
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Says whether a parameter tells replies apart.
    pub(crate) fn counts(&self, name: &str) -> bool {
        match &self.only {
            Some(only) => only.iter().any(|own| own == name),
            None => !self.without.iter().any(|own| own == name),
        }
    }
}

impl Invalidation {
    /// Returns the event's name.
    pub(crate) fn event(&self) -> &str {
        match self {
            Self::All(event) | Self::Tags(TagInvalidation { event, .. }) => event,
        }
    }

    /// Returns the tags that are let go of; all of the route where there are none.
    pub(crate) fn tags(&self) -> &[String] {
        match self {
            Self::All(_) => &[],
            Self::Tags(tagged) => &tagged.tags,
        }
    }

    fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let named =
            self.event().split_once('.').map(|(domain, event)| crate::plan::EventName::new(domain, event));
        if !matches!(named, Some(Ok(_))) {
            mistakes.push(Mistake::new(at, "is no event: write domain.event, such as orders.changed"));
        }
        if self.tags().iter().any(|tag| crate::shape::pieces(tag).is_none()) {
            let message = "write text, with {/pointer} where a member of the event belongs";
            mistakes.push(Mistake::new(below(at, "tags"), message));
        }
        if matches!(self, Self::Tags(tagged) if tagged.tags.is_empty()) {
            mistakes.push(Mistake::new(below(at, "tags"), "name a tag, or write the event alone for all"));
        }
    }
}
