//! Who answers just now: NATS service discovery (ADR-32), which services in every language speak. Knows no contracts.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use sinew::{
    Bus, Error,
    wire::{Headers, Subject},
};

use crate::operation::OperationName;

/// How long everybody may take to answer. Nobody knows how many there are, so all of it is always waited for.
const ROLL_CALL: Duration = Duration::from_millis(500);
/// How long one service may take.
const ANSWER: Duration = Duration::from_secs(1);

/// What one instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// Some clients write `null` for none.
    #[serde(default, deserialize_with = "or_none")]
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One thing an instance serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) subject: String,
}

/// Asks every instance of every service; what is no answer to that question is passed over.
pub(crate) async fn everybody(bus: &Bus) -> Result<Vec<Info>, Error> {
    Ok(gather(bus, "INFO").await?.iter().filter_map(|answer| read(answer)).collect())
}

/// Puts one question, `PING`, `INFO` or `STATS`, to every instance of every service.
pub(crate) async fn gather(bus: &Bus, question: &str) -> Result<Vec<Bytes>, Error> {
    let subject = format!("$SRV.{question}");
    let answers = bus.gather(&subject, &Headers::new(), Bytes::new(), ROLL_CALL).await?;
    Ok(answers.iter().map(|answer| answer.payload().clone()).collect())
}

/// Asks the service itself where it serves an operation; `None` when it is not there or does not serve it.
pub(crate) async fn find(bus: &Bus, wanted: &OperationName) -> Option<Subject> {
    let subject = format!("$SRV.INFO.{}", wanted.service);
    let answer = bus.request(&subject, &Headers::new(), Bytes::new(), ANSWER).await.ok()?;
    subject_in(&read(answer.payload())?, &wanted.operation)
}

/// Reads a list for which some clients write `null` when it is empty.
pub(crate) fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(list)?.unwrap_or_default())
}

fn read(answer: &[u8]) -> Option<Info> {
    serde_json::from_slice(answer).ok()
}

/// An endpoint that listens on a wildcard leaves open what to send to, so it cannot be called by name.
fn subject_in(info: &Info, operation: &str) -> Option<Subject> {
    let endpoint = info.endpoints.iter().find(|endpoint| endpoint.name == operation)?;
    Subject::parse(endpoint.subject.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(subject: &str) -> Info {
        let text = format!(
            r#"{{ "type": "io.nats.micro.v1.info_response", "name": "tally", "id": "x", "version": "0.1.0",
                  "metadata": null, "endpoints": [{{ "name": "add", "subject": "{subject}" }}] }}"#
        );
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_operation_is_where_its_service_says() {
        let subject = |info: &Info, operation| subject_in(info, operation).map(|found| found.to_string());
        assert_eq!(subject(&info("math.add"), "add").as_deref(), Some("math.add"));
        assert_eq!(subject(&info("math.add"), "subtract"), None);
        for wide in ["math.*", "math.>", "math add", ""] {
            assert_eq!(subject(&info(wide), "add"), None, "{wide}");
        }
    }

    #[test]
    fn a_service_may_say_little_of_itself() {
        let info = read(br#"{ "name": "idle", "version": "0.1.0", "endpoints": null }"#).unwrap();
        assert_eq!((info.endpoints, info.description), (Vec::new(), None));
    }

    #[test]
    fn other_answers_are_passed_over() {
        assert_eq!(read(b"hello"), None);
        assert_eq!(read(br#"{"error":{"code":500}}"#), None);
    }
}
