//! What a client should know about the life of a route: `Deprecation` (RFC 9745), `Sunset` (RFC 8594), `Link` (RFC 8288).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use crate::config;

/// Header fields that go out with every answer of a route, written once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    fields: Vec<(HeaderName, HeaderValue)>,
    lines: Vec<String>,
}

impl Lifecycle {
    pub(super) fn new(asked: &config::Lifecycle) -> Self {
        let mut lifecycle = Self::default();
        if let Some(date) = asked.deprecated.as_deref().and_then(moment) {
            lifecycle.add(HeaderName::from_static("deprecation"), format!("@{}", date.as_second()));
        }
        if let Some(date) = asked.sunset.as_deref().and_then(moment) {
            let written = DateTimePrinter::new().timestamp_to_rfc9110_string(&date);
            written.into_iter().for_each(|date| lifecycle.add(HeaderName::from_static("sunset"), date));
        }
        for link in &asked.links {
            let media_type =
                link.media_type.as_ref().map(|own| format!("; type=\"{own}\"")).unwrap_or_default();
            lifecycle.add(header::LINK, format!("<{}>; rel=\"{}\"{media_type}", link.href, link.rel));
        }
        lifecycle
    }

    /// Writes the fields; links stand beside others.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.append(name, value.clone());
        }
    }

    /// Describes them for people.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }

    fn add(&mut self, name: HeaderName, value: String) {
        self.lines.push(format!("{name}: {value}"));
        if let Ok(value) = HeaderValue::try_from(value) {
            self.fields.push((name, value));
        }
    }
}

/// The configuration was checked: what is no moment was told there.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_links_are_written_as_their_standards_have_it() {
        let asked = serde_json::from_value(serde_json::json!({
            "deprecated": "2026-07-01T00:00:00Z", "sunset": "2026-11-11T11:11:11Z",
            "links": [{ "rel": "successor-version", "href": "/v2/a" },
                      { "rel": "sunset", "href": "https://x.example/why", "type": "text/html" }],
        }));
        let mut headers = HeaderMap::new();
        Lifecycle::new(&asked.unwrap()).sign(&mut headers);
        assert_eq!(headers["deprecation"], "@1782864000");
        assert_eq!(headers["sunset"], "Wed, 11 Nov 2026 11:11:11 GMT");
        let links: Vec<&str> = headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
        assert_eq!(
            links,
            [
                "</v2/a>; rel=\"successor-version\"",
                "<https://x.example/why>; rel=\"sunset\"; type=\"text/html\""
            ]
        );
    }
}
