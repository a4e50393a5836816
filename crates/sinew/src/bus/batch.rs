//! Reading a stream in batches. Source: NATS ADR-31, direct get with `batch`.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sinew_wire::Headers;

use super::{Bus, Message, Stored, Subscription};
use crate::{Error, Kind};

/// Messages asked for at once.
const BATCH: usize = 512;
/// Longest wait for the next message of a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what a stream holds on one subject, oldest first.
pub struct Reader {
    bus: Bus,
    stream: String,
    subject: String,
    next: u64,
    inbox: String,
    replies: Subscription,
    /// Whether answers to an earlier request may still be on their way.
    stale: bool,
    /// Messages asked for at once.
    size: usize,
}

impl Bus {
    /// Opens a reader of `subject` (wildcards allowed) in `stream`, starting at sequence `from`.
    ///
    /// Reads may be served by a replica that lags: whoever needs the newest message compares with
    /// [`Bus::last_message`].
    ///
    /// # Errors
    /// [`Kind::Disconnected`] when the connection is down.
    pub async fn read_stream(&self, stream: &str, subject: &str, from: u64) -> Result<Reader, Error> {
        let inbox = self.new_inbox();
        let replies = self.subscribe(&inbox, None).await?;
        let (stream, subject) = (stream.to_owned(), subject.to_owned());
        let (bus, next) = (self.clone(), from.max(1));
        Ok(Reader { bus, stream, subject, next, inbox, replies, stale: false, size: BATCH })
    }

    /// Reads the one message of `stream` with this sequence, from whichever replica answers: one that lags answers `None`
    /// for the newest, where [`Bus::message_at`] asks the leader.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when nobody answers in time, [`Kind::NoResponders`] when there is no such stream.
    pub async fn stored_at(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, Error> {
        let body = Bytes::from(json!({ "seq": sequence }).to_string());
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let message = self.request(&subject, &Headers::new(), body, PATIENCE).await?;
        match message.status() {
            None => stored(&message).map(Some),
            Some(404) => Ok(None),
            Some(code) => Err(refused(code)),
        }
    }
}

impl Reader {
    /// Asks for at most so many messages at once.
    pub(super) fn batches_of(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Goes on at this sequence.
    pub(super) fn go_to(&mut self, sequence: u64) {
        self.next = sequence;
    }

    /// Returns the next batch; empty when the end was reached for now. A batch is whole or an error.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when the server stops answering or a part was lost on the way; asking again goes on where
    /// the last batch ended.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call reads the same batch again.
    pub async fn batch(&mut self) -> Result<Vec<Stored>, Error> {
        if self.stale {
            self.inbox = self.bus.new_inbox();
            self.replies = self.bus.subscribe(&self.inbox, None).await?;
        }
        self.stale = true;
        self.ask().await?;
        let batch = self.collect().await?;
        self.stale = false;
        if let Some(last) = batch.last() {
            self.next = last.sequence + 1;
        }
        Ok(batch)
    }

    async fn ask(&self) -> Result<(), Error> {
        let body = json!({ "seq": self.next, "batch": self.size, "next_by_subj": self.subject });
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let body = Bytes::from(body.to_string());
        self.bus.post(&subject, Some(&self.inbox), &Headers::new(), &body).await
    }

    async fn collect(&mut self) -> Result<Vec<Stored>, Error> {
        let mut batch: Vec<Stored> = Vec::new();
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.replies.next()).await;
            let message = answer.map_err(|_| Error::timed_out("reading the stream", PATIENCE))?;
            let message = message.ok_or_else(Error::closed)?;
            // Each part names the one before it: what a broken connection swallowed does not go unnoticed.
            let previous = batch.last().map_or(0, |stored| stored.sequence);
            match message.status() {
                None if before(&message) == Some(previous) => batch.push(stored(&message)?),
                Some(204) if before(&message) == Some(previous) => return Ok(batch),
                None | Some(204) => return Err(Error::timed_out("a part of the stream", PATIENCE)),
                // There is nothing (more) on the subject.
                Some(404) => return Ok(batch),
                Some(503) => {
                    return Err(Error::new(Kind::NoResponders, format!("no stream {}", self.stream)));
                }
                Some(code) => return Err(refused(code)),
            }
        }
    }
}

fn refused(code: u16) -> Error {
    Error::new(Kind::JetStream, format!("reading failed with {code}"))
}

/// Returns the sequence of the part sent before this one.
fn before(message: &Message) -> Option<u64> {
    message.header("Nats-Last-Sequence")?.parse().ok()
}

fn stored(message: &Message) -> Result<Stored, Error> {
    let unreadable = || Error::new(Kind::JetStream, "the stream sent a message without its sequence");
    let sequence =
        message.header("Nats-Sequence").and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let subject = message.header("Nats-Subject").ok_or_else(unreadable)?.to_owned();
    Ok(Stored { subject, sequence, headers: message.headers(), payload: message.payload().clone() })
}
