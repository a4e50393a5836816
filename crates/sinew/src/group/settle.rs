//! How a delivery ends: acknowledged, handed back with a delay, put off to the group's inlet, or kept as a dead letter.
//!
//! What is put off or buried is stored, with the server's word for it, before the event is given up: a crash in between
//! duplicates it and never loses it.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sinew_wire::{Headers, Problem, Subject, TraceContext, header};

use super::{
    Failure,
    inlet::{self, Arrival},
    worker::Member,
};
use crate::{Error, Kind, bus::Message, dead_letters::field, schedule, streams::EVENTS};

/// Longest pause that a problem may ask for.
const LONGEST_HINT: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to become of an event after an attempt.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is handled.
    Done,
    /// It is tried again after this time.
    Retry(Duration),
    /// It becomes a dead letter.
    Bury(Problem),
    /// This process has no time left for it.
    HandBack,
}

/// What the server says when it gives a message up.
#[derive(Deserialize)]
struct GivenUp {
    stream: String,
    stream_seq: u64,
    deliveries: u32,
}

/// What is written on a dead letter.
struct Obituary<'a> {
    problem: &'a Problem,
    attempts: u32,
    /// The subject it was published on.
    subject: &'a str,
    /// Where it stands or stood.
    stream: &'a str,
    sequence: u64,
    /// The trace of the attempt that failed last.
    trace: Option<TraceContext>,
    /// Tells this letter from every other one of the group.
    key: String,
}

impl Member {
    /// Decides what becomes of an event after `attempt`.
    pub(super) fn judge(&self, attempt: u32, outcome: Result<(), Failure>) -> Verdict {
        let problem = match outcome {
            Ok(()) => return Verdict::Done,
            Err(Failure::Poison(reason)) => {
                Problem::new(400, "poison", "the payload is not the event").detail(reason)
            }
            Err(Failure::Handler(problem)) => problem,
            Err(Failure::Abandoned) => return Verdict::HandBack,
        };
        let delay = self.spec.group.retry.delay(attempt, self.bus.dice()).filter(|_| problem.retry);
        // Whoever says when to come back is not asked before.
        let delay = delay.map(|delay| delay.max(problem.retry_hint().unwrap_or_default().min(LONGEST_HINT)));
        delay.map_or(Verdict::Bury(problem), Verdict::Retry)
    }

    /// Ends a delivery. What cannot be ended comes again.
    pub(super) async fn finish(&self, arrival: &Arrival, verdict: Verdict, trace: Option<TraceContext>) {
        if let Err(error) = self.settle(arrival, verdict, trace).await {
            tracing::warn!(group = self.spec.group.name, %error, "an event could not be settled and will come again");
        }
    }

    async fn settle(
        &self,
        arrival: &Arrival,
        verdict: Verdict,
        trace: Option<TraceContext>,
    ) -> Result<(), Error> {
        match verdict {
            Verdict::Done => arrival.delivery.ack().await,
            Verdict::Retry(delay) if delay <= self.spec.group.hold => arrival.delivery.nak(delay).await,
            Verdict::Retry(delay) => self.put_off(arrival, delay).await,
            Verdict::Bury(problem) => self.bury(arrival, &problem, trace).await,
            Verdict::HandBack => arrival.delivery.nak(Duration::ZERO).await,
        }
    }

    /// Keeps the event as a dead letter, original bytes and headers, and only then gives it up.
    pub(super) async fn bury(
        &self,
        arrival: &Arrival,
        problem: &Problem,
        trace: Option<TraceContext>,
    ) -> Result<(), Error> {
        let mut headers = arrival.headers();
        let obituary = Obituary {
            problem,
            attempts: arrival.attempt(),
            subject: arrival.subject(),
            stream: EVENTS,
            sequence: arrival.origin.sequence,
            trace,
            key: arrival.key(),
        };
        self.write(&mut headers, &obituary)?;
        let kept = self.keep(&headers, arrival.delivery.message.payload().clone()).await;
        if kept.as_ref().is_err_and(|error| error.kind() == Kind::TooLarge) {
            // There is no room for event and reason in one message.
            self.keep_reference(headers).await?;
        } else {
            kept?;
        }
        arrival.delivery.term().await
    }

