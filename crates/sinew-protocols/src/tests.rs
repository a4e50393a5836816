//! Calls against real servers on this machine, failures included.

use std::time::Duration;

use serde_json::Value;
use sinew_workflow::{Fault, Outcome, Protocol};

use crate::{Call, Protocols, Settings};

mod a2a;
mod asyncapi;
mod authentication;
mod container;
mod document;
mod grpc;
mod http;
mod mcp;
mod openapi;
mod process;
mod server;

/// Longer than any call here takes, when nothing is wrong.
const LIMIT: Duration = Duration::from_secs(20);

/// Returns calls without secrets or permissions.
fn protocols() -> Protocols {
    Protocols::new(Settings::default()).unwrap()
}

async fn outcome(protocols: &Protocols, protocol: Protocol, arguments: &Value) -> Outcome {
    outcome_within(protocols, protocol, arguments, LIMIT).await
}

async fn outcome_within(
    protocols: &Protocols,
    protocol: Protocol,
    arguments: &Value,
    limit: Duration,
) -> Outcome {
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    protocols.call(Call { protocol, arguments, key: "order-7/charge", attempt: 1, limit, traceparent }).await
}

/// Returns the output of a call that is done.
#[track_caller]
fn done(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Completed(output) => output,
        other => panic!("the call failed: {other:?}"),
    }
}

#[track_caller]
fn refused(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Refused(fault) => fault,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn not_sent(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::NotSent(fault) => fault,
        other => panic!("not `not sent`: {other:?}"),
    }
}

#[track_caller]
fn unknown(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Unknown(fault) => fault,
        other => panic!("not unknown: {other:?}"),
    }
}
