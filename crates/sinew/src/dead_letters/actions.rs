//! What can be done with one dead letter. Each action is stored, then told, and only then the letter is removed: a crash
//! in between leaves a letter too many, never one too few.

use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use sinew_wire::{ContentType, header};

use super::{By, Change, DeadLetters, Dropped, Edited, Letter, Payload, Retried, field};
use crate::{
    Error, Kind, Redelivery,
    bus::Stored,
    group::inlet::{self, Origin},
    streams::{DEAD_LETTERS, REDELIVERIES},
};

const STORE_TIMEOUT: Duration = Duration::from_secs(10);

impl DeadLetters {
    /// Gives a letter to its group again, with a fresh budget of attempts; `false` where there is no such letter.
    ///
    /// No other group sees it. Two retries of one letter, less than two minutes apart, are one.
    ///
    /// # Errors
    /// [`Kind::Config`] when the group does not stand or the event is gone, [`Kind::TooLarge`] when the event is so near
    /// to the server's limit that it cannot be copied: publish it again under a new id.
    pub async fn retry(&self, sequence: u64, by: &By) -> Result<bool, Error> {
        let Some(letter) = self.get(sequence).await? else { return Ok(false) };
        self.expect_group(&letter).await?;
        let payload = letter.take_payload()?;
        let mut headers = letter.headers.clone();
        let origin = Origin { sequence: letter.origin, attempts: 0, why: Some(Redelivery::Redrive) };
        origin.write(&mut headers, &format!("evt.{}", letter.event))?;
        headers.set(header::MESSAGE_ID, format!("redrive/{sequence}"))?;
        let inlet = inlet::subject(&letter.service, &letter.group);
        self.bus().publish_acked(&inlet, &headers, payload, STORE_TIMEOUT).await?;
        self.tell(sequence, Retried { change: Change::new(&letter, by) }).await?;
        self.remove(&letter).await
    }

    /// Replaces the payload of a letter, and returns the sequence of the letter that takes its place; `None` where there
    /// is no such letter. The first version is kept.
    ///
    /// # Errors
    /// [`Kind::Codec`] when `payload` is not of the type `to`: nothing is changed then.
    pub async fn edit(
        &self,
        sequence: u64,
        to: ContentType,
        payload: impl Into<Bytes>,
        by: &By,
    ) -> Result<Option<u64>, Error> {
        let payload = payload.into();
        sinew_wire::decode::<IgnoredAny>(to, &payload)?;
        let Some(stored) = self.bus().message_at(DEAD_LETTERS, sequence).await? else { return Ok(None) };
        let stored = stored.message;
        let Some(letter) = Letter::read(&stored) else { return Ok(None) };
        let original = match letter.original {
            Some(kept) => kept,
            None => self.keep_original(&letter, &stored).await?,
        };
        let mut headers = stored.headers.clone();
        headers.remove(field::PAYLOAD);
        headers.set(header::CONTENT_TYPE, to.as_str())?;
        headers.set(header::DATA_TYPE, to.as_str())?;
        headers.set(field::ORIGINAL, original.to_string())?;
        let digest: String =
            Sha256::digest(&payload).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        headers.set(header::MESSAGE_ID, format!("edit/{sequence}/{digest}"))?;
        let edited = self.bus().publish_acked(&stored.subject, &headers, payload, STORE_TIMEOUT).await?;
        let change = Change::new(&letter, by);
        self.tell(sequence, Edited { change, replacement: edited.sequence, original }).await?;
        self.remove(&letter).await?;
        Ok(Some(edited.sequence))
    }

    /// Gives a letter up for good; `false` where there is no such letter.
    ///
    /// # Errors
    /// What the bus reports; the letter then still stands.
    pub async fn drop(&self, sequence: u64, by: &By) -> Result<bool, Error> {
        let stored = self.bus().message_at(DEAD_LETTERS, sequence).await?;
        let Some(letter) = stored.and_then(|dated| Letter::read(&dated.message)) else { return Ok(false) };
        self.tell(sequence, Dropped { change: Change::new(&letter, by) }).await?;
        self.remove(&letter).await
    }

    async fn keep_original(&self, letter: &Letter, stored: &Stored) -> Result<u64, Error> {
        let mut headers = stored.headers.clone();
        headers.set(header::MESSAGE_ID, format!("original/{}", letter.sequence))?;
        let subject = format!("dlq-original.{}.{}", letter.service, letter.group);
        let kept =
            self.bus().publish_acked(&subject, &headers, stored.payload.clone(), STORE_TIMEOUT).await?;
        Ok(kept.sequence)
    }

    /// A group that never ran with an inlet would not notice what is put there.
    async fn expect_group(&self, letter: &Letter) -> Result<(), Error> {
        let Letter { service, group, .. } = letter;
        let standing = self.bus().consumer_state(REDELIVERIES, &format!("{service}+{group}")).await?;
        standing.map(|_| ()).ok_or_else(|| {
            let reason =
                format!("group {group} of service {service} does not stand: start the service first");
            Error::new(Kind::Config, reason)
        })
    }

    async fn remove(&self, letter: &Letter) -> Result<bool, Error> {
        if letter.stream == REDELIVERIES {
            // The server gave it up there, and nobody but us would ever take it away.
            self.bus().delete_message(REDELIVERIES, letter.origin).await?;
        }
        self.bus().delete_message(DEAD_LETTERS, letter.sequence).await
    }
}

impl Letter {
    fn take_payload(&self) -> Result<Bytes, Error> {
        match &self.payload {
            Payload::Here(payload) => Ok(payload.clone()),
            Payload::Left | Payload::Gone => Err(Error::new(
                Kind::Config,
                format!(
                    "the payload of letter {} is not in {} any more: edit or drop it",
                    self.sequence, self.stream
                ),
            )),
        }
    }
}
