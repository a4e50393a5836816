//! Replies that are lost with a connection. Who waits for one would wait its whole limit; after the next connection is
//! made, it asks the service whether anybody still works on the request.
//!
//! The question goes to `svc.<service>.$held`, which every instance hears, and names the reply's inbox, as hanging up
//! does; only one that has the request in work answers. A service that knows no such questions, and one that replied into
//! the broken connection, are silent alike: twice silent, the reply counts as lost. One that comes meanwhile counts.

use std::time::Duration;

use bytes::Bytes;
use sinew_wire::Headers;
use tokio::sync::watch;

use super::{Bus, inlets::Waiting};
use crate::{Error, Kind, service::held_subject};

/// Pause before each question: the service may have lost its connection as well, and a reply may be under way.
const PAUSE: Duration = Duration::from_millis(700);
/// How long an instance may take to say that it works on a request.
const ANSWER: Duration = Duration::from_millis(500);
/// Questions without an answer, one after the other, after which a reply counts as lost.
const SILENCES: u32 = 2;
/// Pause after somebody said that it works on it.
const HELD: Duration = Duration::from_secs(5);

/// A request that was sent.
pub(super) struct Sent<'a> {
    pub(super) bus: &'a Bus,
    pub(super) subject: &'a str,
    pub(super) reply: &'a str,
    /// Seen up to where it was when the request was sent.
    pub(super) connects: watch::Receiver<u64>,
}

impl Sent<'_> {
    /// Waits for the reply, until it is found to be lost.
    pub(super) async fn reply(
        self,
        waiting: Waiting,
    ) -> Result<Option<Result<super::Message, super::inlets::Denied>>, Error> {
        tokio::select! {
            biased;
            reply = waiting.reply() => Ok(reply),
            lost = self.lost() => Err(lost),
        }
    }

    async fn lost(mut self) -> Error {
        if self.connects.changed().await.is_err() {
            return Error::closed();
        }
        // Boxed: hardly any request gets here.
        Box::pin(self.let_go()).await;
        let text = format!(
            "the connection was lost while {} was waited for, and nobody works on it any more: it may have been done",
            self.subject
        );
        Error::new(Kind::TimedOut, text)
    }

    /// Waits until nobody works on the request.
    async fn let_go(&self) {
        let Some(question) = held_subject(self.subject) else { return std::future::pending().await };
        let mut silences = 0;
        while silences < SILENCES {
            tokio::time::sleep(PAUSE).await;
            let payload = Bytes::copy_from_slice(self.reply.as_bytes());
            match self.bus.request(&question, &Headers::new(), payload, ANSWER).await {
                Ok(_) => {
                    silences = 0;
                    tokio::time::sleep(HELD).await;
                }
                // Gone again, so nothing was asked.
                Err(error) if error.kind() == Kind::Disconnected => silences = 0,
                Err(_) => silences += 1,
            }
        }
    }
}
