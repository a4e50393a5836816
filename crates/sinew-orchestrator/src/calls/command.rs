//! Commands: calls that wait in a stream until their service takes them, and are answered by token.

use std::time::Duration;

use sinew::{
    COMMANDS, Completion, Error, Kind,
    wire::{encode, header},
};
use sinew_workflow::{Outcome, TaskId, Terms};
use tokio::time::Instant;

use super::{
    AGAIN,
    bus::{Heard, Line, Outgoing, fault, timeout, unsendable},
};
use crate::{directory::Endpoint, spans::Origin};

/// How long the server may take to store a command.
const STORE: Duration = Duration::from_secs(5);
/// How often it is asked to forget one.
const RECALLS: u32 = 20;

impl Line {
    /// Leaves a command for its service. Once it is stored the work counts as taken on.
    pub(super) async fn command(&self, origin: &Origin, call: Outgoing<'_>) -> Heard {
        let until = Instant::now() + call.limit;
        match self.leave(origin, &call, until).await {
            Ok(()) => Heard::Accepted(Terms {
                heartbeat_ms: None,
                within_ms: Some(millis(until.saturating_duration_since(Instant::now()))),
            }),
            Err(outcome) => Heard::Answer(*outcome),
        }
    }

    async fn leave(&self, origin: &Origin, call: &Outgoing<'_>, until: Instant) -> Result<(), Box<Outcome>> {
        let endpoint = self.find(call.target).await?;
        if let Some(outcome) = self.refusal(call, &endpoint) {
            return Err(outcome.into());
        }
        let subject =
            subject(&call.target.service, &call.target.operation, origin.id(), (call.task, call.attempt));
        let prepared = self.headers(origin, call, &endpoint, true).and_then(|mut headers| {
            // Repeated after a crash, it is stored once.
            headers.set(header::MESSAGE_ID, &subject)?;
            Ok((headers, encode(endpoint.codec, call.body)?))
        });
        let (headers, payload) = prepared.map_err(|error| Box::new(unsendable(&error)))?;
        loop {
            self.held().await;
            let error = match self.bus.publish_acked(&subject, &headers, payload.clone(), STORE).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match error.kind() {
                Kind::TooLarge => {
                    let detail = error.to_string();
                    let fault = fault(413, "the command is too large", "too-large", &detail);
                    return Err(Outcome::Refused(fault).into());
                }
                _ if Instant::now() + AGAIN > until => return Err(unstored(&error).into()),
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Says why a command cannot be left at all.
    fn refusal(&self, call: &Outgoing<'_>, endpoint: &Endpoint) -> Option<Outcome> {
        let (title, code, detail) = if self.seal.is_none() {
            let detail = "commands are answered later, which this process cannot wait for: start the workflow with \
                          `sinew workflow start`";
            ("there is no orchestrator", "no-completion", detail.to_owned())
        } else if call.target.subject.is_some() {
            let detail = "a command is stored for the service it names: leave `subject` out".to_owned();
            ("a command has no subject", "command-subject", detail)
        } else if !endpoint.commands {
            let detail = format!(
                "{} takes no commands: add `.commands(8)` to its Service, or use delivery: request",
                call.target
            );
            ("the service takes no commands", "no-commands", detail)
        } else {
            return None;
        };
        Some(Outcome::Refused(fault(501, title, code, &detail)))
    }

    /// Tells whoever holds the token of an attempt that nobody waits for it.
    ///
    /// Said once: who does not hear it is told with the next sign of life it gives.
    pub(super) async fn withdraw(&self, instance: &str, (task, attempt): (TaskId, u32)) {
        let Some(seal) = &self.seal else { return };
        let work = Completion::<()>::resume(&self.bus, seal.token(instance, task, attempt));
        if let Err(error) = work.withdraw().await {
            tracing::debug!(%error, instance, "whoever took the work on could not be told that nobody waits");
        }
    }

    /// Takes back the command of an attempt nobody waits for, unless somebody has it already.
    pub(super) async fn recall(&self, instance: &str, attempt: (TaskId, u32)) {
        let left = subject("*", "*", instance, attempt);
        for _ in 0..RECALLS {
            match self.bus.purge_subject(COMMANDS, &left).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, instance, "a command cannot be taken back yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Returns where the command of an attempt stands: a place of its own, where it is found again by the attempt alone.
fn subject(service: &str, operation: &str, instance: &str, (task, attempt): (TaskId, u32)) -> String {
    format!("cmd.{service}.{operation}.{instance}.{task}-{attempt}")
}

/// The server never said that it is stored: it may be.
fn unstored(error: &Error) -> Outcome {
    Outcome::Unknown(timeout(&format!("the command could not be stored in time: {error}")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
