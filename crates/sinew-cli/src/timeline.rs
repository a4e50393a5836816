//! An instance as a timeline: what was done, how long it took, how it ended, how it was undone.

use sinew::workflow::{WorkflowInstance, WorkflowStep};

use crate::output::{Output, Style, columns};

/// Returns the steps that do something themselves; those that only contain others are left out.
pub(crate) fn leaves(instance: &WorkflowInstance) -> impl Iterator<Item = &WorkflowStep> {
    let contains = |step: &WorkflowStep| {
        let below = format!("{}/", step.pointer);
        instance.steps.iter().any(|other| other.pointer.starts_with(&below))
    };
    instance.steps.iter().filter(move |step| !contains(step))
}

/// Returns one word for a step: how it ended, unless it was done and then undone.
pub(crate) fn outcome(step: &WorkflowStep) -> &str {
    match &step.compensation {
        Some(undo) if step.outcome == "completed" && undo.outcome != "pending" => &undo.outcome,
        _ => &step.outcome,
    }
}

/// Draws the steps, indented, one a line.
pub(crate) fn steps(instance: &WorkflowInstance, output: &Output) -> String {
    let rows: Vec<Vec<String>> = leaves(instance).map(|step| row(step, output)).collect();
    columns(&rows)
}

/// Draws a whole instance.
pub(crate) fn instance(instance: &WorkflowInstance, output: &Output) -> String {
    let WorkflowInstance { name, version, id, status, .. } = instance;
    let took =
        instance.ended_ms.map_or_else(String::new, |ended| format!("  {} ms", ended - instance.started_ms));
    let state = paint(output, status, &state(instance));
    let mut text = format!("{name}@{version}  {id}  {state}{took}\n");
    let steps = steps(instance, output);
    if !steps.is_empty() {
        text.push_str(&format!("{steps}\n"));
    }
    if let Some(error) = &instance.error {
        let detail = error.detail.as_deref().unwrap_or(&error.title);
        let code = error.code.as_deref().unwrap_or(error.kind.rsplit('/').next().unwrap_or_default());
        text.push_str(&format!("  error   {} {code}: {detail}\n", error.status));
    }
    if let Some(value) = &instance.output {
        text.push_str(&format!("  output  {value}\n"));
    }
    if !instance.trace_id.is_empty() {
        text.push_str(&format!("  trace   {}", instance.trace_id));
    }
    text.truncate(text.trim_end().len());
    text
}

/// Puts all there is to say about how an instance stands into one text.
pub(crate) fn state(instance: &WorkflowInstance) -> String {
    let saga = Some(instance.saga.as_str()).filter(|saga| !matches!(*saga, "none" | ""));
    let words = [Some(instance.status.as_str()), instance.paused.then_some("paused"), saga];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn row(step: &WorkflowStep, output: &Output) -> Vec<String> {
    let took =
        step.ended_ms.map_or_else(|| "running".to_owned(), |ended| format!("{} ms", ended - step.started_ms));
    let tries = if step.attempts > 1 { format!("{} attempts", step.attempts) } else { String::new() };
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend(step.error.as_ref().map(|error| {
        let kind = error.kind.rsplit('/').next().unwrap_or_default();
        error.code.clone().unwrap_or_else(|| format!("{kind} {}", error.status))
    }));
    remarks.extend(step.by.as_ref().map(|who| format!("by {who}")));
    remarks.extend(step.compensation.as_ref().map(|undo| {
        let word = paint(output, &undo.outcome, &undo.outcome);
        match undo.started_ms.zip(undo.ended_ms) {
            Some((began, ended)) => format!("{word} in {} ms", ended - began),
            None => word,
        }
    }));
    remarks.extend(Some(tries).filter(|tries| !tries.is_empty()));
    let (mark, name) = (mark(&step.outcome), &step.name);
    vec![
        format!("  {} {name}", paint(output, &step.outcome, mark)),
        took,
        // Padded before it is coloured: the columns count characters.
        paint(output, &step.outcome, &format!("{:9}", step.outcome)),
        remarks.join(", "),
    ]
}

fn mark(outcome: &str) -> &'static str {
    match outcome {
        "completed" => "✓",
        "refused" | "failed" => "✗",
        "unknown" => "?",
        "skipped" => "-",
        _ => "…",
    }
}

fn paint(output: &Output, outcome: &str, text: &str) -> String {
    let style = match outcome {
        "completed" | "compensated" => Style::Good,
        "refused" | "failed" | "faulted" | "stuck" => Style::Bad,
        _ => Style::Doubtful,
    };
    output.paint(style, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> WorkflowInstance {
        let step = |name: &str, pointer: &str, outcome: &str| {
            json!({ "name": name, "pointer": pointer, "kind": "call", "outcome": outcome, "attempts": 1,
                    "started_ms": 10, "ended_ms": 22 })
        };
        let mut reserve = step("reserve", "/do/0/stock/try/0/reserve", "completed");
        reserve["compensation"] =
            json!({ "outcome": "compensated", "attempts": 1, "started_ms": 30, "ended_ms": 34 });
        let mut charge = step("charge", "/do/1/charge", "refused");
        charge["error"] =
            json!({ "type": "https://x/errors/communication", "status": 402, "code": "card-declined" });
        serde_json::from_value(json!({
            "id": "o-1", "name": "place-order", "version": "1.0.0", "status": "faulted", "saga": "compensated",
            "steps": [step("stock", "/do/0/stock", "completed"), reserve, charge],
            "started_ms": 10, "ended_ms": 40, "trace_id": "ab"
        }))
        .unwrap()
    }

    #[test]
    fn only_steps_that_do_something_are_shown() {
        let names: Vec<_> =
            leaves(&sample()).map(|step| (step.name.clone(), outcome(step).to_owned())).collect();
        assert_eq!(names, [("reserve".into(), "compensated".into()), ("charge".into(), "refused".into())]);
    }

    #[test]
    fn a_timeline_reads_from_left_to_right() {
        let text = instance(&sample(), &Output::new(true));
        let expected = "place-order@1.0.0  o-1  faulted, compensated  30 ms\n  ✓ reserve  12 ms  completed  compensated in 4 \
                        ms\n  ✗ charge   12 ms  refused    card-declined\n  trace   ab";
        assert_eq!(text, expected);
    }
}
