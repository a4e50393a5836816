//! Server addresses as people write them: `nats://user:secret@host:4222`, `tls://host`, `host:4222`, `[::1]:4222`.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{Error, Kind};

const PORT: u16 = 4222;

/// Where one server listens, and what it is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether the connection must be encrypted, whatever the server asks for.
    pub(super) tls: bool,
    /// User and password, or a token alone.
    pub(super) identity: Option<(String, Option<String>)>,
    /// Whom its certificate is for, where that is not the host.
    pub(super) certified: Option<String>,
}

impl Address {
    /// Returns the name that the server's certificate has to show.
    pub(super) fn certified(&self) -> &str {
        self.certified.as_deref().unwrap_or(&self.host)
    }

    /// Takes over what the server that told of this one needed: its neighbours need it as well.
    pub(super) fn told_by(mut self, from: &Self) -> Self {
        self.tls |= from.tls;
        self.identity.clone_from(&from.identity);
        // Servers tell each other's numbers, and certificates are for names.
        let is_number = |host: &str| host.parse::<IpAddr>().is_ok();
        if is_number(&self.host) && !is_number(from.certified()) {
            self.certified = Some(from.certified().to_owned());
        }
        self
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = || {
            let shown = redacted(text);
            Error::new(Kind::Config, format!("{shown:?} is not a server address: use nats://host:port"))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(other_scheme(text, scheme)),
        };
        let rest = rest.trim_end_matches('/');
        let (identity, place) = match rest.rsplit_once('@') {
            Some((identity, place)) => (Some(identity), place),
            None => (None, rest),
        };
        let (host, port) = split_port(place).ok_or_else(wrong)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#,".contains(c)) {
            return Err(wrong());
        }
        let identity = identity.map(|identity| match identity.split_once(':') {
            Some((user, secret)) => (decoded(user), Some(decoded(secret))),
            None => (decoded(identity), None),
        });
        Ok(Self { host: host.to_owned(), port, tls, identity, certified: None })
    }
}

/// Shows no secrets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// Reads several addresses, separated by commas.
///
/// # Errors
/// [`Kind::Config`] for one that cannot be read.
pub(super) fn all(url: &str) -> Result<Vec<Address>, Error> {
    url.split(',').map(str::parse).collect()
}

/// Returns addresses without the passwords some of them carry.
pub(super) fn redacted(url: &str) -> String {
    let one = |address: &str| match address.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}{}***@{host}", if scheme.is_empty() { "" } else { "://" })
        }
        None => address.to_owned(),
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

fn other_scheme(text: &str, scheme: &str) -> Error {
    let shown = redacted(text);
    let hint =
        "the schemes are nats and, where the connection has to be encrypted, tls: use nats://host:port";
    Error::new(
        Kind::Config,
        format!("{shown:?} is not a server address: {scheme} is another protocol; {hint}"),
    )
}

fn split_port(place: &str) -> Option<(&str, u16)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, PORT)),
            _ => Some((host, rest.strip_prefix(':')?.parse().ok()?)),
        };
    }
    match place.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((place, PORT)),
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Address> {
        text.parse().ok()
    }

    fn address(host: &str, port: u16, tls: bool, identity: Option<(&str, Option<&str>)>) -> Option<Address> {
        let identity = identity.map(|(user, secret)| (user.to_owned(), secret.map(str::to_owned)));
        Some(Address { host: host.to_owned(), port, tls, identity, certified: None })
    }

    #[test]
    fn every_usual_spelling_is_read() {
        assert_eq!(read("nats://h:1"), address("h", 1, false, None));
        assert_eq!(read("h"), address("h", 4222, false, None));
        assert_eq!(read("tls://[::1]:7/"), address("::1", 7, true, None));
        assert_eq!(read("nats://[::1]"), address("::1", 4222, false, None));
        let identity = Some(("a@b", Some("p:w")));
        assert_eq!(read("nats://a%40b:p%3Aw@h:1"), address("h", 1, false, identity));
        assert_eq!(read("token@h"), address("h", 4222, false, Some(("token", None))));
        for wrong in ["", "http://h", "nats://", "h:port", "h:99999", "a b:1", "[::1"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_server_told_of_needs_what_its_teller_needed() {
        let from: Address = "tls://ada:x@nats.example".parse().unwrap();
        let told = |text: &str, from: &Address| text.parse::<Address>().unwrap().told_by(from);
        let second = told("[fd00::2]:4222", &from);
        assert_eq!((second.tls, second.identity.is_some(), second.certified()), (true, true, "nats.example"));
        assert_eq!(told("10.0.0.3:4222", &second).certified(), "nats.example");
        assert_eq!(told("other.example", &from).certified(), "other.example");
        assert_eq!(told("10.0.0.3", &"10.0.0.1".parse().unwrap()).certified(), "10.0.0.3");
    }

    #[test]
    fn an_error_never_shows_a_password() {
        assert_eq!(redacted("nats://ada:secret@host:4222,host2"), "nats://***@host:4222,host2");
        assert_eq!(redacted("token@host"), "***@host");
        let error = "nats://ada:secret@ho st".parse::<Address>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
