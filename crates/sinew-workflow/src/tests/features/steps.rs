//! What the sentences of our features mean. `{}` stands for words, and `…:` for a block of YAML below the sentence.
//!
//! A reply is `ok`, `ok {"json": 1}`, `refused`, `refused 402`, `refused 409 out-of-stock`, `lost`, `lost 504`, `nobody`
//! or `never`; several are joined by `, then `. A length of time is `500ms`, `3s`, `2m`, `1h` or `1d`. Who is called is
//! named by operation (`stock.reserve`), protocol (`http`), workflow (`shop/child@1.0.0`), event (`event order.placed`),
//! or by the name of the task.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::gherkin::Step;
use super::scene::{Reply, Scene};
use crate::language::yaml::Node;
use crate::{Definition, Diagnostic, Effect, Fault, Input, Operate, Severity, UndoStatus};

type Check = Result<(), String>;
type Perform = fn(&mut Scene, &[&str], Option<&str>) -> Check;

/// The vocabulary. The first sentence that fits counts.
const STEPS: &[(&str, Perform)] = &[
    // Given.
    ("a workflow with definition", |scene, _, block| define(scene, needed(block)?)),
    ("the document at {} is", |scene, words, block| {
        scene.resources.insert(words[0], needed(block)?);
        Ok(())
    }),
    ("given the workflow input is", |scene, _, block| {
        scene.input = yaml(needed(block)?)?;
        Ok(())
    }),
    ("{} answers {} for ever", |scene, words, _| {
        scene.stub(words[0], replies(words[1])?, true);
        Ok(())
    }),
    ("{} answers {}", |scene, words, _| {
        scene.stub(words[0], replies(words[1])?, false);
        Ok(())
    }),
    // When.
    ("the workflow is executed", |scene, _, _| {
        scene.start()?;
        scene.finish()
    }),
    ("the workflow starts", |scene, _, _| scene.start()),
    ("the workflow goes on", |scene, _, _| scene.finish()),
    ("{} pass", |scene, words, _| scene.pass(millis(words[0])?)),
    ("the engine crashes", |scene, _, _| scene.crash()),
    ("the workflow is cancelled", |scene, _, _| {
        let at = scene.world()?.at();
        scene.give(Input::Cancel { reason: Some("enough".to_owned()), at })
    }),
    ("the workflow is terminated", |scene, _, _| {
        let at = scene.world()?.at();
        scene.give(Input::Terminate { reason: Some("enough".to_owned()), at })
    }),
    ("the workflow is paused", |scene, _, _| {
        let at = scene.world()?.at();
        scene.give(Input::Pause { at })
    }),
    ("the workflow is resumed", |scene, _, _| {
        let at = scene.world()?.at();
        scene.give(Input::Resume { at })
    }),
    ("the operator retries", |scene, _, _| operate(scene, Operate::Retry)),
    ("the operator skips", |scene, _, _| operate(scene, Operate::Skip)),
    ("the operator abandons", |scene, _, _| operate(scene, Operate::Abandon)),
    ("the operator resolves with", |scene, _, block| operate(scene, Operate::Resolve(yaml(needed(block)?)?))),
    ("{} is answered late with {}", |scene, words, _| scene.answer_late(words[0], &reply(words[1])?)),
    ("{} is answered with {}", |scene, words, _| scene.answer_open(words[0], &reply(words[1])?)),
    ("an event nobody waits for arrives", |scene, _, block| match scene.event(&yaml(needed(block)?)?)? {
        0 => Ok(()),
        listening => Err(format!("{listening} tasks wait for it")),
    }),
    ("an event arrives", |scene, _, block| match scene.event(&yaml(needed(block)?)?)? {
        0 => Err("no task listens for it".to_owned()),
        _ => Ok(()),
    }),
    // Then: how it ends.
    ("the workflow should complete with output", |scene, _, block| {
        status(scene, "completed")?;
        same(&output(scene)?, &yaml(needed(block)?)?)
    }),
    ("the workflow should complete", |scene, _, _| status(scene, "completed")),
    ("the workflow should fault with error", |scene, _, block| {
        status(scene, "faulted")?;
        let fault = scene.world()?.state.fault().map(|fault| json!(fault)).unwrap_or_default();
        includes(&fault, &yaml(needed(block)?)?)
    }),
    ("the workflow should fault", |scene, _, _| status(scene, "faulted")),
    ("the workflow should be {}", |scene, words, _| status(scene, words[0])),
    ("the workflow should have ended after {}", |scene, words, _| {
        let state = &scene.world()?.state;
        let took =
            state.ended_at().zip(state.started_at()).map(|(end, start)| end.as_millis() - start.as_millis());
        same(&took, &Some(millis(words[0])?))
    }),
    ("the saga should be {}", |scene, words, _| {
        same(&scene.world()?.state.saga().to_string().as_str(), &words[0])
    }),
    ("the workflow output should have a '{}' property with value", |scene, words, block| {
        same(property(&output(scene)?, words[0]), &yaml(needed(block)?)?)
    }),
    ("the workflow output should have a '{}' property containing {} items", |scene, words, _| {
        let output = output(scene)?;
        let items = property(&output, words[0]).as_array().map(Vec::len);
        same(&items, &words[1].parse().ok())
    }),
    ("the workflow output should have properties {}", |scene, words, _| {
        let output = output(scene)?;
        let missing = words[0].split(", ").find(|name| property(&output, name.trim_matches('\'')).is_null());
        missing.map_or(Ok(()), |name| Err(format!("there is no {name} in {output}")))
    }),
    // Then: what was asked of whom.
    ("nothing should be called", |scene, _, _| same(&calls(scene), &Vec::new())),
    ("the calls should be {}", |scene, words, _| same(&calls(scene), &list(words[0]))),
    ("{} should not be called", |scene, words, _| same(&asked(scene, words[0]).len(), &0)),
    ("{} should be called once", |scene, words, _| same(&asked(scene, words[0]).len(), &1)),
    ("{} should be called {} times", |scene, words, _| {
        same(&Some(asked(scene, words[0]).len()), &words[1].parse().ok())
    }),
    ("{} should be called at {}", |scene, words, _| {
        let expected: Vec<i64> = list(words[1]).into_iter().map(millis).collect::<Result<_, _>>()?;
        let found: Vec<i64> = asked(scene, words[0]).iter().map(|index| scene.asked[*index].at).collect();
        same(&found, &expected)
    }),
    ("{} should be called with the key {}", |scene, words, _| {
        for index in called(scene, words[0])? {
            same(&scene.asked[index].key(), &words[1])?;
        }
        Ok(())
    }),
    ("{} should be called with the forward key {}", |scene, words, _| {
        for index in called(scene, words[0])? {
            let Effect::Call { forward_key, .. } = &scene.asked[index].effect else { continue };
            same(&forward_key.as_deref(), &Some(words[1]))?;
        }
        Ok(())
    }),
    ("{} should be called with one key", |scene, words, _| {
        let indices = called(scene, words[0])?;
        let mut keys: Vec<_> = indices.iter().map(|index| scene.asked[*index].key()).collect();
        keys.dedup();
        same(&keys.len(), &1)
    }),
    ("{} should be called with {} different keys", |scene, words, _| {
        let indices = called(scene, words[0])?;
        let mut keys: Vec<_> = indices.iter().map(|index| scene.asked[*index].key()).collect();
        keys.sort_unstable();
        keys.dedup();
        same(&Some(keys.len()), &words[1].parse().ok())
    }),
    ("{} should be called with", |scene, words, block| {
        let last = called(scene, words[0])?.last().copied().ok_or("never called")?;
        includes(&scene.asked[last].body(), &yaml(needed(block)?)?)
    }),
    ("{} should wait {} for its reply", |scene, words, _| {
        let last = called(scene, words[0])?.last().copied().ok_or("never called")?;
        let Effect::Call { timeout_ms, .. } = &scene.asked[last].effect else { return Err("no call".into()) };
        same(&i64::try_from(*timeout_ms).ok(), &Some(millis(words[1])?))
    }),
    // Then: the timeline.
    ("{} should run first", |scene, words, _| same(&ran(scene)?.first().copied(), &Some(words[0]))),
    ("{} should run last", |scene, words, _| same(&ran(scene)?.last().copied(), &Some(words[0]))),
    ("{} should run after {}", |scene, words, _| {
        let ran = ran(scene)?;
        let place = |name: &str| {
            ran.iter().position(|ran| *ran == name).ok_or_else(|| format!("`{name}` did not run: {ran:?}"))
        };
        if place(words[0])? > place(words[1])? { Ok(()) } else { Err(format!("the order was {ran:?}")) }
    }),
    ("the tasks should run in the order {}", |scene, words, _| same(&ran(scene)?, &list(words[0]))),
    ("{} should not run", |scene, words, _| {
        let ran = ran(scene)?;
        if ran.contains(&words[0]) { Err(format!("it ran: {ran:?}")) } else { Ok(()) }
    }),
    ("{} should have {} attempts", |scene, words, _| {
        same(&Some(scene.attempts(words[0], None)?), &words[1].parse().ok())
    }),
    ("nothing should be undone", |scene, _, _| same(&scene.undone()?, &Vec::new())),
    ("{} should be undone", |scene, words, _| {
        let (expected, mut found) = (list(words[0]), scene.undone()?);
        found.retain(|name| expected.contains(name));
        same(&found, &expected)
    }),
    ("only {} should be undone in this order", |scene, words, _| same(&scene.undone()?, &list(words[0]))),
    ("the compensation of {} should be {}", |scene, words, _| {
        let undo = scene.world()?.state.steps().iter().rev().find(|step| &*step.name == words[0]);
        let undo = undo.and_then(|step| step.undo.as_ref()).ok_or("it has no compensation due")?;
        same(&word(undo.status), &words[1].to_owned())
    }),
    ("the task {} should be {}", |scene, words, _| {
        let step = scene.world()?.state.steps().iter().rev().find(|step| &*step.name == words[0]);
        let step = step.ok_or_else(|| format!("no task `{}` ran", words[0]))?;
        same(&json!(step.status).as_str().unwrap_or_default(), &words[1])
    }),
    // Then: what is said about the document.
    ("the definition should be refused", |scene, _, _| match &scene.definition {
        Some(Err(_)) => Ok(()),
        _ => Err("it is accepted".to_owned()),
    }),
    ("there should be no warning", |scene, _, _| match findings(scene)? {
        [] => Ok(()),
        found => Err(format!("{found:#?}")),
    }),
    ("there should be a warning {} at {}", |scene, words, block| {
        finding(scene, Severity::Warning, words, block)
    }),
    ("there should be an error {} at {}", |scene, words, block| {
        finding(scene, Severity::Error, words, block)
    }),
];

