//! Objects of the bus as `edge.yaml` serves them. Values only: [`crate::object`] says what they mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Objects behind a route: `GET` reads them, also in parts, `PUT` writes them, `DELETE` forgets them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectTarget {
    /// The bucket; no client chooses another.
    pub bucket: String,
    /// The object's name, with `{field}` where a field of the path belongs.
    pub name: String,
    /// The media type, instead of the one an object was written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether browsers show or save what they get; they decide themselves where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// Most bytes of an object that is written, instead of the route's `max_body_bytes`. They are never in memory as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Replicas of the bucket, where the first `PUT` has to create it; 1 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<usize>,
}

/// What a browser does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Shows it.
    Inline,
    /// Saves it, under the last part of its name.
    Attachment,
}
