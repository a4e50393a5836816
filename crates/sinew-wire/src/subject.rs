//! Subjects: where a message goes. Knows the layout of the namespace, not how to send.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{OperationName, ServiceName};

/// A subject a message can be published to: dot-separated tokens, no wildcards, no white space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

/// Says why a text is not a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a subject: use dot-separated tokens without spaces or wildcards, at most 255 characters"
)]
pub struct InvalidSubject(String);

impl Subject {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`InvalidSubject`] for an empty token, white space, control characters, `*`, `>` or more than 255 bytes.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidSubject> {
        let text = text.into();
        let token = |token: &str| {
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>'))
        };
        if text.len() <= 255 && text.split('.').all(token) {
            Ok(Self(text))
        } else {
            Err(InvalidSubject(text.chars().take(80).collect()))
        }
    }

    /// Returns `svc.<service>.<operation>`, where requests go.
    pub fn operation(service: &ServiceName, operation: &OperationName) -> Self {
        Self(format!("svc.{service}.{operation}"))
    }

    /// Returns `dlq.<service>.<group>`, where a consumer group's dead letters go.
    pub fn dead_letter(service: &ServiceName, group: &OperationName) -> Self {
        Self(format!("dlq.{service}.{group}"))
    }

    /// Returns `evt.<name>`, where events named `<domain>.<event>` go.
    ///
    /// # Errors
    /// [`InvalidSubject`] when the name is no subject.
    pub fn event(name: &str) -> Result<Self, InvalidSubject> {
        Self::parse(format!("evt.{name}"))
    }

    /// Returns the subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = InvalidSubject;

    fn try_from(text: String) -> Result<Self, InvalidSubject> {
        Self::parse(text)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_wildcards_spaces_and_empty_tokens() {
        for bad in ["", ".", "a..b", "a.*", "a.>", "a b", "a.\r\nPUB x", &"a".repeat(256)] {
            assert!(Subject::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn events_live_under_evt() {
        assert_eq!(Subject::event("orders.placed").unwrap().as_str(), "evt.orders.placed");
        assert!(Subject::event("orders.>").is_err());
    }
}
