//! How an instance is shown: from the engine's state to the contract's types. Pure, but for the clock it hands out.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use sinew::workflow::{StepCompensation, TaskClaim, WorkflowFault, WorkflowInstance, WorkflowStep};
use sinew_workflow::{Fault, State, Status, Step, Timestamp, Undo};

use crate::spans::Origin;

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Shows an instance with all its steps.
pub(crate) fn instance(state: &State) -> WorkflowInstance {
    let (output, steps) = (state.output().cloned(), state.steps().iter().map(|one| step(one)).collect());
    WorkflowInstance { output, steps, ..outline(state) }
}

/// Shows an instance as lists do, without its steps and its output.
pub(crate) fn outline(state: &State) -> WorkflowInstance {
    WorkflowInstance {
        id: state.id().to_owned(),
        name: state.workflow().name.clone(),
        version: state.workflow().version.clone(),
        status: word(&state.status()),
        saga: word(&state.saga()),
        paused: state.is_paused(),
        output: None,
        error: state.fault().map(fault),
        steps: Vec::new(),
        started_ms: state.started_at().map_or(0, Timestamp::as_millis),
        ended_ms: state.ended_at().map(Timestamp::as_millis),
        trace_id: Origin::of(state).trace_id(),
    }
}

/// Leaves out what a list does not need.
pub(crate) fn summary(mut instance: WorkflowInstance) -> WorkflowInstance {
    instance.steps.clear();
    instance.output = None;
    instance
}

/// Returns milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads the word for a status; `None` for any other.
pub(crate) fn status(word: &str) -> Option<Status> {
    serde_json::from_value(Value::String(word.to_owned())).ok()
}

/// Recognises an input, whatever the order of its members.
pub(crate) fn digest_of(value: &Value) -> u64 {
    digest_with(SEED, value)
}

/// FNV-1a, because what is stored must be recognised by every release.
pub(crate) fn digest_of_text(text: &str) -> u64 {
    fnv(SEED, text)
}

fn digest_with(seed: u64, value: &Value) -> u64 {
    match value {
        // Summed, so that the order does not matter.
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| digest_with(fnv(SEED, name), value);
            members.iter().map(member).fold(fnv(seed, "{"), u64::wrapping_add)
        }
        Value::Array(items) => fnv(items.iter().fold(fnv(seed, "["), digest_with), "]"),
        Value::String(text) => fnv(fnv(seed, "\""), text),
        other => fnv(fnv(seed, "#"), &other.to_string()),
    }
}

fn fnv(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn step(step: &Step) -> WorkflowStep {
    WorkflowStep {
        name: step.name.to_string(),
        pointer: step.pointer.to_string(),
        kind: step.kind.to_string(),
        outcome: word(&step.status),
        attempts: count(step.attempts.len()),
        started_ms: step.started_at.as_millis(),
        ended_ms: step.ended_at.map(Timestamp::as_millis),
        error: step.fault.as_ref().map(fault),
        by: step.attempts.last().and_then(|attempt| attempt.by.clone()),
        claims: step
            .attempts
            .iter()
            .filter_map(|made| made.claims.as_ref())
            .flat_map(|all| all.iter())
            .map(claim)
            .collect(),
        compensation: step.undo.as_ref().map(compensation),
    }
}

/// Shows who has a task to themselves.
pub(crate) fn claim(claim: &sinew_workflow::Claim) -> TaskClaim {
    let (since_ms, until_ms) = (claim.at.as_millis(), claim.until.as_millis());
    TaskClaim { who: claim.who.clone(), since_ms, until_ms }
}

fn compensation(undo: &Undo) -> StepCompensation {
    StepCompensation {
        outcome: word(&undo.status),
        attempts: count(undo.attempts.len()),
        started_ms: undo.started_at.map(Timestamp::as_millis),
        ended_ms: undo.ended_at.map(Timestamp::as_millis),
    }
}

pub(crate) fn fault(fault: &Fault) -> WorkflowFault {
    WorkflowFault {
        kind: fault.r#type.clone(),
        status: fault.status,
        title: fault.title.clone().unwrap_or_default(),
        detail: fault.detail.clone(),
        instance: fault.instance.clone(),
        code: fault.code.clone(),
    }
}

/// The engine's enums serialize as the words the contract shows.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_members_makes_no_other_input_and_everything_else_does() {
        let digest = |text: &str| digest_of(&serde_json::from_str(text).unwrap());
        assert_eq!(digest(r#"{"a":1,"b":{"c":2,"d":3}}"#), digest(r#"{"b":{"d":3,"c":2},"a":1}"#));
        let others = [
            json!({}),
            json!([]),
            json!(""),
            json!(null),
            json!({"a":1,"b":2}),
            json!({"a":2,"b":1}),
            json!({"a":"1","b":2}),
            json!([1, 2]),
            json!([2, 1]),
            json!([[1], 2]),
            json!([[1, 2]]),
            json!({"a":{"b":1}}),
            json!("a"),
            json!("b"),
        ];
        let digests: std::collections::HashSet<u64> = others.iter().map(digest_of).collect();
        assert_eq!(digests.len(), others.len());
    }

    #[test]
    fn statuses_are_read_as_they_are_shown() {
        assert_eq!(status("cancelled"), Some(Status::Cancelled));
        assert_eq!(status("Cancelled"), None);
    }
}
