//! Digest access authentication (RFC 7616): proves a password without sending it.

use std::collections::BTreeMap;

use ::http::Method;
use data_encoding::HEXLOWER;
use md5::Md5;
use sha2::{Digest, Sha256};

/// A user and the password, which never leaves as it is.
#[derive(Clone)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

/// What the other side asks.
#[derive(Debug, PartialEq)]
struct Challenge<'a> {
    realm: &'a str,
    nonce: &'a str,
    opaque: Option<&'a str>,
    algorithm: Algorithm,
    /// Whether `qop=auth` is offered; servers of before 1999 offer none.
    protected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Md5Session,
    Sha256,
    Sha256Session,
}

impl Credentials {
    pub(super) fn new(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned() }
    }

    /// Answers the strongest of the challenges; none if they ask for something else.
    pub(crate) fn answer<'a>(
        &self,
        challenges: impl Iterator<Item = &'a str>,
        method: &Method,
        uri: &str,
    ) -> Option<String> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        let strongest = challenges.filter_map(Challenge::read).max_by_key(|challenge| challenge.algorithm)?;
        Some(self.respond(&strongest, method, uri, &nonce))
    }

    fn respond(&self, challenge: &Challenge<'_>, method: &Method, uri: &str, client_nonce: &str) -> String {
        let Challenge { realm, nonce, algorithm, .. } = *challenge;
        let mut secret = algorithm.hash(&format!("{}:{realm}:{}", self.username, self.password));
        if matches!(algorithm, Algorithm::Md5Session | Algorithm::Sha256Session) {
            secret = algorithm.hash(&format!("{secret}:{nonce}:{client_nonce}"));
        }
        let request = algorithm.hash(&format!("{method}:{uri}"));
        let proof = if challenge.protected {
            algorithm.hash(&format!("{secret}:{nonce}:00000001:{client_nonce}:auth:{request}"))
        } else {
            algorithm.hash(&format!("{secret}:{nonce}:{request}"))
        };
        let (user, name) = (quoted(&self.username), algorithm.name());
        let mut answer = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={name}, response=\"{proof}\""
        );
        if challenge.protected {
            answer.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{client_nonce}\""));
        }
        if let Some(opaque) = challenge.opaque {
            answer.push_str(&format!(", opaque=\"{opaque}\""));
        }
        answer
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl<'a> Challenge<'a> {
    /// Reads a `www-authenticate` header, if it asks for a digest we can make.
    fn read(header: &'a str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let parameters = parameters(rest);
        let get = |name: &str| parameters.get(name).copied();
        let protected = get("qop").map(|offered| offered.split(',').any(|kind| kind.trim() == "auth"));
        if protected == Some(false) {
            return None;
        }
        Some(Self {
            realm: get("realm").unwrap_or_default(),
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm: Algorithm::read(get("algorithm").unwrap_or("MD5"))?,
            protected: protected.is_some(),
        })
    }
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Md5, Self::Md5Session, Self::Sha256, Self::Sha256Session];

    fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Session => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Session => "SHA-256-sess",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 | Self::Md5Session => HEXLOWER.encode(&Md5::digest(text)),
            Self::Sha256 | Self::Sha256Session => HEXLOWER.encode(&Sha256::digest(text)),
        }
    }
}

/// Reads `name=value, name="value"`. Names are compared in lower case, as they are commonly written.
fn parameters(mut text: &str) -> BTreeMap<String, &str> {
    let mut parameters = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let rest = rest.trim_start();
        let (value, after) = match rest.strip_prefix('"') {
            Some(rest) => rest.split_once('"').unwrap_or((rest, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        parameters.insert(name, value.trim());
        text = after;
    }
    parameters
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CLIENT: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    /// The example of RFC 7616, section 3.9.1.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let credentials = Credentials::new("Mufasa", "Circle of Life");
        for (algorithm, proof) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let header = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, nonce=\"{NONCE}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let challenge = Challenge::read(&header).unwrap();
            let answer = credentials.respond(&challenge, &Method::GET, "/dir/index.html", CLIENT);
            assert!(answer.contains(&format!("response=\"{proof}\"")), "{answer}");
            assert!(!answer.contains("Circle"), "{answer}");
        }
    }

    #[test]
    fn the_strongest_challenge_is_answered_and_others_are_not() {
        let credentials = Credentials::new("ann", "pw");
        let challenges =
            ["Basic realm=\"x\"", "Digest nonce=\"a\", algorithm=MD5", "Digest nonce=b, algorithm=SHA-256"];
        let answer = credentials.answer(challenges.into_iter(), &Method::GET, "/").unwrap();
        assert!(answer.contains("algorithm=SHA-256") && answer.contains("nonce=\"b\""), "{answer}");
        let foreign = ["Bearer", "Digest realm=\"no nonce\"", "Digest nonce=\"a\", qop=\"auth-int\""];
        assert_eq!(credentials.answer(foreign.into_iter(), &Method::GET, "/"), None);
    }
}
