//! Conditions of requests (RFC 9110, section 13): entity tags and dates of replies, and whether a client needs one.
//!
//! A tag that a service gave counts; else one is made of the bytes. The digest is SHA-256, which the edge has anyway and
//! nobody can make two replies for. A reply that goes out in a coding is another representation: its tag names the coding
//! behind a `+`, which is taken off again when a client hands it back.

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use sinew::{
    bus::Message,
    wire::{Headers, header as wire},
};

use crate::{Body, Response, coding::Coding, config, problem::Refusal};

/// Bytes of the digest that stand in a tag: nobody finds two replies with the same.
const DIGEST: usize = 16;
/// Fields of a response that is not sent again but confirmed.
const CONFIRMED: [HeaderName; 7] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::VARY,
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::DATE,
    header::CONTENT_LOCATION,
];

/// The policy of one route.
#[derive(Clone, Debug)]
pub(crate) struct Conditional {
    etag: bool,
}

/// What a request's conditions come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    NotModified,
    Failed,
}

impl Conditional {
    pub(super) fn new(asked: &config::Conditional) -> Self {
        Self { etag: asked.etag }
    }

    /// Tags a response of these bytes. Only what can be got again has a tag.
    pub(super) fn tag(
        &self,
        head: &Parts,
        response: &mut Response,
        bytes: Option<&[u8]>,
        coding: Option<Coding>,
    ) {
        if !reads(&head.method) || response.status() != StatusCode::OK {
            return;
        }
        let headers = response.headers_mut();
        if self.etag
            && !headers.contains_key(header::ETAG)
            && let Some(bytes) = bytes
            && let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", short(bytes)))
        {
            headers.insert(header::ETAG, tag);
        }
        if let Some(coding) = coding {
            name_coding(headers, coding);
        }
    }

    /// Answers with less where the request's conditions say so.
    ///
    /// # Errors
    /// 412 where it wants something else than there is.
    pub(super) fn judge(&self, head: &Parts, response: Response) -> Result<Response, Refusal> {
        if !reads(&head.method) || response.status() != StatusCode::OK {
            return Ok(response);
        }
        match verdict(&head.headers, response.headers()) {
            Verdict::Send => Ok(response),
            Verdict::NotModified => Ok(not_modified(response)),
            Verdict::Failed => {
                let title = "the resource is not as the request wants it";
                Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title))
            }
        }
    }
}

/// Hands the conditions of a change on: only the service knows what it would change.
///
/// # Errors
/// 400 where they cannot be sent.
pub(crate) fn hand_on(head: &Parts, to: &mut Headers) -> Result<(), Refusal> {
    if reads(&head.method) {
        return Ok(());
    }
    for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE] {
        let Some(list) = joined(&head.headers, name.clone()) else { continue };
        let known: Vec<String> = match name {
            header::IF_UNMODIFIED_SINCE => vec![list],
            _ => tags(&list).into_iter().map(without_coding).collect(),
        };
        let name = match name {
            header::IF_MATCH => wire::IF_MATCH,
            header::IF_NONE_MATCH => wire::IF_NONE_MATCH,
            _ => wire::IF_UNMODIFIED_SINCE,
        };
        to.set(name, known.join(", ")).map_err(|error| Refusal::malformed(error.to_string()))?;
    }
    Ok(())
}

/// Takes over what a service says of the state of its resource, unless the route says otherwise.
pub(crate) fn take_over(message: &Message, to: &mut HeaderMap) {
    for (name, own) in [(header::ETAG, wire::ETAG), (header::LAST_MODIFIED, wire::LAST_MODIFIED)] {
        let value = message.header(own).and_then(|text| HeaderValue::try_from(text).ok());
        if let Some(value) = value.filter(|_| !to.contains_key(&name)) {
            to.insert(name, value);
        }
    }
}

/// Returns a tag as the service knows it, without the coding a response named in it.
pub(crate) fn without_coding(tag: &str) -> String {
    let named = |coding: Coding| tag.strip_suffix('"')?.strip_suffix(coding.as_str())?.strip_suffix('+');
    match Coding::ALL.into_iter().find_map(named) {
        Some(own) => format!("{own}\""),
        None => tag.to_owned(),
    }
}

/// Splits a list of tags, which may hold commas themselves.
pub(crate) fn tags(list: &str) -> Vec<&str> {
    let mut quoted = false;
    let split = list.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    });
    split.map(str::trim).filter(|tag| !tag.is_empty()).collect()
}

/// Compares a list with a tag; a weak tag is one only where `weak` comparison will do.
pub(crate) fn lists(list: &str, tag: &str, weak: bool) -> bool {
    let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    list.trim() == "*"
        || tags(list).into_iter().any(|own| match weak {
            true => bare(own) == bare(tag),
            false => own == tag && !tag.starts_with("W/"),
        })
}

