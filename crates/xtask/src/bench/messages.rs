//! What travels in benchmarks, as both sides know it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

/// What every benchmark sends: about 256 bytes packed, 300 as JSON.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.echo", reply = Sample, idempotent, http = "POST /echo")]
pub(crate) struct Echo {
    pub(crate) sample: Sample,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sample {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) text: String,
}

/// A request that takes its time.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.slow", reply = bool)]
pub(crate) struct Slow {
    pub(crate) text: String,
}

/// Makes a header map of values known to be safe.
#[expect(clippy::disallowed_methods, reason = "constant values")]
pub(crate) fn headers(fields: &[(&'static str, &'static str)]) -> async_nats::HeaderMap {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in fields {
        map.insert(*name, *value);
    }
    map
}