/// Does what a step says, or checks it.
pub(super) fn perform(scene: &mut Scene, step: &Step<'_>) -> Check {
    for (pattern, perform) in STEPS {
        if let Some(words) = fit(pattern, step.text) {
            return perform(scene, &words, step.block.as_deref());
        }
    }
    Err("no such step; the vocabulary is in src/tests/features/steps.rs".to_owned())
}

/// Takes a sentence apart by a pattern.
fn fit<'s>(pattern: &str, text: &'s str) -> Option<Vec<&'s str>> {
    let mut literals = pattern.split("{}");
    let mut rest = text.strip_prefix(literals.next()?)?;
    let mut words = Vec::new();
    let mut literals = literals.peekable();
    while let Some(literal) = literals.next() {
        let is_last = literals.peek().is_none();
        let end = match (is_last, literal) {
            (true, "") => rest.len(),
            (true, literal) => rest.len() - rest.ends_with(literal).then_some(literal.len())?,
            (false, literal) => rest.find(literal)?,
        };
        words.push(&rest[..end]);
        rest = &rest[end + literal.len()..];
    }
    (rest.is_empty() && words.iter().all(|word| !word.is_empty())).then_some(words)
}

/// Parses a definition. The part every document shares may be left out: it is put behind, so that lines stay the same.
fn define(scene: &mut Scene, source: &str) -> Check {
    let header = "document: { dsl: '1.0.3', namespace: test, name: test, version: '1.0.0' }\n";
    let shared = if source.lines().any(|line| line.starts_with("document:")) { "" } else { header };
    scene.source = format!("{source}{shared}");
    scene.definition = Some(Definition::parse_with(&scene.source, "test.yaml", &scene.resources));
    Ok(())
}

