//! A kept response: what is kept of it, how a confirmation changes it, and what a client gets of it.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use super::{dates, freshness, freshness::Life, vary::Selection};
use crate::{Body, Response, policy::conditional};

/// Fields of one connection (RFC 9110, section 7.6.1), and those that are about a proxy.
const HOPS: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What a confirmation does not change, as it says how the kept bytes are to be read (RFC 9111, section 3.2).
const OF_THE_BYTES: [&str; 5] =
    ["content-encoding", "content-length", "content-md5", "content-range", "etag"];
/// What is written for caches and is nothing to clients.
const FOR_CACHES: [&str; 3] = ["surrogate-control", "surrogate-key", "cache-tag"];
/// What an entry costs beside its bytes and fields.
const OVERHEAD: usize = 512;

/// A response as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) life: Life,
    pub(super) selection: Selection,
    /// What it is about.
    pub(super) tags: Vec<String>,
}

impl Entry {
    /// Returns how many bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        let tags = self.tags.iter().map(|tag| tag.len() + 32);
        OVERHEAD + self.body.len() + fields.sum::<usize>() + tags.sum::<usize>()
    }

    /// Returns the response to a request, as old as it is. Its body is shared, not copied.
    pub(super) fn answer(&self, head: &Parts, now: u64) -> Response {
        let age = HeaderValue::from(self.life.age(now) / 1_000);
        if self.status == StatusCode::OK && self.is_known(&head.headers) {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = self.headers.clone();
            [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING].iter().for_each(
                |name| {
                    response.headers_mut().remove(name);
                },
            );
            response.headers_mut().insert(header::AGE, age);
            return response;
        }
        let mut response = match self.part(head) {
            Some(range) => part(&self.body, range),
            None => Response::new(Body::from(self.body.clone())),
        };
        if response.status() == StatusCode::OK {
            *response.status_mut() = self.status;
        }
        let range = response.headers_mut().remove(header::CONTENT_RANGE);
        *response.headers_mut() = self.headers.clone();
        let headers = response.headers_mut();
        headers.insert(header::AGE, age);
        if let Some(range) = range {
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CONTENT_RANGE, range);
        }
        response
    }

    /// Writes conditions into a request, by which the service says whether this still holds.
    pub(super) fn ask_again(&self, asked: &mut HeaderMap) {
        for (own, name) in
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
        {
            match self.headers.get(&own) {
                Some(value) => drop(asked.insert(name, value.clone())),
                None => drop(asked.remove(name)),
            }
        }
    }

    /// Says whether it can be confirmed.
    pub(super) fn can_be_confirmed(&self) -> bool {
        self.headers.contains_key(header::ETAG) || self.headers.contains_key(header::LAST_MODIFIED)
    }

    /// Takes over what a confirmation says.
    pub(super) fn confirmed(&self, by: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut by = by.clone();
        strip(&mut by);
        OF_THE_BYTES.iter().for_each(|name| drop(by.remove(*name)));
        if !by.contains_key(header::AGE) {
            headers.remove(header::AGE);
        }
        for name in by.keys() {
            headers.remove(name);
        }
        for (name, value) in &by {
            headers.append(name, value.clone());
        }
        headers
    }

    /// Says whether what a `HEAD` tells is about the kept bytes.
    pub(super) fn is_told_by(&self, headers: &HeaderMap) -> bool {
        let same =
            |name: HeaderName| headers.get(&name).is_none_or(|told| self.headers.get(&name) == Some(told));
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok()?.parse::<usize>().ok());
        same(header::ETAG)
            && same(header::LAST_MODIFIED)
            && length.is_none_or(|told| told == self.body.len() || told == 0)
    }

    /// Says whether the client has it already, as its conditions say.
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let text = |headers: &HeaderMap, name: &HeaderName| {
            let lines: Vec<&str> =
                headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
            (!lines.is_empty()).then(|| lines.join(","))
        };
        if let Some(list) = text(asked, &header::IF_NONE_MATCH) {
            return match self.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) {
                Some(tag) => conditional::lists(&list, tag, true),
                None => list.trim() == "*",
            };
        }
        let now = Timestamp::now();
        let date = |text: Option<String>| text.and_then(|text| dates::read(&text, now));
        let Some(since) = date(text(asked, &header::IF_MODIFIED_SINCE)) else { return false };
        let changed =
            text(&self.headers, &header::LAST_MODIFIED).or_else(|| text(&self.headers, &header::DATE));
        date(changed).is_some_and(|changed| changed <= since)
    }

    /// Returns the one part that is asked for, where there is such a part.
    fn part(&self, head: &Parts) -> Option<Option<Range<usize>>> {
        let range = head.headers.get(header::RANGE)?.to_str().ok()?;
        if head.method != Method::GET || self.status != StatusCode::OK {
            return None;
        }
        if let Some(condition) = head.headers.get(header::IF_RANGE) {
            let weak = condition.as_bytes().starts_with(b"W/");
            let same = [header::ETAG, header::LAST_MODIFIED]
                .iter()
                .any(|name| self.headers.get(name) == Some(condition));
            if weak || !same {
                return None;
            }
        }
        range_of(range, self.body.len())
    }
}

