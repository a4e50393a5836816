//! The access log: a request hands its line over and goes on; one task writes. Lines that find no room are counted.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::header;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Done, Upstream};
use crate::{
    config::{AccessLog, LogField, LogFormat, LogOnly},
    policy::Proxies,
};

/// Lines that wait to be written.
const LINES: usize = 16_384;
/// How long lines gather: writing each by itself would wake the writer at every request.
const GATHER: Duration = Duration::from_millis(20);
/// Room for most lines.
const LINE: usize = 320;

/// The way to the writer.
#[derive(Debug)]
pub(crate) struct Log {
    settings: AccessLog,
    fields: Vec<LogField>,
    /// Whether a line tells how long operations took.
    tells_upstream: bool,
    lines: mpsc::Sender<String>,
    lost: AtomicU64,
}

/// Where lines go.
#[derive(Clone)]
enum Sink {
    Output,
    Error,
    File(Arc<File>),
}

/// A value of a field.
enum Value<'v> {
    Text(&'v str),
    Number(u64),
    Millis(Duration),
    None,
}

/// Opens the log; what is returned beside it writes until it is told to stop.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn open(
    settings: &AccessLog,
    stop: CancellationToken,
) -> io::Result<(Log, impl Future<Output = ()> + Send + use<>)> {
    let sink = Sink::open(&settings.to)?;
    let (lines, written) = mpsc::channel(LINES);
    let fields = match settings.fields.is_empty() {
        true => LogField::ALL.to_vec(),
        false => settings.fields.clone(),
    };
    let tells_upstream = settings.format != LogFormat::Combined && fields.contains(&LogField::UpstreamMs);
    let (settings, lost) = (settings.clone(), AtomicU64::new(0));
    let writer = write(sink, settings.to.clone(), written, stop);
    Ok((Log { settings, fields, tells_upstream, lines, lost }, writer))
}

impl Log {
    /// Says whether a request is written.
    pub(super) fn wants(&self, status: u16, took: Duration) -> bool {
        let slow = || self.settings.slow_ms.is_some_and(|limit| took >= Duration::from_millis(limit));
        let sampled =
            || self.settings.sample_percent == 100 || fastrand::u8(..100) < self.settings.sample_percent;
        status >= 400 || slow() || (self.settings.only == LogOnly::All && sampled())
    }

    /// Hands a line over; never waits.
    pub(super) fn write(
        &self,
        done: &Done<'_>,
        took: Duration,
        code: Option<&str>,
        bytes: Option<u64>,
        proxies: &Proxies,
    ) {
        let mut line = String::with_capacity(LINE);
        match self.settings.format {
            LogFormat::Combined => combined(&mut line, done, bytes, self.path(done), proxies),
            LogFormat::Json => {
                line.push('{');
                self.each(done, took, code, bytes, proxies, |name, value| {
                    let comma = if line.len() > 1 { "," } else { "" };
                    // Writing to a string does not fail.
                    let _ = write!(line, "{comma}\"{name}\":");
                    value.json(&mut line);
                });
                line.push('}');
            }
            LogFormat::Logfmt => self.each(done, took, code, bytes, proxies, |name, value| {
                let blank = if line.is_empty() { "" } else { " " };
                let _ = write!(line, "{blank}{name}=");
                value.logfmt(&mut line);
            }),
        }
        line.push('\n');
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Says whether lines tell how long operations took.
    pub(super) fn tells_upstream(&self) -> bool {
        self.tells_upstream
    }

    /// Returns how many lines found no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    fn path<'d>(&self, done: &Done<'d>) -> Option<&'d str> {
        let uri = &done.head?.uri;
        let whole = uri.path_and_query().filter(|_| self.settings.query);
        Some(whole.map_or_else(|| uri.path(), http::uri::PathAndQuery::as_str))
    }

    /// Gives every field that there is something to say of.
    fn each(
        &self,
        done: &Done<'_>,
        took: Duration,
        code: Option<&str>,
        bytes: Option<u64>,
        proxies: &Proxies,
        mut give: impl FnMut(&'static str, Value<'_>),
    ) {
        for field in &self.fields {
            let text;
            let value = match field {
                LogField::Time => {
                    text = jiff::Timestamp::now().to_string();
                    Value::Text(&text)
                }
                LogField::Trace => {
                    text = done.trace.trace.to_string();
                    Value::Text(&text)
                }
                LogField::Client => {
                    text = client(done, proxies).to_string();
                    Value::Text(&text)
                }
                LogField::Method => done.head.map_or(Value::None, |head| Value::Text(head.method.as_str())),
                LogField::Path => self.path(done).map_or(Value::None, Value::Text),
                LogField::Route => Value::Text(done.route),
                LogField::Status => Value::Number(done.response.status().as_u16().into()),
                LogField::Code => code.map_or(Value::None, Value::Text),
                LogField::Bytes => bytes.map_or(Value::None, Value::Number),
                LogField::DurationMs if done.head.is_none() => Value::None,
                LogField::DurationMs => Value::Millis(took),
                LogField::UpstreamMs => {
                    let upstream = done.head.and_then(|head| head.extensions.get::<Upstream>()?.time());
                    upstream.map_or(Value::None, Value::Millis)
                }
                LogField::UserAgent => agent(done).map_or(Value::None, Value::Text),
            };
            if !matches!(value, Value::None) {
                give(field.as_str(), value);
            }
        }
    }
}

