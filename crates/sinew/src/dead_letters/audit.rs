//! What is told of every change to a dead letter: who, why, and which.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew_macros::Event;
use sinew_wire::Event;

use super::{By, DeadLetters, Letter};
use crate::Error;

/// A dead letter was given to its group again.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "sinew.dead-letter-retried")]
pub struct Retried {
    /// Which letter, and who did it.
    #[serde(flatten)]
    pub change: Change,
}

/// The payload of a dead letter was replaced.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "sinew.dead-letter-edited")]
pub struct Edited {
    /// Which letter, and who did it.
    #[serde(flatten)]
    pub change: Change,
    /// Sequence of the letter that took its place.
    pub replacement: u64,
    /// Sequence under which the first version is kept.
    pub original: u64,
}

/// A dead letter was given up for good.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "sinew.dead-letter-dropped")]
pub struct Dropped {
    /// Which letter, and who did it.
    #[serde(flatten)]
    pub change: Change,
}

/// What all changes have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The letter's sequence.
    pub sequence: u64,
    /// The service whose group had given up.
    pub service: String,
    /// The group.
    pub group: String,
    /// The kind of event.
    pub event: String,
    /// The event's logical id.
    #[serde(default)]
    pub id: Option<String>,
    /// The problem it died of.
    pub code: String,
    /// Who acted.
    pub who: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

impl Change {
    pub(super) fn new(letter: &Letter, by: &By) -> Self {
        Self {
            sequence: letter.sequence,
            service: letter.service.clone(),
            group: letter.group.clone(),
            event: letter.event.clone(),
            id: letter.id.clone(),
            code: letter.code.clone(),
            who: by.who.clone(),
            why: by.why.clone(),
        }
    }
}

impl DeadLetters {
    /// Tells of a change. Repeating the change after a crash tells it once.
    pub(super) async fn tell<E: Event>(&self, sequence: u64, told: E) -> Result<(), Error> {
        self.ctx.publish(told).id(format!("dead-letter-{sequence}")).await.map(|_| ())
    }
}