fn operate(scene: &mut Scene, action: Operate) -> Check {
    let at = scene.world()?.at();
    scene.give(Input::Operator { action, who: "ann".to_owned(), why: "she looked".to_owned(), at })
}

fn replies(text: &str) -> Result<VecDeque<Reply>, String> {
    text.split(", then ").map(reply).collect()
}

fn reply(text: &str) -> Result<Reply, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (status, code) = rest.split_once(' ').unwrap_or((rest, ""));
    let fault = |fault: Fault| {
        let fault = status.parse().ok().map_or(fault.clone(), |status| fault.with_status(status));
        if code.is_empty() { fault } else { fault.with_code(code) }
    };
    Ok(match word {
        "ok" if rest.is_empty() => Reply::Ok(json!({})),
        "ok" => Reply::Ok(yaml(rest)?),
        "refused" => Reply::Refused(fault(Fault::communication("refused").with_status(409))),
        "lost" => Reply::Lost(fault(Fault::timeout("no reply in time"))),
        "nobody" => Reply::Nobody,
        "never" => Reply::Never,
        _ => return Err(format!("`{text}` is no reply")),
    })
}

fn millis(text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| format!("`{text}` is no length of time"))?;
    Ok(number
        * match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("`{text}` is no length of time: write 500ms, 3s, 2m, 1h or 1d")),
        })
}