/// Takes out what is not kept: fields of the connection, those listed there, and those the response keeps for itself.
pub(super) fn keep(headers: &mut HeaderMap, at: Timestamp) {
    let (said, _) = freshness::said(headers);
    strip(headers);
    for name in said.fields.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()) {
        headers.remove(name);
    }
    if !headers.contains_key(header::DATE)
        && let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&at)
        && let Ok(date) = HeaderValue::try_from(date)
    {
        headers.insert(header::DATE, date);
    }
}

/// Takes out what belongs to one connection.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    listed.iter().for_each(|name| drop(headers.remove(name)));
    HOPS.iter().for_each(|name| drop(headers.remove(*name)));
}

/// Takes out what is written for caches.
pub(super) fn hide(headers: &mut HeaderMap) {
    FOR_CACHES.iter().for_each(|name| drop(headers.remove(*name)));
}

fn part(body: &Bytes, range: Option<Range<usize>>) -> Response {
    let length = body.len();
    let (status, told, body) = match range {
        Some(range) => {
            let told = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, told, body.slice(range))
        }
        None => (StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{length}"), Bytes::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if let Ok(told) = HeaderValue::try_from(told) {
        response.headers_mut().insert(header::CONTENT_RANGE, told);
    }
    response
}

/// Reads a range; the inner `None` stands for one that lies behind the end. Several ranges are answered whole.
fn range_of(text: &str, length: usize) -> Option<Option<Range<usize>>> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let range = match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => return None,
        (true, false) => length.saturating_sub(number(last)?)..length,
        (false, true) => number(first)?..length,
        (false, false) => number(first)?..number(last)?.saturating_add(1).min(length),
    };
    if first
        .trim()
        .parse::<usize>()
        .is_ok_and(|first| !last.trim().is_empty() && number(last).is_some_and(|last| last < first))
    {
        return None;
    }
    Some((!range.is_empty()).then_some(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_range_is_cut_out_and_what_lies_behind_the_end_is_none() {
        assert_eq!(range_of("bytes=0-1", 11), Some(Some(0..2)));
        assert_eq!(range_of("bytes=1-", 11), Some(Some(1..11)));
        assert_eq!(range_of("bytes=-1", 11), Some(Some(10..11)));
        assert_eq!(range_of("bytes=-99", 11), Some(Some(0..11)));
        assert_eq!(range_of("bytes=5-99", 11), Some(Some(5..11)));
        assert_eq!(range_of("bytes=11-", 11), Some(None));
        for whole in ["bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=3-1", "bytes=a-b"] {
            assert_eq!(range_of(whole, 11), None, "{whole}");
        }
    }

    #[test]
    fn fields_of_the_connection_and_those_it_lists_are_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "a, close"),
            ("a", "1"),
            ("b", "2"),
            ("te", "x"),
            ("cache-control", "no-cache=\"c\""),
            ("c", "3"),
        ] {
            headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        keep(&mut headers, Timestamp::UNIX_EPOCH);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["b", "cache-control", "date"]);
    }

    proptest! {
        #[test]
        fn a_range_never_lies_outside_the_body(text in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_usize..500) {
            if let Some(Some(range)) = range_of(&text, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
