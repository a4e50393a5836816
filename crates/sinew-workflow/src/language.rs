//! The YAML language: from text to a [`Plan`](plan::Plan), with every mistake reported at its place.
//!
//! Text becomes a positioned tree ([`yaml`]), whose shape is checked ([`grammar`]) and whose meaning is resolved
//! ([`lower`]); what came of it is judged ([`check`]). Expressions are [`jq`], values that hold expressions are [`template`]s.

pub(crate) mod check;
pub(crate) mod duration;
pub(crate) mod grammar;
pub(crate) mod jq;
pub(crate) mod library;
pub(crate) mod lower;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod schema;
pub(crate) mod template;
pub(crate) mod yaml;