fn yaml(text: &str) -> Result<Value, String> {
    Node::parse(text).map(|node| node.value()).map_err(|problem| format!("not YAML: {problem:?}"))
}

fn needed(block: Option<&str>) -> Result<&str, String> {
    block.ok_or_else(|| "a block of YAML belongs below it".to_owned())
}

fn list(text: &str) -> Vec<&str> {
    text.split(", ").collect()
}

fn status(scene: &Scene, expected: &str) -> Check {
    same(&scene.world()?.state.status().to_string().as_str(), &expected)
}

fn output(scene: &Scene) -> Result<Value, String> {
    Ok(scene.world()?.state.output().cloned().unwrap_or_default())
}

fn property<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, key| &value[key])
}

fn calls(scene: &Scene) -> Vec<&str> {
    scene.asked.iter().map(|asked| asked.target.as_str()).collect()
}

fn asked(scene: &Scene, who: &str) -> Vec<usize> {
    (0..scene.asked.len()).filter(|index| scene.asked[*index].is(who)).collect()
}

fn called(scene: &Scene, who: &str) -> Result<Vec<usize>, String> {
    Some(asked(scene, who))
        .filter(|asked| !asked.is_empty())
        .ok_or_else(|| format!("`{who}` was never called"))
}

fn ran(scene: &Scene) -> Result<Vec<&str>, String> {
    let steps = scene.world()?.state.steps().iter();
    Ok(steps.filter(|step| step.status != crate::StepStatus::Skipped).map(|step| &*step.name).collect())
}

fn word(status: UndoStatus) -> String {
    json!(status).as_str().unwrap_or_default().to_owned()
}

fn findings(scene: &Scene) -> Result<&[Diagnostic], String> {
    match scene.definition.as_ref().ok_or("no workflow was given, or it was started already")? {
        Ok(definition) => Ok(definition.warnings()),
        Err(found) => Ok(found.as_slice()),
    }
}

/// Looks for a finding by its code and place; a block below says what its message and fix must contain.
fn finding(scene: &Scene, severity: Severity, words: &[&str], block: Option<&str>) -> Check {
    let found = findings(scene)?;
    let wanted = |finding: &&Diagnostic| {
        finding.severity == severity
            && finding.code == words[0]
            && format!("{}:{}", finding.line, finding.column) == words[1]
            && block.is_none_or(|block| block.lines().all(|line| finding.to_string().contains(line.trim())))
    };
    match found.iter().find(wanted) {
        Some(_) => Ok(()),
        None => Err(format!("found only: {found:#?}")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Check {
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
}

/// Checks that a value has what another one has, and maybe more in its objects.
fn includes(found: &Value, expected: &Value) -> Check {
    let (Value::Object(found_entries), Value::Object(expected_entries)) = (found, expected) else {
        return same(found, expected);
    };
    expected_entries.iter().try_for_each(|(key, expected)| {
        let found = found_entries.get(key).ok_or_else(|| format!("there is no `{key}` in {found}"))?;
        includes(found, expected).map_err(|problem| format!("{key}: {problem}"))
    })
}
