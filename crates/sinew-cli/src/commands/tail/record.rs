//! One message as it is shown: on one line for people, as one object for programs.

use serde::Serialize;
use serde_json::{Map, Value};
use sinew::wire::{CloudEvent, Headers};

use super::View;
use crate::{
    output::{Output, Style},
    schemas::{Decoded, Verdict, escaped},
};

/// Bytes of an undecodable payload that a line shows.
const SHOWN: usize = 200;

/// One message.
#[derive(Serialize)]
pub(super) struct Record {
    /// When it happened, where it says so, else when it was seen here.
    time: String,
    pub(super) subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(flatten)]
    decoded: Decoded,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Map<String, Value>>,
}

impl View {
    /// Reads a message; `None` for one the filters leave out.
    pub(super) fn record(
        &self,
        subject: &str,
        sequence: Option<u64>,
        headers: Headers,
        payload: &[u8],
    ) -> Option<Record> {
        // A dead letter is judged as the event it was.
        let about = headers.get("Sinew-Dead-Subject").unwrap_or(subject);
        let decoded = self.schemas.decode(about, &headers, payload);
        let data = decoded.data.as_ref().unwrap_or(&Value::Null);
        let header = |name: &str| headers.get(name).map(str::to_owned);
        if !self.filters.iter().all(|filter| filter.takes(data, subject, header)) {
            return None;
        }
        let event = CloudEvent::read(&headers);
        let time = event.as_ref().and_then(|event| event.time.clone());
        let raw = self.raw || decoded.verdict == Verdict::Undecodable;
        Some(Record {
            time: time.unwrap_or_else(|| sinew::Timestamp::now().to_string()),
            subject: subject.to_owned(),
            sequence,
            id: event.as_ref().map(|event| event.id.clone()),
            kind: event.map(|event| event.kind),
            decoded,
            raw: raw.then(|| escaped(payload)),
            headers: self.headers.then(|| map(&headers)),
        })
    }

    /// Writes a message down the way it was asked for.
    pub(super) fn line(&self, record: &Record, output: &Output) -> String {
        if self.json { serde_json::to_string(record).unwrap_or_default() } else { record.text(output) }
    }
}

impl Record {
    /// Writes the message for people.
    pub(super) fn text(&self, output: &Output) -> String {
        let name = self.kind.as_deref().unwrap_or(&self.subject);
        let sequence = self.sequence.map(|sequence| format!(" #{sequence}")).unwrap_or_default();
        let mut line = format!(
            "{}  {}{}  {}",
            output.paint(Style::Quiet, clock(&self.time)),
            output.paint(Style::Strong, name),
            output.paint(Style::Quiet, &sequence),
            self.body()
        );
        if let Some(mark) = self.mark() {
            line.push_str(&output.paint(Style::Doubtful, &format!("  ({mark})")));
        }
        for (name, value) in self.headers.iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            line.push_str(&output.paint(Style::Quiet, &format!("\n    {name}: {value}")));
        }
        line
    }

    fn body(&self) -> String {
        match (&self.raw, &self.decoded.data) {
            (Some(raw), _) => raw.chars().take(SHOWN).chain((raw.len() > SHOWN).then_some('…')).collect(),
            (None, Some(data)) => data.to_string(),
            (None, None) => "(empty)".to_owned(),
        }
    }

    fn mark(&self) -> Option<String> {
        let reason = self.decoded.reason.as_deref().unwrap_or_default();
        match self.decoded.verdict {
            Verdict::Known => None,
            Verdict::Unknown => Some("in no contract".to_owned()),
            Verdict::Unfit => Some(format!("does not fit its contract: {reason}")),
            Verdict::Undecodable => Some(format!("undecodable: {reason}")),
        }
    }
}

fn map(headers: &Headers) -> Map<String, Value> {
    headers.iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// The time of day is what changes from line to line.
fn clock(time: &str) -> &str {
    time.split_once('T').map_or(time, |(_, clock)| clock.get(..12).unwrap_or(clock).trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn a_line_begins_with_the_time_of_day() {
        assert_eq!(clock("2030-01-31T12:00:01.123456Z"), "12:00:01.123");
        assert_eq!(clock("2030-01-31T12:00:01Z"), "12:00:01");
        assert_eq!(clock("yesterday"), "yesterday");
    }
}
