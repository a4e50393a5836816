//! Channels over NATS: as much of its protocol as it takes to publish and to subscribe.
//!
//! These servers are other people's, named by their documents; the bus has a client of its own.

use std::io;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use sinew_workflow::Fault;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{timeout, timeout_at};

use super::channel::Channel;
use super::resume::Place;
use super::{Heard, Message, Messages};
use crate::authentication;
use crate::call::Scope;
use crate::client::Stream;
use crate::failure::Failure;
use crate::http::scalar;

/// The longest line a server may send: what announces a message, or itself.
const LINE: u64 = 64 << 10;
const VERSION: &str = "NATS/1.0\r\n";
/// The header by which a stream recognises a repetition.
const ID: &str = "Nats-Msg-Id";
/// How long a server may say nothing: it pings every two minutes, unless somebody set it otherwise.
const SILENCE: Duration = Duration::from_secs(600);

/// A connection to a server that knows us.
struct Connection {
    stream: BufReader<Stream>,
    limit: usize,
}

/// What a server says that matters here.
enum Said {
    Message { headers: Map<String, Value>, payload: Vec<u8> },
    Pong,
}

pub(super) async fn publish(scope: Scope<'_>, channel: &Channel, message: &Message) -> Result<(), Failure> {
    let subject = subject(channel)?;
    let written = write(scope, subject, message)?;
    let mut connection = connect(scope, channel).await?;
    let published = timeout_at(scope.deadline, async {
        connection.send(&written).await?;
        // Its answer says that everything before it was taken.
        connection.send(b"PING\r\n").await?;
        while !matches!(connection.hear().await?, Said::Pong) {}
        io::Result::Ok(())
    });
    match published.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(Failure::unknown(Fault::timeout("the server did not take the message in time"))),
    }
}

pub(super) async fn subscribe(scope: Scope<'_>, channel: Channel) -> Result<Messages, Failure> {
    let subject = subject(&channel)?.to_owned();
    let mut connection = connect(scope, &channel).await?;
    let begun = timeout_at(scope.deadline, async {
        connection.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes()).await?;
        while !matches!(connection.hear().await?, Said::Pong) {}
        io::Result::Ok(())
    });
    let late = |_| Failure::not_sent(Fault::timeout("the subscription did not begin in time"));
    begun.await.map_err(late)?.map_err(|error| lost(&error).of_safe_request())?;
    Ok(futures::stream::try_unfold((connection, channel), next).boxed())
}

async fn next(
    (mut connection, channel): (Connection, Channel),
) -> Result<Option<((Heard, Place), (Connection, Channel))>, Failure> {
    let gone = |_| Failure::not_sent(Fault::communication("the server has not been heard for too long"));
    loop {
        let said = timeout(SILENCE, connection.hear()).await.map_err(gone)?;
        let Said::Message { headers, payload } = said.map_err(|error| lost(&error).of_safe_request())? else {
            continue;
        };
        let identity = headers.get(ID).and_then(Value::as_str).map(str::to_owned);
        let message = channel.received(&payload, headers);
        return Ok(Some(((Heard { message, identity }, Place::default()), (connection, channel))));
    }
}

/// Connects, and says who we are.
async fn connect(scope: Scope<'_>, channel: &Channel) -> Result<Connection, Failure> {
    let server = channel.server()?;
    let host = server.host_str().unwrap_or_default();
    let port = server.port().unwrap_or(4222);
    let credentials = credentials(scope, channel).await?;
    let greeted = timeout_at(scope.deadline, async {
        let connector = scope.core.client.connector();
        let stream = connector.open_raw(host, port, false).await?;
        let mut connection =
            Connection { stream: BufReader::new(stream), limit: scope.core.settings.max_body };
        let info = connection.line().await?;
        let info = info.strip_prefix("INFO ").ok_or_else(|| io::Error::other("it is no NATS server"))?;
        let info: Value = serde_json::from_str(info)?;
        if server.scheme() == "tls" || info.get("tls_required") == Some(&Value::Bool(true)) {
            let stream = connector.encrypt(host, connection.stream.into_inner()).await?;
            connection.stream = BufReader::new(stream);
        }
        connection.send(format!("CONNECT {credentials}\r\nPING\r\n").as_bytes()).await?;
        while !matches!(connection.hear().await?, Said::Pong) {}
        io::Result::Ok(connection)
    });
    let unreachable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::refused(Fault::authentication(error.to_string())),
        _ => Failure::not_sent(Fault::communication(format!("`{host}:{port}` cannot be reached: {error}"))),
    };
    let late = |_| Failure::not_sent(Fault::timeout(format!("no connection to `{host}:{port}` in time")));
    greeted.await.map_err(late)?.map_err(unreachable)
}