/// Reads a date of HTTP.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    super::cache::date(text, Timestamp::now())
}

/// Judges the conditions of a request by the fields of what was found.
pub(crate) fn verdict(asked: &HeaderMap, found: &HeaderMap) -> Verdict {
    let tag = found.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let modified = found.get(header::LAST_MODIFIED).and_then(|date| self::date(date.to_str().ok()?));
    let list = |name| joined(asked, name);
    let since = |name: HeaderName| asked.get(name).and_then(|date| self::date(date.to_str().ok()?));
    let failed = match (list(header::IF_MATCH), since(header::IF_UNMODIFIED_SINCE)) {
        (Some(list), _) => tag.is_none_or(|tag| !lists(&list, tag, false)),
        (None, Some(since)) => modified.is_some_and(|modified| modified > since),
        (None, None) => false,
    };
    let known = match (list(header::IF_NONE_MATCH), since(header::IF_MODIFIED_SINCE)) {
        (Some(list), _) => tag.is_some_and(|tag| lists(&list, tag, true)) || list.trim() == "*",
        (None, Some(since)) => modified.is_some_and(|modified| modified <= since),
        (None, None) => false,
    };
    match (failed, known) {
        (true, _) => Verdict::Failed,
        (false, true) => Verdict::NotModified,
        (false, false) => Verdict::Send,
    }
}

fn not_modified(mut response: Response) -> Response {
    let mut confirmed = Response::new(Body::default());
    *confirmed.status_mut() = StatusCode::NOT_MODIFIED;
    for name in CONFIRMED {
        if let Some(value) = response.headers_mut().remove(&name) {
            confirmed.headers_mut().insert(name, value);
        }
    }
    confirmed
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// A weak tag speaks of any coding.
fn name_coding(headers: &mut HeaderMap, coding: Coding) {
    let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()?.strip_suffix('"'));
    let tag = tag.filter(|tag| !tag.starts_with("W/")).map(|tag| format!("{tag}+{}\"", coding.as_str()));
    if let Some(Ok(tag)) = tag.map(HeaderValue::try_from) {
        headers.insert(header::ETAG, tag);
    }
}

fn short(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&digest(&SHA256, bytes).as_ref()[..DIGEST])
}

fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn judged(asked: &[(HeaderName, &str)], found: &[(HeaderName, &str)]) -> Verdict {
        let map = |fields: &[(HeaderName, &str)]| -> HeaderMap {
            fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        verdict(&map(asked), &map(found))
    }

    #[test]
    fn tags_come_before_dates_and_what_must_match_before_what_must_not() {
        use header::{ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED};
        let found = [(ETAG, "\"a\""), (LAST_MODIFIED, OLD)];
        for (asked, expected) in [
            (&[][..], Verdict::Send),
            (&[(IF_NONE_MATCH, "\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"b,c\", W/\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "*")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"b\"")], Verdict::Send),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, NEW)], Verdict::Send),
            (&[(IF_MODIFIED_SINCE, OLD)], Verdict::NotModified),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Verdict::Send),
            (&[(IF_MATCH, "\"b\"")], Verdict::Failed),
            (&[(IF_MATCH, "W/\"a\"")], Verdict::Failed),
            (&[(IF_MATCH, "\"b\", \"a\"")], Verdict::Send),
            (&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], Verdict::Failed),
            (&[(IF_UNMODIFIED_SINCE, OLD)], Verdict::Send),
        ] {
            assert_eq!(judged(asked, &found), expected, "{asked:?}");
        }
        assert_eq!(judged(&[(IF_UNMODIFIED_SINCE, OLD)], &[(LAST_MODIFIED, NEW)]), Verdict::Failed);
        assert_eq!(judged(&[(IF_MODIFIED_SINCE, OLD)], &[(LAST_MODIFIED, NEW)]), Verdict::Send);
        assert_eq!(judged(&[(IF_MATCH, "\"a\"")], &[]), Verdict::Failed);
    }

    #[test]
    fn a_coding_is_named_in_a_tag_and_taken_off_again() {
        for coding in Coding::ALL {
            let mut headers = HeaderMap::new();
            headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
            name_coding(&mut headers, coding);
            let tag = headers[header::ETAG].to_str().unwrap();
            assert_ne!(tag, "\"a\"");
            assert_eq!(without_coding(tag), "\"a\"");
        }
        assert_eq!(without_coding("\"gzip\""), "\"gzip\"");
        assert_eq!(without_coding("W/\"a\""), "W/\"a\"");
    }
}
