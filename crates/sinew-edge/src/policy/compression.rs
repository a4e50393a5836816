//! Replies made smaller: for clients that take them so, where it is worth it, and never twice.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};

use crate::{
    Body, Response,
    coding::{Accepted, Coding},
    config,
    observe::{
        Tallies, Tally,
        tally::{COMPRESSED, SAVED},
    },
};

/// The policy of one route.
#[derive(Debug)]
pub(crate) struct Compression {
    encodings: Vec<Coding>,
    min_bytes: usize,
    types: Vec<String>,
    compressed: Tally,
    saved: Tally,
}

impl Compression {
    pub(super) fn new(asked: &config::Compression, route: &str) -> Self {
        let types = asked.types.iter().map(|name| name.to_ascii_lowercase()).collect();
        let (compressed, saved) = (Tally::new(&COMPRESSED, route), Tally::new(&SAVED, route));
        Self { encodings: asked.encodings.clone(), min_bytes: asked.min_bytes, types, compressed, saved }
    }

    /// Says whether responses of this kind may come in several codings.
    pub(super) fn varies(&self, response: &Response) -> bool {
        let headers = response.headers();
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kept = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
        !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_RANGE)
            && !kept.is_some_and(|kept| kept.contains("no-transform"))
            && media_type.is_some_and(|media_type| self.takes(media_type))
            && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT)
    }

    /// Chooses a coding for a body of this length.
    pub(super) fn choose(&self, head: &Parts, length: usize) -> Option<Coding> {
        let accepted = Accepted::of(&head.headers);
        let worth = length >= self.min_bytes || (length > 0 && accepted.refuses_identity());
        if worth { accepted.best(&self.encodings) } else { None }
    }

    /// Counts a reply that became so much smaller.
    pub(super) fn count(&self, tallies: &Tallies, coding: Coding, saved: usize) {
        self.compressed.add(tallies, coding as usize);
        self.saved.row(tallies).add(0, saved as u64);
    }

    /// Describes it for people.
    pub(super) fn line(&self) -> String {
        let names: Vec<&str> = self.encodings.iter().map(|coding| coding.as_str()).collect();
        format!("compressed by {} from {} bytes on", names.join(", "), self.min_bytes)
    }

    fn takes(&self, media_type: &str) -> bool {
        let name = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.types.iter().any(|own| match (own.strip_suffix("/*"), own.strip_prefix('*')) {
            (Some(family), _) => name.split_once('/').is_some_and(|(own, _)| own == family),
            (_, Some(suffix)) => name.ends_with(suffix),
            _ => *own == name,
        })
    }
}

/// Puts the coded bytes in place. Where coding failed or made nothing smaller, the response stays as it is.
pub(super) async fn apply(coding: Coding, head: &Parts, mut response: Response, bytes: Bytes) -> Response {
    // The length of what is not sent would cost as much as sending it.
    if head.method == Method::HEAD {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        *response.body_mut() = Body::Unknown;
        return response;
    }
    if let Some(coded) = coding.encode(bytes).await {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        *response.body_mut() = Body::from(coded);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &[(http::HeaderName, &str)]) -> Response {
        let mut response = Response::new(Body::default());
        for (name, value) in fields {
            response.headers_mut().insert(name.clone(), value.parse().unwrap());
        }
        response
    }

    #[test]
    fn only_what_is_worth_it_and_not_coded_already_is_coded() {
        let policy = Compression::new(&config::Compression::default(), "route");
        let typed = |media_type: &'static str| response(&[(header::CONTENT_TYPE, media_type)]);
        for yes in
            ["application/json", "text/html; charset=utf-8", "Application/Problem+JSON", "image/svg+xml"]
        {
            assert!(policy.varies(&typed(yes)), "{yes}");
        }
        for no in ["image/png", "application/octet-stream", "video/mp4"] {
            assert!(!policy.varies(&typed(no)), "{no}");
        }
        let json = (header::CONTENT_TYPE, "application/json");
        assert!(!policy.varies(&response(&[])));
        assert!(!policy.varies(&response(&[json.clone(), (header::CONTENT_ENCODING, "gzip")])));
        assert!(!policy.varies(&response(&[json, (header::CACHE_CONTROL, "public, no-transform")])));
    }

    #[test]
    fn small_bodies_stay_as_they_are_unless_the_client_refuses_that() {
        let policy = Compression::new(&config::Compression::default(), "route");
        let head = |accept: &str| {
            http::Request::get("/").header("accept-encoding", accept).body(()).unwrap().into_parts().0
        };
        assert_eq!(policy.choose(&head("gzip"), 1024), Some(Coding::Gzip));
        assert_eq!(policy.choose(&head("gzip"), 1023), None);
        assert_eq!(policy.choose(&head("gzip, identity;q=0"), 1), Some(Coding::Gzip));
        assert_eq!(policy.choose(&head("gzip, *;q=0"), 0), None);
    }
}
