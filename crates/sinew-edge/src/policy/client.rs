//! Who a request comes from: the address of the connection, or what a trusted proxy says of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

use crate::config::{Config, ForwardedBy, Mistake};

/// The address a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    address: IpAddr,
    bytes: [u8; 16],
    length: usize,
}

/// Proxies that are believed.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    networks: Vec<Network>,
    forwarded_by: ForwardedBy,
}

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let (mut bytes, length) = ([0; 16], if address.is_ipv4() { 4 } else { 8 });
        match address {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.copy_from_slice(&v6.octets()),
        }
        Self { address, bytes, length }
    }
}

impl Client {
    /// Returns what is counted as one client: an address of IPv4, the first 64 bits of one of IPv6.
    pub(crate) fn network(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Returns the same as an address.
    pub(crate) fn address(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => self.address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        }
    }

    /// Returns the same as a number.
    pub(crate) fn crowd(&self) -> u64 {
        self.network().iter().fold(self.length as u64, |all, byte| (all << 8) | u64::from(*byte))
    }
}

impl Proxies {
    /// Reads the checked settings.
    pub(crate) fn new(config: &Config) -> Self {
        let networks = config.trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect();
        Self { networks, forwarded_by: config.forwarded_by }
    }

    /// Lists what is no network.
    pub(crate) fn mistakes(config: &Config) -> Vec<Mistake> {
        let wrong =
            config.trusted_proxies.iter().enumerate().filter(|(_, text)| Network::parse(text).is_none());
        let message =
            "is no network: write an address, or one with the number of bits that count, as 10.0.0.0/8";
        wrong.map(|(index, _)| Mistake::new(format!("/trusted_proxies/{index}"), message)).collect()
    }

    /// Returns who asks: the nearest address on the way that is no trusted proxy. What stands behind that one anybody may
    /// have written.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        let mut nearest = peer.ip().to_canonical();
        if !self.trusts(nearest) {
            return nearest.into();
        }
        let name = self.forwarded_by.header();
        let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        for element in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let address = match self.forwarded_by {
                ForwardedBy::XForwardedFor => address(element.trim()),
                ForwardedBy::Forwarded => forwarded(element),
            };
            // An unknown or hidden sender: the last one that is known stands for it.
            let Some(address) = address else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest.into()
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { address, bits })
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// Reads an address that may have a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Reads who an element of `Forwarded` is for (RFC 7239).
fn forwarded(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client(by: &str, header: &str, lines: &[&str], peer: &str) -> String {
        let config: Config = serde_json::from_value(
            json!({ "trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"], "forwarded_by": by }),
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(http::HeaderName::try_from(header).unwrap(), line.parse().unwrap());
        }
        Proxies::new(&config).client(peer.parse().unwrap(), &headers).address.to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_up_to_the_first_stranger() {
        let by = |lines: &[&str], peer| client("x-forwarded-for", "x-forwarded-for", lines, peer);
        assert_eq!(by(&["6.6.6.6"], "1.1.1.1:5"), "1.1.1.1", "a stranger says who it is");
        assert_eq!(by(&["6.6.6.6"], "10.0.0.1:5"), "6.6.6.6");
        assert_eq!(by(&["6.6.6.6, 7.7.7.7, 10.1.1.1"], "10.0.0.1:5"), "7.7.7.7");
        assert_eq!(by(&["6.6.6.6", "7.7.7.7:80", "10.1.1.1"], "[::ffff:10.0.0.1]:5"), "7.7.7.7");
        assert_eq!(by(&["6.6.6.6, unknown, 10.1.1.1"], "10.0.0.1:5"), "10.1.1.1");
        assert_eq!(by(&[], "10.0.0.1:5"), "10.0.0.1");
        assert_eq!(by(&["10.9.9.9"], "10.0.0.1:5"), "10.9.9.9");
        assert_eq!(by(&["[2001:db9::1]:80"], "[2001:db8::1]:5"), "2001:db9::1");
    }

    #[test]
    fn the_other_header_is_anybodys_to_write() {
        assert_eq!(client("x-forwarded-for", "forwarded", &["for=6.6.6.6"], "10.0.0.1:5"), "10.0.0.1");
        assert_eq!(client("forwarded", "x-forwarded-for", &["6.6.6.6"], "10.0.0.1:5"), "10.0.0.1");
        let by = |line: &str| client("forwarded", "forwarded", &[line], "10.0.0.1:5");
        assert_eq!(by("for=6.6.6.6;proto=http, For=\"[2001:db9::1]:4711\""), "2001:db9::1");
        assert_eq!(by("for=6.6.6.6, proto=http;for=_hidden"), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_a_mistake() {
        let config: Config = serde_json::from_value(
            json!({ "trusted_proxies": ["10.0.0.0/33", "::1", "x", "::/0", "1.2.3.4/", "::/129"] }),
        )
        .unwrap();
        let pointers: Vec<String> = Proxies::mistakes(&config).into_iter().map(|one| one.pointer).collect();
        assert_eq!(pointers, [0, 2, 4, 5].map(|index| format!("/trusted_proxies/{index}")));
    }
}
