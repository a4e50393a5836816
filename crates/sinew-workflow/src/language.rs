//! The YAML language: from text to a [`Plan`](plan::Plan), with every mistake reported at its place.

pub(crate) mod yaml;
pub(crate) mod report;
pub(crate) mod grammar;
pub(crate) mod duration;
pub(crate) mod jq;
pub(crate) mod template;
pub(crate) mod schema;
pub(crate) mod plan;
pub(crate) mod lower;
