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
        Ok(Reader { bus: self.clone(), stream, subject, next: from.max(1), inbox, replies })
    }
}

impl Reader {
    /// Returns the next batch; empty when the end was reached for now.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when the server stops answering; asking again goes on where the last batch ended.
    pub async fn batch(&mut self) -> Result<Vec<Stored>, Error> {
        let body = json!({ "seq": self.next, "batch": BATCH, "next_by_subj": self.subject });
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let inbox = Some(self.inbox.clone());
        self.bus.publish_reply(&subject, inbox, &Headers::new(), Bytes::from(body.to_string())).await?;
        let mut batch = Vec::new();
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.replies.next()).await;
            let message = answer.map_err(|_| Error::timed_out("reading the stream", PATIENCE))?;
            let message = message.ok_or_else(Error::closed)?;
            match message.status() {
                None => batch.push(stored(&message)?),
                // 204 ends a batch, 404 says there is nothing (more) on the subject.
                Some(204 | 404) => break,
                Some(503) => return Err(Error::new(Kind::NoResponders, format!("no stream {}", self.stream))),
                Some(code) => return Err(Error::new(Kind::JetStream, format!("reading failed with {code}"))),
            }
        }
        if let Some(last) = batch.last() {
            self.next = last.sequence + 1;
        }
        Ok(batch)
    }
}

fn stored(message: &Message) -> Result<Stored, Error> {
    let unreadable = || Error::new(Kind::JetStream, "the stream sent a message without its sequence");
    let sequence = message.header("Nats-Sequence").and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let subject = message.header("Nats-Subject").ok_or_else(unreadable)?.to_owned();
    Ok(Stored { subject, sequence, headers: message.headers(), payload: message.payload().clone() })
}
