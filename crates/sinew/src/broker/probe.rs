//! Asks a server who it is: reads the greeting every connection begins with, and sends one JetStream request.
//! Not a client: that is the bus.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Error, Version};

/// How long a running server may take to greet; loopback takes under a millisecond.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// A greeting is about 500 bytes, longer when a cluster lists its members.
const LINE_LIMIT: u64 = 64 * 1024;

/// What a server says about itself before anything is asked.
#[derive(Debug, Deserialize)]
struct Greeting {
    version: String,
    #[serde(default)]
    jetstream: bool,
}

/// A host and port, without scheme and credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
}

/// Checks the first server that answers at one of the comma-separated addresses and returns its version.
pub(super) async fn running(urls: &str) -> Result<Version, Error> {
    let addresses = urls.split(',').map(|url| Address::parse(url.trim())).collect::<Result<Vec<_>, _>>()?;
    let mut failure = None;
    for address in addresses {
        let shown = format!("{}:{}", address.host, address.port);
        match timeout(GREETING_LIMIT, greet(&address)).await.unwrap_or_else(|_| Err(silent())) {
            Ok((_, greeting)) => return accept(shown, &greeting),
            Err(source) => failure = Some(Error::Unreachable { address: shown, source }),
        }
    }
    Err(failure.unwrap_or(Error::InvalidUrl { url: String::new(), reason: "it is empty" }))
}

/// Asks the server on this loopback port for its JetStream account, which it answers once streams are recovered.
pub(super) async fn jetstream_answers(port: u16) -> io::Result<()> {
    const ASK: &[u8] =
        b"CONNECT {\"verbose\":false}\r\nSUB sinew.probe 1\r\nPUB $JS.API.INFO sinew.probe 0\r\n\r\n";
    let (mut stream, _) = greet(&Address { host: "127.0.0.1".into(), port }).await?;
    stream.write_all(ASK).await?;
    loop {
        let line = read_line(&mut stream).await?;
        if line.starts_with("-ERR") {
            return Err(io::Error::other(line));
        }
        if line.starts_with("MSG ") {
            let answer = read_line(&mut stream).await?;
            let refused = answer.contains("\"error\":");
            return if refused { Err(io::Error::other(answer)) } else { Ok(()) };
        }
    }
}

impl Address {
    fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let rest = rest.split(['/', '?']).next().unwrap_or_default();
        let authority = rest.rsplit_once('@').map_or(rest, |(_credentials, authority)| authority);
        let invalid = |reason| Error::InvalidUrl { url: format!("{scheme}://{authority}"), reason };
        if !matches!(scheme, "nats" | "tls") {
            return Err(invalid("its scheme is neither nats nor tls"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let port =
            port.unwrap_or("4222").parse().map_err(|_| invalid("its port is not a number up to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

fn accept(address: String, greeting: &Greeting) -> Result<Version, Error> {
    let version: Version = greeting.version.parse()?;
    if !version.is_supported() {
        return Err(Error::TooOld { what: format!("the server at {address}"), version });
    }
    if !greeting.jetstream {
        return Err(Error::NoJetStream { address });
    }
    Ok(version)
}

async fn greet(address: &Address) -> io::Result<(BufReader<TcpStream>, Greeting)> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let mut stream = BufReader::new(stream);
    let line = read_line(&mut stream).await?;
    let json =
        line.strip_prefix("INFO ").ok_or_else(|| io::Error::other("it does not greet like a nats-server"))?;
    Ok((stream, serde_json::from_str(json)?))
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_LIMIT).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it accepts connections but does not greet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves one connection that is greeted with `line`, and returns its address.
    async fn greeter(line: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
        });
        url
    }

    #[test]
    fn addresses_parse_with_defaults_and_without_credentials() {
        for (url, host, port) in [
            ("nats://bus", "bus", 4222),
            ("bus:4223", "bus", 4223),
            ("tls://ada:p@ss@bus:4224/", "bus", 4224),
            ("nats://[::1]:4225", "::1", 4225),
        ] {
            assert_eq!(Address::parse(url).unwrap(), Address { host: host.into(), port }, "{url}");
        }
    }

    #[test]
    fn a_refused_address_never_shows_its_credentials() {
        for url in ["http://ada:secret@bus", "nats://ada:secret@", "nats://ada:secret@bus:70000"] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::InvalidUrl { .. }), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_running_server_is_checked_by_its_greeting() {
        let good = greeter("INFO {\"version\":\"2.12.1\",\"jetstream\":true}\r\n").await;
        assert_eq!(running(&good).await.unwrap().to_string(), "2.12.1");
        let old = greeter("INFO {\"version\":\"2.11.9\",\"jetstream\":true}\r\n").await;
        assert!(matches!(running(&old).await, Err(Error::TooOld { .. })));
        let bare = greeter("INFO {\"version\":\"2.15.1\"}\r\n").await;
        assert!(matches!(running(&bare).await, Err(Error::NoJetStream { .. })));
        let other = greeter("SSH-2.0-OpenSSH_9.6\r\n").await;
        assert!(matches!(running(&other).await, Err(Error::Unreachable { .. })));
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_enough() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = greeter("INFO {\"version\":\"2.15.1\",\"jetstream\":true}\r\n").await;
        assert!(running(&format!("nats://{free}, {good}")).await.is_ok());
    }
}
