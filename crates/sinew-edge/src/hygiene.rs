//! What must be right with any request before its path is looked at. Guards against requests that two HTTP
//! implementations would read differently.

use http::{HeaderMap, StatusCode, Version, header, request::Parts, uri::Authority};

use crate::{
    config::{Config, Limits},
    problem::Refusal,
};

/// What a header field costs beside its name and value (RFC 9113, section 6.5.2).
const FIELD: usize = 32;

/// Checks host, expectation and, where the guard in front of the HTTP implementation could not, the head's size.
///
/// # Errors
/// 400 for a missing, doubled, malformed or contradicting host, 417 for an expectation nobody meets, 414 and 431 for too
/// large a head.
pub(crate) fn check(parts: &Parts, config: &Config) -> Result<(), Refusal> {
    if parts.version == Version::HTTP_2 {
        size(parts, config)?;
        // Frames say where a body ends; whoever is asked next over HTTP/1 would take it from here.
        if parts.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
            return Err(Refusal::malformed("the content-length header stands twice"));
        }
    }
    host(parts)?;
    let mut expectations = parts.headers.get_all(header::EXPECT).iter();
    if expectations.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let refusal =
            Refusal::new(StatusCode::EXPECTATION_FAILED, "expectation-failed", "unknown expectation");
        return Err(refusal.detail("the only expectation that is met is 100-continue"));
    }
    Ok(())
}

/// Holds header fields against the limits of a route.
///
/// # Errors
/// 431 when there are too many, or they are too large.
pub(crate) fn within(limits: &Limits, headers: &HeaderMap) -> Result<(), Refusal> {
    let too_large = |detail: String| {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Err(Refusal::new(status, "header-fields-too-large", "the header fields are too large").detail(detail))
    };
    if let Some(most) = limits.max_headers.filter(|most| headers.len() > *most) {
        return too_large(format!("send at most {most} header fields"));
    }
    let size = || headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    match limits.max_header_bytes.filter(|most| size() > *most) {
        Some(most) => too_large(format!("send at most {most} bytes of header fields")),
        None => Ok(()),
    }
}

/// Heads of HTTP/2 come compressed: only here their size is known.
fn size(parts: &Parts, config: &Config) -> Result<(), Refusal> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > config.max_header_bytes {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "uri-too-long", "the uri is too long"));
    }
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    if parts.headers.len() > config.max_headers || fields.sum::<usize>() > config.max_header_bytes {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal::new(status, "header-fields-too-large", "the head is too large"));
    }
    Ok(())
}

fn host(parts: &Parts) -> Result<(), Refusal> {
    let named = named(&parts.headers)?;
    match (named, parts.uri.authority()) {
        (_, Some(target)) if target.as_str().contains('@') => {
            Err(Refusal::malformed("the request's target names a user, which no host does"))
        }
        // HTTP/1.0 knows no host.
        (None, None) if parts.version < Version::HTTP_11 => Ok(()),
        (None, None) => Err(Refusal::malformed("the host header is missing")),
        (None, Some(_)) if parts.version == Version::HTTP_11 => {
            Err(Refusal::malformed("the host header is missing"))
        }
        (Some(host), Some(target)) if !host.as_str().eq_ignore_ascii_case(target.as_str()) => {
            Err(Refusal::malformed("the host header and the request's target name different hosts"))
        }
        _ => Ok(()),
    }
}

/// Returns the host the header names.
fn named(headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::malformed("the host header stands twice"));
    }
    let host = Authority::try_from(value.as_bytes()).ok().filter(|host| !host.as_str().contains('@'));
    host.map(Some).ok_or_else(|| Refusal::malformed("the host header holds no host"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(request: http::request::Builder) -> u16 {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, &Config::default()).map_or_else(|refusal| refusal.problem().status, |()| 200)
    }

    #[test]
    fn the_host_is_named_once_and_without_contradiction() {
        let get = |uri: &str| Request::get(uri).version(Version::HTTP_11);
        assert_eq!(status(get("/")), 400);
        assert_eq!(status(get("/").header("host", "a:80")), 200);
        assert_eq!(status(get("/").header("host", "a").header("host", "a")), 400);
        for bad in ["", "a b", "user@a", "a/b"] {
            assert_eq!(status(get("/").header("host", bad)), 400, "{bad:?}");
        }
        assert_eq!(status(get("http://a/").header("host", "A")), 200);
        assert_eq!(status(get("http://a/").header("host", "b")), 400);
        assert_eq!(status(get("http://a/")), 400);
        assert_eq!(status(Request::get("/").version(Version::HTTP_10)), 200);
        assert_eq!(status(Request::get("http://a/").version(Version::HTTP_2)), 200);
        assert_eq!(status(Request::get("/").version(Version::HTTP_2)), 400);
        assert_eq!(status(Request::get("http://user@a/").version(Version::HTTP_2)), 400);
        let twice = Request::get("http://a/").header("content-length", "2").header("content-length", "2");
        assert_eq!(status(twice.version(Version::HTTP_2)), 400);
    }

    #[test]
    fn only_one_expectation_is_met() {
        let expect = |value: &str| status(Request::post("/").header("host", "a").header("expect", value));
        assert_eq!(expect("100-Continue"), 200);
        assert_eq!(expect("200-ok"), 417);
    }
}
