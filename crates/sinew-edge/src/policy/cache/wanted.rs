//! What a request is looked up by, and at which paths an answer lets go of what is kept.

use std::borrow::Cow;

use http::{HeaderValue, header, request::Parts};

use super::{Cache, directives::Directives};
use crate::{
    Edge, accept,
    config::Per,
    exchange::Asked,
    policy::key::Digest,
    problem::Refusal,
    served::{Served, Target},
};

/// What a request is looked up by.
pub(super) struct Wanted {
    pub(super) key: Digest,
    pub(super) path: Digest,
    pub(super) request: Directives,
    /// Whether the request says who asks.
    pub(super) named: bool,
    /// Whether the reply's form was negotiated by the edge.
    pub(super) negotiated: bool,
}

impl Cache {
    /// Says what a request is looked up by.
    ///
    /// # Errors
    /// 406 where it takes no form of a reply.
    pub(super) fn wanted(&self, edge: &Edge, served: &Served, asked: &Asked<'_>) -> Result<Wanted, Refusal> {
        let head = asked.head;
        let negotiated = !matches!(served.target, Target::Forward(_) | Target::Object(_));
        let codec = if negotiated { accept::negotiate(&head.headers)?.as_str() } else { "" };
        let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
        let host = host.or_else(|| head.uri.authority().map(|host| host.as_str().as_bytes()));
        let query = self.query(head.uri.query().unwrap_or_default());
        let client = edge.policies.proxies.client(asked.peer, &head.headers);
        let own = self.key.of(head, &client);
        let named = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        let (token, cookie) = (named(header::AUTHORIZATION), named(header::COOKIE));
        let consumer = if self.per == Per::Consumer { [token, cookie] } else { [None, None] };
        let parts =
            [Some(&b"cache"[..]), Some(self.route.as_bytes()), host, Some(head.uri.path().as_bytes())];
        let parts = parts.into_iter().chain([Some(query.as_bytes()), Some(codec.as_bytes()), Some(&own.0)]);
        Ok(Wanted {
            key: Digest::of_parts(parts.chain(consumer)),
            path: path_key(head.uri.path()),
            request: Directives::read(&head.headers, &header::CACHE_CONTROL).unwrap_or_default(),
            named: token.is_some() || cookie.is_some(),
            negotiated,
        })
    }

    /// Returns what of the query tells replies apart.
    fn query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        if self.query.is_all() {
            return Cow::Borrowed(query);
        }
        let name = |part: &&str| part.split('=').next().unwrap_or_default().to_owned();
        let mut parts: Vec<&str> = query.split('&').filter(|part| self.query.counts(&name(part))).collect();
        parts.sort_unstable();
        Cow::Owned(parts.join("&"))
    }
}

/// Returns the path a field of an answer points to, where that is on the host that was asked.
pub(super) fn same_host(head: &Parts, target: &str) -> Option<String> {
    if let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let own = head.headers.get(header::HOST).and_then(|own| own.to_str().ok());
        let own = own.or_else(|| head.uri.authority().map(|own| own.as_str()))?;
        return own.eq_ignore_ascii_case(host).then(|| path_of(if path.is_empty() { "/" } else { path }));
    }
    match target.as_bytes() {
        [b'/', b'/', ..] => None,
        [b'/', ..] => Some(path_of(target)),
        [] | [b'?' | b'#', ..] => Some(head.uri.path().to_owned()),
        _ => {
            let (folder, _) = head.uri.path().rsplit_once('/')?;
            Some(path_of(&format!("{folder}/{target}")))
        }
    }
}

fn path_of(target: &str) -> String {
    target.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Every host's and query's: what is let go of too much is asked for again.
pub(super) fn path_key(path: &str) -> Digest {
    Digest::of_parts([Some(&b"path"[..]), Some(path.as_bytes())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_points_to_counts_on_the_same_host_only() {
        let head = http::Request::post("/orders/7/notes?x").header("host", "Shop.example").body(()).unwrap();
        let (head, ()) = head.into_parts();
        let path = |target| same_host(&head, target);
        for (target, expected) in [
            ("/orders/7?y", "/orders/7"),
            ("http://shop.example/orders/7", "/orders/7"),
            ("https://shop.example", "/"),
            ("3", "/orders/7/3"),
            ("", "/orders/7/notes"),
            ("?z", "/orders/7/notes"),
        ] {
            assert_eq!(path(target).as_deref(), Some(expected), "{target}");
        }
        for elsewhere in ["http://other.example/orders/7", "//other.example/x", "http://shop.example:81/x"] {
            assert_eq!(path(elsewhere), None, "{elsewhere}");
        }
    }
}
