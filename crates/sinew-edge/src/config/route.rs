//! Routes as `edge.yaml` writes them. Values only: [`crate::plan`] says what they mean.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Feed, ObjectTarget, Policies};

/// One route: which requests it takes, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What logs and tools call it; method and path where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Where they go.
    pub to: Target,
    /// Another operation that gets a copy; what it answers is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// How the reply becomes a response.
    #[serde(default, skip_serializing_if = "Reply::is_plain")]
    pub reply: Reply,
    /// What its requests have to pass, instead of what the edge says for every route.
    #[serde(default, skip_serializing_if = "Policies::is_empty")]
    pub policies: Policies,
}

/// What a request has to be like. What is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The method; `GET` also serves `HEAD`.
    pub method: String,
    /// The path template: `{name}` stands for any one segment.
    pub path: String,
    /// The host without its port; `*.example.org` stands for every host below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Header fields and their values; `*` only asks for the field to be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Parameters of the query and their values; `*` only asks for the parameter to be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// The media type of the body, without parameters; `image/*` stands for every image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The version of the interface; `versions` says where a request names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Where requests go: exactly one of `operation`, `forward`, `split`, `event`, `events`, `workflow`, `object` and `aggregate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// To this operation, as `service.operation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// To this operation as they are: it gets method, target, header fields and body, and answers with status, header fields
    /// and body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// To one of several operations, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Share>,
    /// Published as this event, as `domain.event`; answered when it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// To these events as they are stored, each as `domain.event`; `*` stands for every domain or event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// How clients follow `events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
    /// To this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What to do with the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The event a workflow is signalled with, as `domain.event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// To objects of the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectTarget>,
    /// To several operations at once: one member of the response each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aggregate: BTreeMap<String, Part>,
    /// Where fields of the request come from, beside those that path, query and body name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, From>,
    /// The field that takes the whole body; without it the body's members are the request's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// What to do with a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Starts an instance with the body as its input.
    Start,
    /// Publishes the event that instances listen for.
    Signal,
    /// Reads the instance that field `id` names.
    Status,
    /// Cancels the instance that field `id` names.
    Cancel,
}

/// One operation of several that take turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The operation, as `service.operation`.
    pub operation: String,
    /// How many requests it gets, in proportion to the others' weights; 0 takes it out.
    pub weight: u32,
}

/// One operation of an aggregation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The operation, as `service.operation`.
    pub operation: String,
    /// Where fields of its request come from; nothing else is handed to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, From>,
    /// Whether the response goes without it when it fails: then its member is `null`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Where the value of one field comes from: exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// This segment of the path template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// This parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// This header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// This cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Always this; no client can say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// Who gets a copy of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The operation, as `service.operation`.
    pub operation: String,
    /// How many requests of a hundred are copied; all where nothing is said.
    #[serde(default = "all")]
    pub percent: u8,
}

/// How a reply becomes a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Status of a success, instead of what the operation says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Further header fields; `{/pointer}` stands for what the reply has there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The part of the reply that becomes the body, as a JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Where a request names the version of the interface it means. Of several that name one, the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Versions {
    /// In the path: version 2 of `/orders` is at `/v2/orders`.
    pub path: bool,
    /// In this header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// In the media type that `Accept` asks for: as a parameter of this name, such as `version` in
    /// `application/json; version=2`, or before the suffix, as in `application/vnd.shop.v2+json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What a request means that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

impl Reply {
    /// Says whether the reply is handed on as it is.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

fn all() -> u8 {
    100
}