    /// Keeps an event that no member has seen.
    pub(super) async fn bury_unseen(&self, advisory: &Message) -> Result<(), Error> {
        let GivenUp { stream, stream_seq, deliveries } =
            serde_json::from_slice(advisory.payload()).map_err(|error| {
                Error::new(Kind::JetStream, "the server's advisory cannot be read").because(error)
            })?;
        let problem = Problem::new(500, "undeliverable", "no delivery of the event was answered");
        let mut headers = Headers::new();
        // A group of several events has to look which one it was.
        let several = self.spec.subject.contains([',', '*']);
        let stored = if several { self.bus.message_at(&stream, stream_seq).await? } else { None };
        let obituary = Obituary {
            problem: &problem,
            attempts: deliveries,
            subject: stored.as_ref().map_or(&self.spec.subject, |dated| &dated.message.subject),
            key: format!("{stream}-{stream_seq}"),
            stream: &stream,
            sequence: stream_seq,
            trace: None,
        };
        self.write(&mut headers, &obituary)?;
        self.keep_reference(headers).await
    }

    /// Moves the event to the group's inlet, where it comes due after `delay`; here it would keep others waiting.
    async fn put_off(&self, arrival: &Arrival, delay: Duration) -> Result<(), Error> {
        let (service, group) = (&self.service, &self.spec.group.name);
        let headers =
            arrival.postponed(&inlet::subject(service, group), schedule::after(self.bus.now(), delay))?;
        // One subject for each message: repeating this after a crash replaces the copy.
        let subject = format!("redo-at.{service}.{group}.{}", arrival.key());
        let payload = arrival.delivery.message.payload().clone();
        match self.bus.publish_acked(&subject, &headers, payload, STORE_TIMEOUT).await {
            Ok(_) => arrival.delivery.ack().await,
            Err(error) => {
                // It is too large with what was added, or the stream is not there: it waits here, as long as it may.
                tracing::warn!(group, %error, "a retry could not be put off and comes sooner");
                arrival.delivery.nak(delay.min(super::LONGEST_HOLD)).await
            }
        }
    }

    async fn keep_reference(&self, mut headers: Headers) -> Result<(), Error> {
        // The sequence says where the event still stands.
        headers.set(field::PAYLOAD, field::LEFT)?;
        self.keep(&headers, Bytes::new()).await
    }

    async fn keep(&self, headers: &Headers, payload: Bytes) -> Result<(), Error> {
        let group = &self.spec.group.name;
        let subject = Subject::parse(format!("dlq.{}.{group}", self.service))
            .map_err(|error| Error::new(Kind::Config, error.to_string()))?;
        self.bus.publish_acked(subject.as_str(), headers, payload, STORE_TIMEOUT).await?;
        let told = |name| headers.get(name).unwrap_or_default();
        let (code, sequence) = (told(field::CODE), told(field::SEQUENCE));
        tracing::warn!(group, code, sequence, "an event became a dead letter");
        Ok(())
    }

    /// Writes what became of an event.
    fn write(&self, headers: &mut Headers, obituary: &Obituary<'_>) -> Result<(), Error> {
        let Obituary { problem, attempts, subject, stream, sequence, trace, key } = obituary;
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
        headers.set(field::REASON, plain(problem.to_string()))?;
        headers.set(field::CODE, plain(problem.code.clone()))?;
        headers.set(field::ATTEMPTS, attempts.to_string())?;
        headers.set(field::SUBJECT, *subject)?;
        headers.set(field::STREAM, *stream)?;
        headers.set(field::SEQUENCE, sequence.to_string())?;
        headers.set(field::TIME, self.bus.now().to_string())?;
        if let Some(trace) = trace {
            headers.set(field::TRACE, trace.to_string())?;
        }
        // An event that is retried from here and dies again is another letter, however soon that is.
        headers.set(header::MESSAGE_ID, format!("{}/{}/{key}", self.service, self.spec.group.name))?;
        Ok(())
    }
}