impl Value<'_> {
    fn json(&self, line: &mut String) {
        let _ = match self {
            Self::Text(text) => quote(line, text),
            Self::Number(number) => write!(line, "{number}"),
            Self::Millis(took) => write!(line, "{:.3}", took.as_secs_f64() * 1e3),
            Self::None => write!(line, "null"),
        };
    }

    fn logfmt(&self, line: &mut String) {
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
        };
        match self {
            Self::Text(text) if plain(text) => line.push_str(text),
            other => other.json(line),
        }
    }
}

impl Sink {
    fn open(to: &str) -> io::Result<Self> {
        Ok(match to {
            "stdout" => Self::Output,
            "stderr" => Self::Error,
            path => Self::File(OpenOptions::new().create(true).append(true).open(path)?.into()),
        })
    }

    /// Writes where waiting for a disk holds up no request.
    async fn put(&self, text: String) -> io::Result<()> {
        let sink = self.clone();
        let write = move || match sink {
            Self::Output => io::stdout().write_all(text.as_bytes()),
            Self::Error => io::stderr().write_all(text.as_bytes()),
            Self::File(file) => (&*file).write_all(text.as_bytes()),
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

/// Writes what comes, and what is left at the end.
async fn write(mut sink: Sink, to: String, mut lines: mpsc::Receiver<String>, stop: CancellationToken) {
    let mut rotated = rotations();
    let mut batch = Vec::new();
    loop {
        let again = tokio::select! {
            count = lines.recv_many(&mut batch, LINES) => {
                if count == 0 {
                    return;
                }
                false
            }
            () = stop.cancelled(), if !lines.is_closed() => {
                lines.close();
                false
            }
            () = rotation(&mut rotated) => true,
        };
        if again {
            reopen(&mut sink, &to);
            continue;
        }
        let text: String = batch.drain(..).collect();
        if let Err(error) = sink.put(text).await {
            tracing::warn!(%error, to, "the access log cannot be written: is there room on the disk?");
        }
        let _ = tokio::time::timeout(GATHER, stop.cancelled()).await;
    }
}

/// Opens a file again, which somebody has moved away; the old one is written on where that fails.
fn reopen(sink: &mut Sink, to: &str) {
    if let Sink::File(_) = sink {
        match Sink::open(to) {
            Ok(new) => *sink = new,
            Err(error) => tracing::warn!(%error, to, "the access log cannot be opened again"),
        }
    }
}

#[cfg(unix)]
fn rotations() -> Option<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok()
}

#[cfg(unix)]
async fn rotation(signals: &mut Option<tokio::signal::unix::Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
fn rotations() {}

#[cfg(not(unix))]
async fn rotation((): &mut ()) {
    std::future::pending().await
}

fn agent<'d>(done: &Done<'d>) -> Option<&'d str> {
    done.head?.headers.get(header::USER_AGENT)?.to_str().ok()
}

fn client(done: &Done<'_>, proxies: &Proxies) -> IpAddr {
    match done.head {
        Some(head) => proxies.client(done.peer, &head.headers).address(),
        None => done.peer.ip().to_canonical(),
    }
}

/// As Apache and nginx write it; the trace stands where a user would.
fn combined(line: &mut String, done: &Done<'_>, bytes: Option<u64>, path: Option<&str>, proxies: &Proxies) {
    let client = client(done, proxies);
    let time = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
    let _ = write!(line, "{client} - - [{time}] ");
    let _ = match (done.head, path) {
        (Some(head), Some(path)) => quote(line, &format!("{} {path} {:?}", head.method, head.version)),
        _ => quote(line, "-"),
    };
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let _ = write!(line, " {} {bytes} ", done.response.status().as_u16());
    let referer = done
        .head
        .and_then(|head| head.headers.get(header::REFERER))
        .and_then(|referer| referer.to_str().ok());
    // Where somebody came from may have a query, too.
    let referer = referer.map(|referer| referer.split('?').next().unwrap_or_default());
    let _ = quote(line, referer.unwrap_or("-"));
    line.push(' ');
    let _ = quote(line, agent(done).unwrap_or("-"));
}

/// Writes a text in quotes, so that nobody's text begins a line of its own.
fn quote(line: &mut String, text: &str) -> std::fmt::Result {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                line.push('\\');
                line.push(character);
            }
            control if control.is_control() => write!(line, "\\u{:04x}", control as u32)?,
            plain => line.push(plain),
        }
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quoted_text_is_json_on_one_line(text in any::<String>()) {
            let mut line = String::new();
            quote(&mut line, &text).unwrap();
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn errors_and_slow_requests_are_written_however_few_others_are() {
        let settings = AccessLog { sample_percent: 0, slow_ms: Some(5), ..AccessLog::default() };
        let (log, _writer) = open(&settings, CancellationToken::new()).unwrap();
        let wants = |status, ms| log.wants(status, Duration::from_millis(ms));
        assert!(wants(404, 0) && wants(200, 5) && !wants(200, 4));
    }
}
