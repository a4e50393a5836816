//! Events from outside: read from a file, or from standard input as they come.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::Value;
use sinew_orchestrator::local::Local;
use tokio::sync::mpsc;

use crate::error::{Error, Kind, code};

/// Lines that are read ahead.
const AHEAD: usize = 16;

/// Hands every event over and returns when there are no more.
pub(super) async fn feed(local: &Local, from: Option<&Path>) -> Result<(), Error> {
    let Some(path) = from else { return Ok(()) };
    if path != Path::new("-") {
        let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
        for event in events(&text, &path.display().to_string())? {
            local.publish(event).await;
        }
        return Ok(());
    }
    let mut lines = standard_input();
    let mut number = 0;
    while let Some(line) = lines.recv().await {
        number += 1;
        for event in events(&line, &format!("standard input, line {number}"))? {
            local.publish(event).await;
        }
    }
    Ok(())
}

/// Reads one JSON array, or one JSON value a line.
fn events(text: &str, name: &str) -> Result<Vec<Value>, Error> {
    if let Ok(Value::Array(events)) = serde_json::from_str(text) {
        return events.into_iter().map(|event| checked(event, name)).collect();
    }
    let one = |(number, line): (usize, &str)| {
        let event = serde_json::from_str(line);
        let event = event.map_err(|error| refused(&format!("{name}:{}: {error}", number + 1)))?;
        checked(event, name)
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(one).collect()
}

fn checked(event: Value, name: &str) -> Result<Value, Error> {
    if event.get("type").is_some_and(Value::is_string) {
        return Ok(event);
    }
    Err(refused(&format!("{name}: an event has no `type`")))
}

fn refused(message: &str) -> Error {
    Error::new(Kind::Document, code::JSON, message)
        .hint("write CloudEvents: {\"type\": …, \"source\": …, \"data\": …}")
}

/// Reads lines in a thread of its own. Nothing can wake a thread that waits for standard input, so the process ends
/// without it.
pub(super) fn standard_input() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for line in BufReader::new(std::io::stdin()).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_an_array_or_lines() {
        let array = r#"[{"type": "a"}, {"type": "b"}]"#;
        let lines = "{\"type\": \"a\"}\n\n{\"type\": \"b\"}\n";
        assert_eq!(events(array, "e").unwrap(), events(lines, "e").unwrap());
        let error = events("{\"type\": \"a\"}\n{", "e.jsonl").unwrap_err().to_string();
        assert!(error.starts_with("e.jsonl:2: "), "{error}");
        assert!(events(r#"{"kind": "a"}"#, "e").is_err());
    }
}