/// Writes what a server wants to know, with what the policy says: a user, or a token.
async fn credentials(scope: Scope<'_>, channel: &Channel) -> Result<Value, Failure> {
    let mut options =
        json!({ "verbose": false, "pedantic": false, "headers": true, "lang": "rust", "name": "sinew" });
    let Some(policy) = &channel.authentication else { return Ok(options) };
    if let Some(basic) = policy.get("basic") {
        let basic = authentication::policy_body(scope, basic).map_err(Failure::refused)?;
        options["user"] = basic.get("username").cloned().unwrap_or_default();
        options["pass"] = basic.get("password").cloned().unwrap_or_default();
        return Ok(options);
    }
    match authentication::resolve(scope, Some(policy)).await? {
        Some(authorization) if authorization.parameter().is_some() => {
            options["auth_token"] = authorization.parameter().into();
            Ok(options)
        }
        _ => Err(Failure::configuration(
            "`digest` cannot be used over NATS: use `basic` for a user, or `bearer` for a token",
        )),
    }
}

/// Writes a message, with the key under which a stream recognises a repetition.
fn write(scope: Scope<'_>, subject: &str, message: &Message) -> Result<Vec<u8>, Failure> {
    let mut head = VERSION.to_owned();
    let mut add = |name: &str, value: &str| {
        let unusable = |c: char| c == '\r' || c == '\n';
        if name.is_empty() || name.contains([':', ' ']) || name.contains(unusable) || value.contains(unusable)
        {
            return Err(Failure::configuration(format!("the header `{name}` cannot be sent over NATS")));
        }
        head.push_str(&format!("{name}: {value}\r\n"));
        Ok(())
    };
    for (name, value) in &message.headers {
        add(name, &scalar(value))?;
    }
    if !scope.key.is_empty() && !message.headers.contains_key(ID) {
        add(ID, scope.key)?;
    }
    if let Some(traceparent) = scope.traceparent {
        add("traceparent", traceparent)?;
    }
    head.push_str("\r\n");
    let payload = message.payload.to_string();
    let (length, total) = (head.len(), head.len() + payload.len());
    Ok(format!("HPUB {subject} {length} {total}\r\n{head}{payload}\r\n").into_bytes())
}

fn subject(channel: &Channel) -> Result<&str, Failure> {
    let subject = channel.address.as_str();
    if subject.is_empty() || subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::configuration(format!(
            "`{subject}` is not a subject of NATS: it may not have spaces"
        )));
    }
    Ok(subject)
}

fn lost(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::refused(Fault::authorization(error.to_string())),
        io::ErrorKind::FileTooLarge => Failure::refused(Fault::communication(error.to_string())),
        _ => Failure::unknown(Fault::communication(format!("the connection was lost: {error}"))),
    }
}

impl Connection {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        String::from_utf8(line).map(|line| line.trim_end().to_owned()).map_err(io::Error::other)
    }

    async fn hear(&mut self) -> io::Result<Said> {
        loop {
            let line = self.line().await?;
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default() {
                "PING" => self.send(b"PONG\r\n").await?,
                "PONG" => return Ok(Said::Pong),
                "-ERR" => return Err(refused(&line)),
                "MSG" => return self.message(0, length(words.next_back())?).await,
                "HMSG" => {
                    let total = length(words.next_back())?;
                    return self.message(length(words.next_back())?, total).await;
                }
                _ => {}
            }
        }
    }

    async fn message(&mut self, head: usize, total: usize) -> io::Result<Said> {
        if total > self.limit || head > total {
            let detail = format!("a message is longer than {} bytes: raise `max_body`", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, detail));
        }
        let mut bytes = vec![0; total + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(total);
        let payload = bytes.split_off(head);
        let headers = String::from_utf8_lossy(&bytes);
        let headers = headers.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), Value::String(value.trim().to_owned())));
        Ok(Said::Message { headers: headers.collect(), payload })
    }
}

fn length(word: Option<&str>) -> io::Result<usize> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("it does not speak NATS"))
}

fn refused(line: &str) -> io::Error {
    let said = line.trim_start_matches("-ERR").trim().trim_matches('\'');
    let kind = match said.to_ascii_lowercase() {
        said if said.contains("authorization") || said.contains("permissions") => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, said.to_owned())
}
