//! Who we are to the server: token, user and password, or a credentials file whose seed signs the server's nonce.
//!
//! Source: the NATS client protocol, `CONNECT`, and ADR-14 for credentials files.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde::Serialize;

use super::{address::Address, protocol::ServerInfo};
use crate::{Config, Error, Kind};

/// What a credentials file holds.
pub(super) struct Credentials {
    jwt: String,
    key: KeyPair,
}

/// The first word of a connection.
#[derive(Debug, Serialize)]
pub(super) struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    protocol: u8,
    lang: &'static str,
    version: &'static str,
    name: &'a str,
    tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl Credentials {
    /// Reads the file a configuration names, if it names one.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read, or holds no credentials.
    pub(super) async fn read(config: &Config) -> Result<Option<Self>, Error> {
        let Some(path) = &config.credentials else { return Ok(None) };
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Kind::Config, format!("cannot read credentials from {}", path.display()))
                .because(source)
        };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| failed(error.into()))?;
        let missing = |what: &str| failed(format!("the file holds no {what}").into());
        let jwt = block(&text, "NATS USER JWT").ok_or_else(|| missing("user jwt"))?.to_owned();
        let seed = block(&text, "USER NKEY SEED").ok_or_else(|| missing("user nkey seed"))?;
        let key = KeyPair::from_seed(seed).map_err(|error| failed(error.into()))?;
        Ok(Some(Self { jwt, key }))
    }
}

impl<'a> Connect<'a> {
    /// Answers the server's first word.
    ///
    /// # Errors
    /// [`Kind::Config`] when the seed cannot sign.
    pub(super) fn new(
        config: &'a Config,
        address: &'a Address,
        credentials: Option<&'a Credentials>,
        info: &ServerInfo,
        encrypted: bool,
    ) -> Result<Self, Error> {
        let sign = |credentials: &Credentials| {
            let signed = credentials.key.sign(info.nonce.as_bytes());
            signed.map(|signature| BASE64URL_NOPAD.encode(&signature)).map_err(|error| {
                Error::new(Kind::Config, "the seed in the credentials file cannot sign").because(error)
            })
        };
        let (user, pass, token) = match &address.identity {
            Some((user, Some(secret))) => (Some(user.as_str()), Some(secret.as_str()), None),
            Some((token, None)) => (None, None, Some(token.as_str())),
            None => (None, None, None),
        };
        Ok(Self {
            verbose: false,
            pedantic: false,
            echo: true,
            headers: true,
            no_responders: true,
            protocol: 1,
            lang: "rust-sinew",
            version: env!("CARGO_PKG_VERSION"),
            name: &config.name,
            tls_required: encrypted,
            auth_token: config.token.as_deref().or(token),
            user,
            pass,
            jwt: credentials.map(|credentials| credentials.jwt.as_str()),
            sig: credentials.map(sign).transpose()?,
        })
    }
}

/// Returns what stands between `-----BEGIN <title>-----` and the next line of dashes.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let begin = text.find(&format!("BEGIN {title}"))?;
    let body = text[begin..].split_once('\n')?.1;
    let end = body.find("---")?;
    let value = body[..end].trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_of_a_credentials_file_are_found() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n* IMPORTANT *\n\n\
                    -----BEGIN USER NKEY SEED-----\nSUAM\n------END USER NKEY SEED------\n";
        assert_eq!(block(text, "NATS USER JWT"), Some("eyJ0"));
        assert_eq!(block(text, "USER NKEY SEED"), Some("SUAM"));
        assert_eq!(block(text, "SOMETHING ELSE"), None);
        assert_eq!(block("-----BEGIN NATS USER JWT-----\n------END", "NATS USER JWT"), None);
    }
}
