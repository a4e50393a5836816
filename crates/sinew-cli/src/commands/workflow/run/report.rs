//! What a run looked like: lines as tasks end, then the result.

use serde::Serialize;
use serde_json::Value;
use sinew::{
    Timestamp,
    workflow::{WorkflowFault, WorkflowInstance, WorkflowStep},
};

use super::Ended;
use crate::{
    error::Error,
    output::{Output, Style},
    session::Session,
    timeline,
};

/// Exit codes of a run that ended.
const FAULTED: u8 = 2;
const CANCELLED: u8 = 130;

/// The result, as programs read it.
#[derive(Serialize)]
struct Report<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    saga: Option<&'a str>,
    output: &'a Option<Value>,
    error: Option<Problem<'a>>,
    tasks: Vec<Task<'a>>,
}

/// An error with the members the language gives it, and no others.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Task<'a> {
    name: &'a str,
    pointer: &'a str,
    status: &'a str,
    started: Option<String>,
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compensation: Option<&'a str>,
}

/// Which tasks people were told of.
#[derive(Default)]
pub(super) struct Progress {
    told: usize,
}

/// Prints the result and says how the process is to end.
pub(super) fn show(ended: Ended, session: &Session) -> Result<(), Error> {
    let (instance, left) = match ended {
        Ended::Whole(instance) => (instance, false),
        Ended::Left(instance) => (instance, true),
    };
    if session.output.is_json() {
        session.output.value(&report(&instance));
    } else {
        session.output.text(&timeline::instance(&instance, &session.output));
    }
    if left && instance.saga == "stuck" {
        session.output.note(
            "a compensation is stuck, and nobody here can decide about it: on a bus an operator would, with \
             `sinew workflow operate`",
        );
    }
    match instance.status.as_str() {
        "completed" => Ok(()),
        "cancelled" => Err(Error::ended(CANCELLED)),
        // Left behind while it ran: somebody interrupted twice.
        "running" => Err(Error::ended(CANCELLED)),
        _ => Err(Error::ended(FAULTED)),
    }
}

impl Progress {
    /// Tells of the tasks that have ended since the last time, in the order they started.
    pub(super) fn tell(&mut self, instance: &WorkflowInstance, output: &Output) {
        if !output.is_watched() {
            return;
        }
        let ended = |step: &&WorkflowStep| step.ended_ms.is_some();
        let leaves: Vec<_> = timeline::leaves(instance).take_while(ended).collect();
        for step in leaves.iter().skip(self.told) {
            output.note(&output.paint(Style::Quiet, &format!("  {}  {}", step.name, step.outcome)));
        }
        self.told = self.told.max(leaves.len());
    }
}

fn report(instance: &WorkflowInstance) -> Report<'_> {
    Report {
        status: &instance.status,
        saga: Some(instance.saga.as_str()).filter(|saga| !matches!(*saga, "none" | "")),
        output: &instance.output,
        error: instance.error.as_ref().map(problem),
        tasks: instance.steps.iter().map(task).collect(),
    }
}

fn problem(fault: &WorkflowFault) -> Problem<'_> {
    let WorkflowFault { kind, status, title, detail, instance, code } = fault;
    let (detail, instance, code) = (detail.as_deref(), instance.as_deref(), code.as_deref());
    Problem { r#type: kind, status: *status, title, detail, instance, code }
}

fn task(step: &WorkflowStep) -> Task<'_> {
    Task {
        name: &step.name,
        pointer: &step.pointer,
        status: &step.outcome,
        started: moment(step.started_ms),
        ended: step.ended_ms.and_then(moment),
        compensation: step.compensation.as_ref().map(|undo| undo.outcome.as_str()),
    }
}

/// Writes a moment as RFC 3339, with milliseconds.
fn moment(millis: i64) -> Option<String> {
    Timestamp::from_millisecond(millis).ok().map(|at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_result_has_the_members_that_are_promised() {
        let instance: WorkflowInstance = serde_json::from_value(json!({
            "id": "i", "name": "n", "version": "1.0.0", "status": "faulted", "saga": "compensated",
            "error": { "type": "https://a/errors/runtime", "status": 500, "instance": "/do/0/a" },
            "steps": [{ "name": "a", "pointer": "/do/0/a", "kind": "call", "outcome": "completed", "attempts": 1,
                        "started_ms": 0, "ended_ms": 1500,
                        "compensation": { "outcome": "compensated", "attempts": 1 } }],
            "started_ms": 0,
        }))
        .unwrap();
        let expected = json!({
            "status": "faulted", "saga": "compensated", "output": null,
            "error": { "type": "https://a/errors/runtime", "status": 500, "instance": "/do/0/a" },
            "tasks": [{ "name": "a", "pointer": "/do/0/a", "status": "completed", "compensation": "compensated",
                        "started": "1970-01-01T00:00:00.000Z", "ended": "1970-01-01T00:00:01.500Z" }],
        });
        assert_eq!(json!(report(&instance)), expected);
    }
}
