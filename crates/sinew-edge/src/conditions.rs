//! What a request has to be like besides its method and path. Looked at only where a route asks for it.

use http::{HeaderMap, HeaderName, header, request::Parts};

use crate::{config::Versions, request};

/// Stands for "whatever its value is".
const ANY: &str = "*";

/// The conditions of one route; a route without any takes every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) query: Vec<(String, String)>,
    /// In lower case.
    pub(crate) content_type: Option<String>,
    pub(crate) version: Option<String>,
}

/// How a request stands to the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// All of them are met.
    All,
    /// Only its body would have to be of another media type.
    ButMediaType,
    /// It is meant for another route.
    No,
}

impl Conditions {
    /// Returns how many there are: the more, the more a route is meant for few.
    pub(crate) fn count(&self) -> usize {
        let single = [self.content_type.is_some(), self.version.is_some()];
        self.headers.len() + self.query.len() + single.into_iter().filter(|given| *given).count()
    }

    /// Holds a request against them.
    pub(crate) fn met(&self, head: &Parts, versions: &Versions) -> Met {
        let fields = self.headers.iter().all(|(name, wanted)| {
            head.headers
                .get_all(name)
                .iter()
                .any(|value| wanted == ANY || value.as_bytes() == wanted.as_bytes())
        });
        if !fields || !self.fits_query(head) || !self.fits_version(head, versions) {
            return Met::No;
        }
        match &self.content_type {
            Some(wanted) if !is_media(&head.headers, wanted) => Met::ButMediaType,
            _ => Met::All,
        }
    }

    /// Writes each condition as a person would.
    pub(crate) fn lines(&self) -> Vec<String> {
        let headers = self.headers.iter().map(|(name, value)| format!("header {name}={value}"));
        let query = self.query.iter().map(|(name, value)| format!("query {name}={value}"));
        let content_type = self.content_type.iter().map(|value| format!("content-type {value}"));
        let version = self.version.iter().map(|value| format!("version {value}"));
        headers.chain(query).chain(content_type).chain(version).collect()
    }

    fn fits_query(&self, head: &Parts) -> bool {
        if self.query.is_empty() {
            return true;
        }
        let Ok(given) = request::pairs(head.uri.query().unwrap_or_default()) else { return false };
        self.query.iter().all(|(name, wanted)| {
            let values = given.iter().find(|(own, _)| own == name).map(|(_, values)| values.as_slice());
            values.unwrap_or_default().iter().any(|value| wanted == ANY || value == wanted)
        })
    }

    fn fits_version(&self, head: &Parts, versions: &Versions) -> bool {
        match &self.version {
            None => true,
            Some(wanted) => version(&head.headers, versions) == Some(wanted),
        }
    }
}

/// Returns the version a request names, or the one it means without naming it.
pub(crate) fn version<'r>(headers: &'r HeaderMap, versions: &'r Versions) -> Option<&'r str> {
    let named = versions.header.as_ref().and_then(|name| headers.get(name)?.to_str().ok()).map(str::trim);
    named.or_else(|| accepted(headers, versions.media_type.as_deref()?)).or(versions.default.as_deref())
}

/// Reads the version out of what `Accept` asks for.
fn accepted<'r>(headers: &'r HeaderMap, parameter: &str) -> Option<&'r str> {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(|range| {
        let mut parts = range.split(';');
        let essence = parts.next()?.trim();
        let named = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim() == parameter);
        named.map(|(_, value)| value.trim().trim_matches('"')).or_else(|| vendor(essence))
    })
}

/// `application/vnd.shop.v2+json` means version 2.
fn vendor(essence: &str) -> Option<&str> {
    let (_, name) = essence.split_once("/vnd.")?;
    let name = name.split('+').next()?;
    let version = name.rsplit('.').next()?.strip_prefix('v')?;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some(version)
}

fn is_media(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    match wanted.strip_suffix('*') {
        Some(family) => given.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family)),
        None => given.eq_ignore_ascii_case(wanted),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_version_is_named_in_a_header_or_in_the_media_type() {
        let versions = Versions {
            header: Some("api-version".into()),
            media_type: Some("version".into()),
            default: Some("1".into()),
            path: false,
        };
        for (headers, expected) in [
            (&[][..], "1"),
            (&[("api-version", "3"), ("accept", "application/json; version=2")], "3"),
            (&[("accept", "text/html, application/json;q=0.5;version=\"2\"")], "2"),
            (&[("accept", "application/vnd.shop.v2+json")], "2"),
            (&[("accept", "application/vnd.shop.view+json")], "1"),
        ] {
            assert_eq!(version(&head("/", headers).headers, &versions), Some(expected), "{headers:?}");
        }
    }

    #[test]
    fn every_condition_has_to_be_met_and_the_media_type_is_told_apart() {
        let conditions = Conditions {
            headers: vec![(HeaderName::from_static("x-tenant"), "acme".into())],
            query: vec![("preview".into(), ANY.into())],
            content_type: Some("image/*".into()),
            version: None,
        };
        let met = |uri, headers: &[(&str, &str)]| conditions.met(&head(uri, headers), &Versions::default());
        let tenant = ("x-tenant", "acme");
        assert_eq!(met("/?preview", &[tenant, ("content-type", "image/png; q=1")]), Met::All);
        assert_eq!(met("/?preview=1", &[tenant, ("content-type", "text/plain")]), Met::ButMediaType);
        assert_eq!(met("/?preview=1", &[tenant]), Met::ButMediaType);
        assert_eq!(met("/", &[tenant, ("content-type", "image/png")]), Met::No);
        assert_eq!(met("/?preview", &[("x-tenant", "other"), ("content-type", "image/png")]), Met::No);
        assert_eq!(conditions.count(), 3);
    }
}
