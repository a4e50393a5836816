//! Subscriptions that outlive their connections.
//!
//! What comes while there is no connection is the other side's to keep: server-sent events are asked for from the last
//! one on, as their standard has it; WebSocket and NATS keep nothing. A message the other side gives an identity is told
//! with it, so that whoever hears it can tell a repetition.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::channel::{Channel, Transport};
use super::{Heard, Messages, nats, sse, web_socket};
use crate::call::{Core, Scope};
use crate::failure::{Effect, Failure};

/// The pause before the first attempt to connect again, where the other side does not name one.
const FIRST: Duration = Duration::from_millis(500);
/// The shortest pause that another side may name.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(30);

/// A subscription with what it takes to begin it again.
struct Resuming {
    core: Arc<Core>,
    channel: Channel,
    /// How long an attempt to connect may take.
    limit: Duration,
    /// `None` once it is over.
    messages: Option<Messages>,
    place: Place,
    pause: Duration,
}

/// Where in its messages a subscription is, as far as the other side tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The last event's id, to go on behind it.
    pub(super) last: Option<String>,
    /// How long to wait before connecting again.
    pub(super) retry: Option<Duration>,
}

/// Begins a subscription, and goes on with it when its connection is lost.
///
/// # Errors
/// When it cannot begin: whoever asked is there to hear it, and may try again.
pub(super) async fn begin(
    core: &Arc<Core>,
    channel: Channel,
    limit: Duration,
) -> Result<BoxStream<'static, Result<Heard, Failure>>, Failure> {
    let messages = open(Scope::nobodys(core, limit), &channel, &Place::default()).await?;
    let resuming = Resuming {
        core: core.clone(),
        channel,
        limit,
        messages: Some(messages),
        place: Place::default(),
        pause: FIRST,
    };
    let messages = futures::stream::unfold(resuming, async |mut resuming| {
        let heard = resuming.next().await?;
        Some((heard, resuming))
    });
    Ok(messages.boxed())
}

async fn open(scope: Scope<'_>, channel: &Channel, place: &Place) -> Result<Messages, Failure> {
    let channel = channel.clone();
    match channel.transport {
        Transport::Http => sse::subscribe(scope, channel, place).await,
        Transport::WebSocket => web_socket::subscribe(scope, channel).await,
        Transport::Nats => nats::subscribe(scope, channel).await,
    }
}

impl Resuming {
    async fn next(&mut self) -> Option<Result<Heard, Failure>> {
        loop {
            match self.messages.as_mut()?.next().await {
                Some(Ok((heard, place))) => {
                    self.pause = place.retry.map_or(FIRST, |retry| retry.clamp(SHORTEST, LONGEST));
                    self.place = place;
                    return Some(Ok(heard));
                }
                Some(Err(failure)) if passes(&failure) => {
                    if let Err(failure) = self.again(failure).await {
                        self.messages = None;
                        return Some(Err(failure));
                    }
                }
                Some(Err(failure)) => {
                    self.messages = None;
                    return Some(Err(failure));
                }
                None => self.messages = None,
            }
        }
    }

    /// Connects again, however often it takes.
    async fn again(&mut self, mut failure: Failure) -> Result<(), Failure> {
        self.messages = None;
        while self.messages.is_none() {
            tracing::debug!(fault = %failure.fault, server = %self.channel.server, "a subscription is begun again");
            tokio::time::sleep(jittered(self.pause)).await;
            self.pause = (self.pause * 2).min(LONGEST);
            match open(Scope::nobodys(&self.core, self.limit), &self.channel, &self.place).await {
                Ok(messages) => self.messages = Some(messages),
                Err(next) if passes(&next) => failure = next,
                Err(next) => return Err(next),
            }
        }
        Ok(())
    }
}

/// Says whether trying again may help: the other side is away or busy, and did not say no.
fn passes(failure: &Failure) -> bool {
    let fault = &failure.fault;
    let busy = matches!(fault.status, 408 | 429 | 503);
    matches!(fault.kind(), "communication" | "timeout") && (failure.effect != Effect::Refused || busy)
}

/// Takes up to a quarter off a pause, so that those who lost a server together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use sinew_workflow::Fault;

    use super::*;

    #[test]
    fn a_no_is_final_and_a_lost_connection_is_not() {
        let communication = |status| Fault::communication("").with_status(status);
        assert!(passes(&Failure::not_sent(communication(500))));
        assert!(passes(&Failure::refused(communication(429))));
        assert!(passes(&Failure::not_sent(Fault::timeout(""))));
        for fault in [communication(404), Fault::authorization(""), Fault::configuration("")] {
            assert!(!passes(&Failure::refused(fault)));
        }
    }
}
