//! One streaming reply at work: opens the control inbox, sends items as credit allows, notices that the caller is gone.

use std::{panic::AssertUnwindSafe, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use sinew_wire::{ContentType, Headers, Problem, header};
use tokio::time::Instant;

use super::{
    Answer, Items,
    line::{self, Line},
    operation::{Operation, Shop, handler_panicked, late, wanted},
};
use crate::{
    Deadline,
    bus::Message,
    stream::{Pace, Window, Word},
};

/// Far beyond any stream; the clock has no "never".
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// The service's end of one stream.
struct Outlet<'a> {
    line: Line<'a>,
    codec: ContentType,
    window: Window,
    /// `None` for an ordinary NATS client, which shows no signs of life and would misunderstand ours.
    pace: Option<Pace>,
    deadline: Option<Instant>,
}

/// Why a stream ends before its handler has said all.
enum Ending {
    /// The caller is gone, so nobody has to be told.
    Gone,
    /// The caller is told.
    Told(Problem),
}

/// Opens a stream and sends what it consists of; returns the last message, or `None` if nobody is left to be told.
pub(super) async fn run(
    shop: &Shop,
    operation: &Operation,
    message: &Message,
    deadline: Deadline,
    opening: impl Future<Output = Answer>,
) -> Option<Answer> {
    // Without a place to send items to there is no stream to be made.
    let to = message.reply_to()?;
    let mut outlet = match Line::open(shop, operation, to).await {
        Ok(line) => Outlet::new(line, message, deadline),
        Err(error) => return Some(Answer::problem(error.to_problem(), wanted(message))),
    };
    let mut opening = std::pin::pin!(opening);
    let mut answer = loop {
        tokio::select! {
            biased;
            heard = outlet.listen(false) => if let Err(ending) = heard {
                return outlet.ended(ending, message);
            },
            answer = &mut opening => break answer,
        }
    };
    let Some(items) = answer.items.take() else { return Some(outlet.last(answer)) };
    match outlet.send_all(&answer.headers, items).await {
        Ok(()) => Some(outlet.last(Answer::reply(Headers::new(), Bytes::new()))),
        Err(ending) => outlet.ended(ending, message),
    }
}

impl<'a> Outlet<'a> {
    fn new(line: Line<'a>, message: &Message, deadline: Deadline) -> Self {
        let credit = message.header(header::CREDIT).and_then(|text| text.parse().ok());
        Self {
            codec: wanted(message),
            window: Window::new(credit),
            pace: credit.map(|_| Pace::new(line::idle(message))),
            deadline: deadline.remaining().map(|left| line.heard + left),
            line,
        }
    }

    /// Says that the stream is open, then sends item after item.
    async fn send_all(&mut self, headers: &Headers, mut items: Items) -> Result<(), Ending> {
        if self.pace.is_some() {
            self.alive(true).await;
        }
        loop {
            // The user's stream is not even asked while the caller takes no more: what it makes, it makes for somebody.
            while !self.window.is_open() {
                self.listen(true).await?;
            }
            let next = tokio::select! {
                biased;
                heard = self.listen(true) => {
                    heard?;
                    continue;
                }
                next = AssertUnwindSafe(items.0.next()).catch_unwind() => next,
            };
            match next {
                Ok(Some(Ok(item))) => self.item(headers, item).await?,
                Ok(Some(Err(problem))) => return Err(Ending::Told(problem)),
                Ok(None) => return Ok(()),
                Err(panic) => return Err(Ending::Told(handler_panicked(self.line.operation, &panic))),
            }
        }
    }

    async fn item(&mut self, headers: &Headers, item: Bytes) -> Result<(), Ending> {
        if item.len() > self.line.largest_item() {
            let (operation, bytes) = (&self.line.operation.name, item.len());
            tracing::error!(%operation, bytes, "an item is too large for the bus");
            return Err(Ending::Told(Problem::new(
                502,
                "reply-too-large",
                "an item is larger than the bus takes",
            )));
        }
        let mut headers = headers.clone();
        let _ = headers.set(header::SEQ, self.window.send().to_string());
        self.line.say(&headers, item).await.map_err(|error| {
            // The caller finds out by the silence, or by the gap if the connection comes back.
            tracing::warn!(operation = %self.line.operation.name, %error, "an item could not be sent");
            Ending::Gone
        })
    }

    /// Waits for one thing to happen beside the work: a word of the caller, or something that is due.
    ///
    /// # Cancel safety
    /// Cancel safe: at most a sign of life is not sent.
    async fn listen(&mut self, is_open: bool) -> Result<(), Ending> {
        tokio::select! {
            biased;
            word = self.line.messages.next() => self.hear(word.as_ref()),
            () = &mut self.line.abandoned => Err(Ending::Told(draining())),
            () = &mut self.line.tick => {
                let now = Instant::now();
                self.overdue(now)?;
                if self.pace.is_some_and(|pace| self.line.spoke + pace.service_beat() <= now) {
                    self.alive(is_open).await;
                }
                let due = self.due();
                self.line.tick.as_mut().reset(due);
                Ok(())
            }
        }
    }

    fn hear(&mut self, word: Option<&Message>) -> Result<(), Ending> {
        // The bus was closed, or the server knows nobody who would take the items.
        let Some(word) = word.filter(|word| word.status() != Some(503)) else { return Err(Ending::Gone) };
        self.line.heard = Instant::now();
        match Word::read(word.payload()) {
            Some(word) if !self.window.hear(word) => Err(Ending::Gone),
            _ => Ok(()),
        }
    }

    fn overdue(&self, now: Instant) -> Result<(), Ending> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Ending::Told(late()));
        }
        match self.pace {
            Some(pace) if self.line.heard + pace.patience() <= now => Err(Ending::Gone),
            _ => Ok(()),
        }
    }

    fn due(&self) -> Instant {
        let (spoke, heard) = (self.line.spoke, self.line.heard);
        let never = spoke + NEVER;
        let next = self.pace.map_or(never, |pace| (spoke + pace.service_beat()).min(heard + pace.patience()));
        self.deadline.map_or(next, |deadline| next.min(deadline))
    }

    /// Shows life; with a number once the stream is open, so that a lost item is noticed.
    async fn alive(&mut self, is_open: bool) {
        let mut headers = Headers::new();
        if is_open {
            let _ = headers.set(header::SEQ, self.window.sent().to_string());
        }
        if let Err(error) = self.line.say(&headers, Bytes::new()).await {
            tracing::debug!(operation = %self.line.operation.name, %error, "a sign of life could not be sent");
        }
    }

    fn ended(self, ending: Ending, message: &Message) -> Option<Answer> {
        match ending {
            Ending::Told(problem) => {
                let codec = self.codec;
                Some(self.last(Answer::problem(problem, codec)))
            }
            Ending::Gone => {
                tracing::debug!(operation = %self.line.operation.name, subject = message.subject(), "a stream's caller is gone");
                None
            }
        }
    }

    fn last(self, mut answer: Answer) -> Answer {
        let _ = answer.headers.set(header::END, self.window.sent().to_string());
        answer.line = Some(Box::new(self.line.messages));
        answer
    }
}

fn draining() -> Problem {
    Problem::new(503, "draining", "the service is being stopped and cannot finish the stream").retriable()
}
