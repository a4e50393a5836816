//! Policies of what goes back to a client, as `edge.yaml` writes them: conditions, compression, the life of a route.

use http::{HeaderValue, Uri};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Mistake, below};
use crate::coding::Coding;

/// Answers that a client need not get again, or that it only wants unchanged (RFC 9110, section 13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Conditional {
    /// Whether a reply without an entity tag gets one, made of its bytes. Without it only those of services count.
    pub etag: bool,
}

/// Replies made smaller for clients that take them so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compression {
    /// Codings on offer; of those a client likes the same, the first one. An empty list switches compression off.
    pub encodings: Vec<Coding>,
    /// The smallest body that is worth it, in bytes.
    pub min_bytes: usize,
    /// Media types worth it; `text/*` stands for every text, `*+json` for every type of that suffix.
    pub types: Vec<String>,
}

/// What a client should know about the life of a route, sent with every answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lifecycle {
    /// Since when, or from when on, it should not be used any more, such as `2026-07-01T00:00:00Z` (RFC 9745).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
    /// When it will be gone (RFC 8594).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sunset: Option<String>,
    /// Where to read more, or what to use instead (RFC 8288).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// A link to another resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// How it relates, such as `deprecation`, `sunset`, `successor-version`, `service-doc`.
    pub rel: String,
    /// A URI or a path.
    pub href: String,
    /// The media type to expect there.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

impl Default for Conditional {
    fn default() -> Self {
        Self { etag: true }
    }
}

impl Default for Compression {
    fn default() -> Self {
        let types =
            ["text/*", "application/json", "application/msgpack", "*+json", "*+xml", "application/xml"];
        Self {
            encodings: Coding::ALL.to_vec(),
            min_bytes: 1024,
            types: types.into_iter().chain(["application/javascript"]).map(str::to_owned).collect(),
        }
    }
}

impl Compression {
    /// Lists what cannot work.
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        for (index, media_type) in self.types.iter().enumerate() {
            let suffix = media_type.strip_prefix("*+").is_some_and(|suffix| !suffix.is_empty());
            let named = media_type.split_once('/').is_some_and(|(family, name)| {
                !family.is_empty() && !name.is_empty() && !family.contains('*')
            });
            if !(suffix || named) || media_type.contains(';') {
                let message = "write a media type without parameters, such as text/css, text/* or *+json";
                mistakes.push(Mistake::new(format!("{at}/types/{index}"), message));
            }
        }
    }
}

impl Lifecycle {
    /// Lists what cannot work.
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        for (name, date) in [("deprecated", &self.deprecated), ("sunset", &self.sunset)] {
            if date.as_ref().is_some_and(|date| date.parse::<Timestamp>().is_err()) {
                let message = "write a moment with its zone, such as 2026-07-01T00:00:00Z";
                mistakes.push(Mistake::new(below(at, name), message));
            }
        }
        for (index, link) in self.links.iter().enumerate() {
            link.check(&format!("{at}/links/{index}"), mistakes);
        }
    }
}

impl Link {
    fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let relation = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\');
        if self.rel.is_empty() || !self.rel.bytes().all(relation) {
            mistakes.push(Mistake::new(below(at, "rel"), "write a relation such as successor-version"));
        }
        if self.href.is_empty() || self.href.contains(['<', '>']) || self.href.parse::<Uri>().is_err() {
            mistakes.push(Mistake::new(below(at, "href"), "write a URI or a path"));
        }
        let unwritable = |text: &String| text.contains('"') || HeaderValue::try_from(text).is_err();
        if self.media_type.as_ref().is_some_and(unwritable) {
            mistakes.push(Mistake::new(below(at, "type"), "write a media type such as text/html"));
        }
    }
}
