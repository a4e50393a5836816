//! Who a request is counted for: a digest of the parts its limit names. What was in them is not kept.

use http::{HeaderName, request::Parts};
use ring::digest::{Context, SHA256};

use super::client::Client;
use crate::{conditions, config, config::Versions, mapping::cookie};

/// Stands for the parts of a key. Strong, because who finds two keys with one digest counts for somebody else; the same
/// on every replica, because they tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

/// By what requests are told apart.
#[derive(Debug, Default)]
pub(crate) struct Key(Vec<Part>);

#[derive(Debug)]
enum Part {
    Ip,
    /// The version the route stands for.
    Fixed(String),
    Version(Versions),
    Header(HeaderName),
    Cookie(String),
}

impl Key {
    /// Reads a checked key; `version` is the one the route is for.
    pub(crate) fn new(keys: &[config::Key], versions: &Versions, version: Option<&str>) -> Self {
        let part = |key: &config::Key| match (key, version) {
            (config::Key::Ip, _) => Some(Part::Ip),
            (config::Key::Version, Some(version)) => Some(Part::Fixed(version.to_owned())),
            (config::Key::Version, None) => Some(Part::Version(versions.clone())),
            (config::Key::Header(name), _) => HeaderName::try_from(name.as_str()).ok().map(Part::Header),
            (config::Key::Cookie(name), _) => Some(Part::Cookie(name.clone())),
            // Refused when the configuration is read.
            (config::Key::Claim(_), _) => None,
        };
        Self(keys.iter().filter_map(part).collect())
    }

    /// Returns the digest of a request's parts.
    pub(crate) fn of(&self, head: &Parts, client: &Client) -> Digest {
        if self.0.is_empty() {
            return Digest([0; 16]);
        }
        let mut context = Context::new(&SHA256);
        for part in &self.0 {
            match part {
                Part::Ip => put(&mut context, Some(client.network())),
                Part::Fixed(version) => put(&mut context, Some(version.as_bytes())),
                Part::Version(versions) => {
                    put(&mut context, conditions::version(&head.headers, versions).map(str::as_bytes));
                }
                Part::Header(name) => put(&mut context, head.headers.get(name).map(|value| value.as_bytes())),
                Part::Cookie(name) => put(&mut context, cookie(&head.headers, name).map(str::as_bytes)),
            }
        }
        Digest::short(context.finish().as_ref())
    }
}

impl Digest {
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::short(ring::digest::digest(&SHA256, bytes).as_ref())
    }

    /// Returns the digest of a list of parts.
    pub(crate) fn of_parts<'p>(parts: impl IntoIterator<Item = Option<&'p [u8]>>) -> Self {
        let mut context = Context::new(&SHA256);
        parts.into_iter().for_each(|part| put(&mut context, part));
        Self::short(context.finish().as_ref())
    }

    /// Returns the digest of a name and a key.
    pub(crate) fn joined(name: &[u8], key: &Self) -> Self {
        Self::of_parts([Some(name), Some(&key.0)])
    }

    /// Returns one of few digests.
    pub(crate) fn folded(&self) -> Self {
        let whole = Self::joined(b"crowd", self);
        Self([&[0xff; 15][..], &whole.0[..1]].concat().try_into().unwrap_or([0xff; 16]))
    }

    fn short(long: &[u8]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&long[..16]);
        Self(short)
    }
}

/// As two numbers, which is how replicas tell each other.
impl From<Digest> for (u64, u64) {
    fn from(digest: Digest) -> Self {
        let whole = u128::from_be_bytes(digest.0);
        ((whole >> 64) as u64, whole as u64)
    }
}

impl From<(u64, u64)> for Digest {
    fn from((high, low): (u64, u64)) -> Self {
        Self(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }
}

/// With its length in front, so that no two lists of parts look the same; absent is not empty.
fn put(context: &mut Context, part: Option<&[u8]>) {
    match part {
        None => context.update(&[0]),
        Some(bytes) => {
            context.update(&[1]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::Key::{Cookie, Header, Ip, Version};

    fn digest(keys: &[config::Key], headers: &[(&str, &str)], ip: &str) -> Digest {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let versions = Versions { header: Some("api-version".into()), ..Versions::default() };
        Key::new(keys, &versions, None).of(&head, &Client::from(ip.parse::<std::net::IpAddr>().unwrap()))
    }

    #[test]
    fn what_is_named_tells_requests_apart_and_nothing_else() {
        let by = [Header("x-key".into()), Cookie("sid".into()), Version];
        let of = |headers: &[(&str, &str)]| digest(&by, headers, "1.2.3.4");
        assert_eq!(of(&[("x-key", "a"), ("x-other", "b")]), of(&[("x-key", "a"), ("x-other", "c")]));
        let all = [
            of(&[]),
            of(&[("x-key", "")]),
            of(&[("x-key", "a")]),
            of(&[("cookie", "sid=a")]),
            of(&[("api-version", "a")]),
            of(&[("x-key", "a"), ("cookie", "sid=b")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        assert_eq!(digest(&[], &[("x-key", "a")], "1.2.3.4"), digest(&[], &[], "5.6.7.8"));
    }

    #[test]
    fn a_client_has_one_address_of_ipv4_and_a_whole_network_of_ipv6() {
        let of = |ip: &str| digest(&[Ip], &[], ip);
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
        assert_eq!(of("1.2.3.4"), of("::ffff:1.2.3.4"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
