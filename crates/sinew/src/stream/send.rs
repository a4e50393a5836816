//! The caller's end of an upload at work: sends items as the service asks for them, shows life, waits for the reply.

use std::{borrow::Cow, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sinew_wire::{ContentType, Headers, Problem, header};
use tokio::time::{Instant, sleep_until};

use super::{Pace, Window, Word};
use crate::{
    Answer, Bus, Error,
    bus::{Message, Subscription},
};

/// How long a reply may still be on its way when items find nobody any more: the service that has just answered does
/// not listen on.
const GRACE: Duration = Duration::from_secs(1);

/// Items as they travel.
pub(super) type Encoded = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;

/// A request that was sent, with items to follow. Dropped before the reply, it tells the service.
pub(super) struct Sending {
    pub(super) bus: Bus,
    pub(super) subject: Cow<'static, str>,
    /// Where words of the service, and its reply, come to.
    pub(super) inbox: String,
    pub(super) messages: Subscription,
    /// What is left to be sent; nothing behind the end.
    pub(super) items: Option<Encoded>,
    pub(super) codec: ContentType,
    pub(super) pace: Pace,
    pub(super) deadline: Option<Instant>,
    /// Where items go to; unknown until the service has said something.
    to: Option<String>,
    window: Window,
    heard: Instant,
    spoke: Instant,
    /// Since when nobody takes items any more.
    gone: Option<Instant>,
    answered: bool,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Lost {
    /// The request did not leave this process.
    NotSent(Error),
    /// Nobody serves the operation.
    NoResponders,
    /// The deadline passed, or nothing was heard of the service.
    TimedOut,
    /// The service is gone, or this connection is closed.
    Interrupted(&'static str),
}

/// What a call is made of.
pub(super) struct Outgoing<'a> {
    pub(super) bus: &'a Bus,
    pub(super) subject: Cow<'static, str>,
    pub(super) headers: &'a Headers,
    pub(super) payload: Bytes,
    pub(super) items: Encoded,
    pub(super) codec: ContentType,
    pub(super) pace: Pace,
    pub(super) limit: Option<Duration>,
}

impl Sending {
    /// Sends the request.
    pub(super) async fn begin(outgoing: Outgoing<'_>) -> Result<Self, Lost> {
        let Outgoing { bus, subject, headers, payload, items, codec, pace, limit } = outgoing;
        let inbox = bus.new_inbox();
        let messages = bus.subscribe(&inbox, None).await.map_err(Lost::NotSent)?;
        let asked = bus.post(&subject, Some(&inbox), headers, &payload);
        asked.await.map_err(Lost::NotSent)?;
        let now = Instant::now();
        Ok(Self {
            bus: bus.clone(),
            subject,
            inbox,
            messages,
            items: Some(items),
            codec,
            pace,
            deadline: limit.and_then(|limit| now.checked_add(limit)),
            to: None,
            window: Window::new(Some(0)),
            heard: now,
            spoke: now,
            gone: None,
            answered: false,
        })
    }

    /// Sends items until the reply is there.
    pub(super) async fn run(mut self) -> Result<Message, Lost> {
        let mut tick = std::pin::pin!(sleep_until(self.due()));
        loop {
            let may_send = self.to.is_some() && self.window.is_open();
            tokio::select! {
                biased;
                message = self.messages.next() => {
                    if let Some(reply) = self.hear(message)? {
                        self.answered = true;
                        return Ok(reply);
                    }
                    if self.gone.is_some() {
                        tick.as_mut().reset(self.due());
                    }
                }
                () = &mut tick => {
                    self.show_life().await?;
                    tick.as_mut().reset(self.due());
                }
                item = next(&mut self.items), if may_send => self.send(item).await?,
            }
        }
    }

    /// Hears a word of the service; returns its reply.
    fn hear(&mut self, message: Option<Message>) -> Result<Option<Message>, Lost> {
        let message = message.ok_or(Lost::Interrupted("the connection was closed by this process"))?;
        if message.status() == Some(503) {
            // Of the request itself, or of an item.
            if self.to.is_none() {
                return Err(Lost::NoResponders);
            }
            self.items = None;
            self.gone.get_or_insert_with(Instant::now);
            return Ok(None);
        }
        self.heard = Instant::now();
        let Some((to, word)) = message.reply_to().zip(Word::read(message.payload())) else {
            return Ok(Some(message));
        };
        if self.to.is_none() {
            self.to = Some(to.to_owned());
        }
        if !self.window.hear(word) {
            self.items = None;
        }
        Ok(None)
    }

    async fn send(&mut self, item: Option<Result<Bytes, Problem>>) -> Result<(), Lost> {
        let last = match item {
            Some(Ok(item)) if item.len() + 256 <= self.bus.max_payload() => return self.item(item).await,
            Some(Ok(item)) => Answer::problem(too_large(item.len()), self.codec),
            Some(Err(problem)) => Answer::problem(problem, self.codec),
            None => Answer::reply(Headers::new(), Bytes::new()),
        };
        self.items = None;
        let mut headers = last.headers;
        let _ = headers.set(header::END, self.window.sent().to_string());
        self.say(&headers, last.payload).await
    }

    async fn item(&mut self, item: Bytes) -> Result<(), Lost> {
        let mut headers = self.counted(true);
        let _ = headers.set(header::CONTENT_TYPE, self.codec.as_str());
        self.say(&headers, item).await
    }

    async fn show_life(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) || self.heard + self.pace.idle() <= now {
            return Err(Lost::TimedOut);
        }
        if self.gone.is_some_and(|gone| gone + GRACE <= now) {
            return Err(Lost::Interrupted("the service is gone"));
        }
        // Behind the end the service waits for nothing more.
        if self.items.is_some() && self.spoke + self.pace.caller_beat() <= now {
            self.spoke = now;
            let headers = self.counted(false);
            return self.say(&headers, Bytes::new()).await;
        }
        Ok(())
    }

    fn counted(&mut self, item: bool) -> Headers {
        let number = if item { self.window.send() } else { self.window.sent() };
        let mut headers = Headers::new();
        // Numbers can be sent.
        let _ = headers.set(header::SEQ, number.to_string());
        headers
    }

    async fn say(&mut self, headers: &Headers, payload: Bytes) -> Result<(), Lost> {
        let Some(to) = &self.to else { return Ok(()) };
        self.spoke = Instant::now();
        let sent = self.bus.post(to, Some(&self.inbox), headers, &payload);
        sent.await.map_err(|error| {
            tracing::debug!(subject = &*self.subject, %error, "an upload could not go on");
            Lost::Interrupted("the connection is down")
        })
    }

    fn due(&self) -> Instant {
        // While nobody has said where to, there is nothing to say; the first look comes no later for it.
        let beat = self.items.as_ref().map(|_| self.spoke + self.pace.caller_beat());
        let grace = self.gone.map(|gone| gone + GRACE);
        let silence = self.heard + self.pace.idle();
        [beat, grace, self.deadline].into_iter().flatten().fold(silence, Instant::min)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.answered && self.bus.is_connected() {
            self.bus.hang_up(&self.subject, &self.inbox);
        }
    }
}

impl Lost {
    /// Returns the same as an error of the bus, for those who know no types.
    pub(super) fn into_error(self, subject: &str) -> Error {
        let unknown = |text: String| Error::new(crate::Kind::TimedOut, text);
        match self {
            Self::NotSent(error) => error,
            Self::NoResponders => Error::new(crate::Kind::NoResponders, format!("nobody serves {subject}")),
            Self::TimedOut => unknown(format!("{subject} was not answered in time: its outcome is unknown")),
            Self::Interrupted(reason) => {
                unknown(format!("the upload to {subject} broke off: {reason}; its outcome is unknown"))
            }
        }
    }
}

/// Returns the next of what is left; never if nothing is.
async fn next(items: &mut Option<Encoded>) -> Option<Result<Bytes, Problem>> {
    match items {
        Some(items) => items.next().await,
        None => std::future::pending().await,
    }
}

fn too_large(bytes: usize) -> Problem {
    Problem::new(413, "item-too-large", "an item of the upload is larger than the bus takes")
        .detail(format!("it has {bytes} bytes: send it in smaller parts"))
}
