//! The question that senders of webhooks ask before they send: may I?
//!
//! Source: CloudEvents HTTP 1.1 web hooks for event delivery, section 4.

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use crate::{
    Config, Response, matcher,
    served::{Own, Served, Target},
    table::{Lookup, Table},
};

const ORIGIN: &str = "webhook-request-origin";
const ANY: &str = "*";

/// Adds consent to the answer of an `OPTIONS` request, where it was asked for and there are events to publish.
pub(crate) fn consent(config: &Config, table: &Table, head: &Parts, response: &mut Response) {
    let Some(origin) = head.headers.get(ORIGIN) else { return };
    if !publishes(table, head) || !allows(config, origin) {
        return;
    }
    let headers = response.headers_mut();
    headers.insert("webhook-allowed-origin", origin.clone());
    headers.insert("webhook-allowed-rate", rate(config, &head.headers));
    headers.insert(header::VARY, HeaderValue::from_static("webhook-request-origin"));
}

fn allows(config: &Config, origin: &HeaderValue) -> bool {
    let named = |own: &String| own == ANY || origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    config.webhook_origins.iter().any(named)
}

/// Requests a minute: what was asked for, as far as the edge takes as many.
fn rate(config: &Config, headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get("webhook-request-rate").and_then(|rate| rate.to_str().ok()?.parse::<u32>().ok());
    match (config.webhook_rate, asked) {
        (0, None) => HeaderValue::from_static(ANY),
        (0, Some(asked)) => asked.into(),
        (most, asked) => asked.unwrap_or(most).clamp(1, most).into(),
    }
}

/// Says whether an event is published at this path.
fn publishes(table: &Table, head: &Parts) -> bool {
    let mut asked = head.clone();
    asked.method = Method::POST;
    let Some(segments) = matcher::segments(head.uri.path()) else { return false };
    let event = |served: &Served| matches!(served.target, Target::Event(..) | Target::Own(Own::Publish));
    matches!(table.find(&asked, &segments), Lookup::Route(served, _) if event(served))
}
