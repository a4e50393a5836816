//! Asking a program what it serves: it is run with a variable that makes its `Service::run` describe and return.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use sinew::wire::ServiceDescriptor;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::{
    error::{Error, code},
    quantity,
};

/// How long a program that has described one service may take to describe further ones, or to end.
const GRACE: Duration = Duration::from_secs(3);

/// Runs a program to its end, or `limit`, and returns what it described.
pub(super) async fn ask(
    program: &str,
    arguments: &[String],
    limit: Duration,
) -> Result<Vec<ServiceDescriptor>, Error> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("SINEW_DESCRIBE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Error::failed(code::DESCRIPTION, format!("cannot run {program}: {error}"))
                .hint("write the program and its arguments behind `--`, as in `-- cargo run -p orders`")
        })?;
    let mut found = Vec::new();
    let ended = match child.stdout.take() {
        Some(stdout) => listen(stdout, &mut child, limit, &mut found).await,
        None => None,
    };
    if found.is_empty() { Err(nothing(program, ended, limit)) } else { Ok(found) }
}

/// Collects descriptions until the program ends, and returns how it did; `None` when it had to be stopped.
async fn listen(
    stdout: ChildStdout,
    child: &mut Child,
    limit: Duration,
    found: &mut Vec<ServiceDescriptor>,
) -> Option<std::process::ExitStatus> {
    let mut lines = BufReader::new(stdout).split(b'\n');
    let mut end = tokio::time::Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(end, lines.next_segment()).await {
            Ok(Ok(Some(line))) => {
                if let Some(descriptor) = read(&line) {
                    found.push(descriptor);
                    end = end.min(tokio::time::Instant::now() + GRACE);
                }
            }
            Ok(_) => break,
            Err(_) => {
                let _ = child.kill().await;
                return None;
            }
        }
    }
    // It may have closed its output and live on.
    match tokio::time::timeout_at(end, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            let _ = child.kill().await;
            None
        }
    }
}

/// A program may print other things, JSON among them: a description has lists of operations and of groups.
fn read(line: &[u8]) -> Option<ServiceDescriptor> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let listed = |member: &str| value.get(member).is_some_and(Value::is_array);
    if !listed("operations") || !listed("groups") {
        return None;
    }
    serde_json::from_value(value).ok()
}

fn nothing(program: &str, ended: Option<std::process::ExitStatus>, limit: Duration) -> Error {
    let (message, hint) = match ended {
        None => (
            format!("{program} described no service within {} and was stopped", quantity::duration(limit)),
            "only `Service::run` hears the question: a program that connects by itself prints `Service::describe`, \
             to be read with --file; a slow build needs a longer --timeout",
        ),
        Some(status) if !status.success() => (
            format!("{program} failed before it described a service: {status}"),
            "what it says stands above; does it need arguments or variables? write arguments behind `--`",
        ),
        Some(_) => (
            format!("{program} ended without describing a service: it calls no `Service::run`"),
            "name the program that does; one that starts its services itself prints `Service::describe`, to be read \
             with --file",
        ),
    };
    Error::failed(code::DESCRIPTION, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn other_lines_are_passed_over() {
        let line = br#"{"name":"a","version":"1.0.0","operations":[],"groups":[]}"#;
        assert_eq!(read(line).map(|found| found.name).as_deref(), Some("a"));
        for other in [&b"Compiling a v1.0.0"[..], br#"{"name":"a","version":"1.0.0"}"#, b"\xff", b""] {
            assert!(read(other).is_none());
        }
    }
}
