//! A world for one instance: does its effects by a script, and checks on every step what must always hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use expect_test::Expect;
use serde_json::{Value, json};

use super::define;
use crate::language::plan::SagaPolicy;
use crate::{
    Definition, Effect, Entry, Fault, Input, Outcome, Parent, Saga, State, Status, Step, StepStatus, TaskId,
    Timestamp, Undo, UndoStatus, apply, decide, run,
};

/// An instance and the world around it.
pub(super) struct World {
    pub(super) definition: Definition,
    pub(super) state: State,
    pub(super) log: Vec<Entry>,
    pub(super) now: i64,
    /// Effects not done yet.
    pub(super) due: Vec<Effect>,
    /// What happened, in words.
    pub(super) story: Vec<String>,
    /// The steps whose work in flight was to stop.
    pub(super) stopped: Vec<String>,
    /// The key of every call and event by task and attempt: repeating one must repeat its key.
    keys: BTreeMap<(TaskId, u32), String>,
}

/// Runs a workflow against a script such as `reserve ok; charge refused, ok; undo reserve unknown, ok` and compares what
/// happened. What the script does not mention is done.
#[track_caller]
pub(super) fn check(workflow: &str, script: &str, expected: Expect) {
    let mut world = World::start(define(workflow), json!({ "order": 7 }));
    world.play(script);
    expected.assert_eq(&world.summary());
}

impl World {
    pub(super) fn start(definition: Definition, input: Value) -> Self {
        let mut world = Self::new(definition);
        let at = world.at();
        world.give(Input::Start { id: "i".to_owned(), input, at, trace: Some("trace".to_owned()) });
        world
    }

    /// Starts it as the child of another instance.
    pub(super) fn start_child(definition: Definition, input: Value) -> Self {
        let mut world = Self::new(definition);
        let (at, parent) = (world.at(), Parent { id: "p".to_owned(), task: TaskId(1), attempt: 1 });
        world.give(Input::StartChild { id: "i".to_owned(), input, parent, at, trace: None });
        world
    }

    pub(super) fn is_child(&self) -> bool {
        self.state.parent.is_some()
    }

    fn new(definition: Definition) -> Self {
        let (state, log, due, story) = (State::default(), Vec::new(), Vec::new(), Vec::new());
        Self { definition, state, log, now: 1_000, due, story, stopped: Vec::new(), keys: BTreeMap::new() }
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// Gives the instance an input and checks everything that must hold after it.
    pub(super) fn give(&mut self, input: Input) {
        let before = self.state.clone();
        let decided = decide(&self.definition, &before, &input).unwrap();
        let entries = run(&self.definition, &mut self.state, input).unwrap();
        assert_eq!(decided, entries, "deciding is repeatable");
        let mut folded = before.clone();
        entries.iter().for_each(|entry| apply(&mut folded, entry).unwrap());
        assert_eq!(folded, self.state, "applying the entries gives the state");
        if before.is_closed() {
            assert_eq!(entries, [], "terminal is final");
        }
        let fresh = self.state.effects(&entries);
        let due = self.state.due();
        let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. } | Effect::Recall { .. });
        assert!(!due.iter().any(stops), "nothing is left to stop after a recovery");
        assert!(
            fresh.iter().all(|effect| stops(effect) || due.contains(effect)),
            "fresh effects are due: {fresh:?} {due:?}"
        );
        self.check_keys(&fresh);
        for effect in fresh {
            match &effect {
                Effect::Stop { task, .. } => {
                    let name = self.state.step(*task).map(|step| step.name.to_string());
                    self.stopped.push(name.unwrap_or_default());
                }
                // Nobody answers it.
                Effect::Recall { .. } => {}
                _ => self.due.push(effect),
            }
        }
        self.log.extend(entries);
        check_invariants(&self.state, &self.definition.plan.saga);
    }

    /// Lets an event arrive at everybody who listens.
    pub(super) fn arrive(&mut self, event: Value, origin: Option<&str>) {
        self.now += 10;
        let at = self.at();
        for effect in self.state.due() {
            let Effect::Listen { task, attempt, .. } = effect else { continue };
            let (event, origin) = (Arc::new(event.clone()), origin.map(str::to_owned));
            self.give(Input::Event { task, attempt, event, origin, at });
        }
    }

    /// Loses the memory of the world: state and effects come from the log alone.
    pub(super) fn crash(&mut self) {
        let stored: Vec<Entry> = rmp_serde::from_slice(&rmp_serde::to_vec_named(&self.log).unwrap()).unwrap();
        let mut recovered = State::default();
        stored.iter().for_each(|entry| apply(&mut recovered, entry).unwrap());
        assert_eq!(recovered, self.state, "replay gives the live state");
        self.state = recovered;
        self.due = self.state.due();
        let due = self.due.clone();
        self.check_keys(&due);
    }

    /// Checks that the state survives being stored.
    pub(super) fn check_storage(&self) {
        let packed: State = rmp_serde::from_slice(&rmp_serde::to_vec_named(&self.state).unwrap()).unwrap();
        assert_eq!(packed, self.state);
        let json: State = serde_json::from_str(&serde_json::to_string(&self.state).unwrap()).unwrap();
        assert_eq!(json, self.state);
        let entries: Vec<Entry> = serde_json::from_str(&serde_json::to_string(&self.log).unwrap()).unwrap();
        assert_eq!(entries, self.log);
    }

    /// Does what is due until nothing is: calls in order, and timers once nothing else is left.
    pub(super) fn play(&mut self, script: &str) {
        let mut script = read(script);
        while let Some(effect) = self.take() {
            self.perform(effect, &mut script);
        }
        self.check_storage();
        self.crash();
        let unused: Vec<_> =
            script.iter().filter(|(_, outcomes)| !outcomes.is_empty()).map(|(name, _)| name).collect();
        assert!(unused.is_empty(), "never happened: {unused:?}; happened: {}", self.summary());
    }

    pub(super) fn summary(&self) -> String {
        let mut summary = self.story.join(" ");
        if !summary.is_empty() {
            summary.push(' ');
        }
        write!(summary, "→ {}", self.state.status()).unwrap();
        if self.state.saga() != Saga::None {
            write!(summary, ", {}", self.state.saga()).unwrap();
        }
        summary
    }

    fn take(&mut self) -> Option<Effect> {
        let ready = self.due.iter().position(|effect| !matches!(effect, Effect::Timer { .. }));
        let next = ready.or_else(|| {
            let moment = |effect: &Effect| {
                if let Effect::Timer { at, .. } = effect { *at } else { Timestamp::default() }
            };
            (0..self.due.len()).min_by_key(|index| moment(&self.due[*index]))
        })?;
        Some(self.due.remove(next))
    }

    fn perform(&mut self, effect: Effect, script: &mut BTreeMap<String, VecDeque<String>>) {
        let (name, undo) = match &effect {
            Effect::Timer { task, timer, at } => {
                if self.state.due().contains(&effect) {
                    self.now = self.now.max(at.as_millis());
                }
                let at = self.at();
                return self.give(Input::Timer { task: *task, timer: *timer, at });
            }
            Effect::Emit { event, .. } => (format!("event {}", event["type"].as_str().unwrap()), false),
            Effect::Call { name, undo, .. } => (name.to_string(), *undo),
            Effect::Listen { .. } | Effect::Stop { .. } | Effect::Recall { .. } => return,
        };
        let name = if undo { format!("undo {name}") } else { name };
        let outcome = script.get_mut(&name).and_then(VecDeque::pop_front).unwrap_or_else(|| "ok".to_owned());
        self.answer(&effect, &name.replace("undo ", "↩"), &outcome);
    }

    /// Answers a call or an emit with an outcome in words.
    pub(super) fn answer(&mut self, effect: &Effect, name: &str, outcome: &str) {
        let (Effect::Call { task, attempt, .. } | Effect::Emit { task, attempt, .. }) = effect else {
            return;
        };
        let (sign, outcome) = match outcome.split_once(' ').unwrap_or((outcome, "")) {
            ("ok", "") => ("✓", Outcome::Completed(json!({ "by": name }))),
            ("ok", value) => ("✓", Outcome::Completed(serde_json::from_str(value).unwrap())),
            ("refused", _) => {
                ("✗", Outcome::Refused(Fault::communication("refused").with_status(409).with_code("refused")))
            }
            ("nobody", _) => {
                ("∅", Outcome::NotSent(Fault::communication("no such operation").with_status(503)))
            }
            ("lost", _) => ("?", Outcome::Unknown(Fault::timeout("no reply"))),
            ("cancel", _) => {
                self.story.push(format!("{name}… cancel"));
                let at = self.at();
                return self.give(Input::Cancel { reason: Some("enough".to_owned()), at });
            }
            ("never", _) => return self.story.push(format!("{name}…")),
            other => panic!("no such outcome: {other:?}"),
        };
        self.now += 10;
        self.story.push(format!("{name} {sign}"));
        let at = self.at();
        self.give(Input::Reply { task: *task, attempt: *attempt, outcome, at });
    }

    fn check_keys(&mut self, effects: &[Effect]) {
        for effect in effects {
            let (task, attempt, key) = match effect {
                Effect::Call { task, attempt, key, .. } => (task, attempt, &**key),
                Effect::Emit { task, attempt, id, .. } => (task, attempt, id.as_str()),
                Effect::Timer { .. }
                | Effect::Listen { .. }
                | Effect::Stop { .. }
                | Effect::Recall { .. } => continue,
            };
            let known = self.keys.entry((*task, *attempt)).or_insert_with(|| key.to_owned());
            assert_eq!(known, key, "an effect keeps its key");
        }
    }
}

/// Checks what must hold of every state.
pub(super) fn check_invariants(state: &State, policy: &SagaPolicy) {
    let undone: Vec<_> =
        state.steps.iter().filter_map(|step| Some((step.as_ref(), step.undo.as_ref()?))).collect();
    only_what_was_done_is_undone(&undone);
    undos_do_not_overlap(&undone, policy);
    undos_reverse_the_order_of_starts(&undone, policy);
    forward_work_ends(state);
    nothing_past_the_pivot_is_undone(state, &undone);
    every_eligible_task_has_one_outcome(state, &undone);
    timers_and_attempts_are_told_apart(state);
}

type Undone<'s> = [(&'s Step, &'s Undo)];

fn is(status: UndoStatus) -> impl Fn(&&(&Step, &Undo)) -> bool {
    move |undo| undo.1.status == status
}

/// Undone ⊆ completed ∪ unknown.
fn only_what_was_done_is_undone(undone: &Undone<'_>) {
    for (step, _) in undone {
        let done =
            step.attempts.iter().any(|attempt| attempt.outcome == Some(crate::AttemptOutcome::Completed));
        let eligible = matches!(step.status, StepStatus::Completed | StepStatus::Unknown) || done;
        assert!(eligible, "undone ⊆ completed ∪ unknown: {step:?}");
    }
}

fn undos_do_not_overlap(undone: &Undone<'_>, policy: &SagaPolicy) {
    let running = undone.iter().filter(is(UndoStatus::Running)).count();
    assert!(policy.parallel || running <= 1, "undos overlap: {undone:?}");
}

fn undos_reverse_the_order_of_starts(undone: &Undone<'_>, policy: &SagaPolicy) {
    if !policy.park || policy.parallel {
        return;
    }
    // What lost a race had its turn before.
    let undone: Vec<_> = undone.iter().filter(|(_, undo)| !undo.lost).copied().collect();
    // In start order: those whose turn has not come, then at most one that runs, then those that had their turn.
    let mut later = undone.iter().skip_while(is(UndoStatus::Pending)).skip(1);
    let waiting =
        |(_, undo): &(&Step, &Undo)| matches!(undo.status, UndoStatus::Pending | UndoStatus::Running);
    assert!(!later.any(waiting), "not in reverse start order: {undone:?}");
}

fn forward_work_ends(state: &State) {
    if state.status() != Status::Running {
        let frames = state.frames.values().filter(|frame| frame.undo.is_none()).count();
        assert_eq!(frames, 0, "no forward work after the end");
    }
}

fn nothing_past_the_pivot_is_undone(state: &State, undone: &Undone<'_>) {
    if state.saga() == Saga::Committed {
        let lost = undone.iter().all(|(_, undo)| undo.lost);
        assert!(lost && state.records.is_empty(), "nothing past the pivot is undone");
    }
}

fn every_eligible_task_has_one_outcome(state: &State, undone: &Undone<'_>) {
    if state.is_closed() {
        assert!(state.due().is_empty() && state.frames.is_empty(), "nothing is due at the end");
        assert!(
            undone.iter().all(|(_, undo)| undo.status.is_settled()),
            "every eligible task has its one outcome"
        );
    }
}

/// What is due can be answered without doubt: no two effects ask for the same answer.
fn timers_and_attempts_are_told_apart(state: &State) {
    let mut answers = BTreeSet::new();
    for effect in state.due() {
        let answer = match effect {
            Effect::Timer { task, timer, .. } => (task, true, timer),
            // Answered by nobody: the call it takes back is over.
            Effect::Recall { .. } => continue,
            Effect::Call { task, attempt, .. }
            | Effect::Emit { task, attempt, .. }
            | Effect::Listen { task, attempt, .. }
            | Effect::Stop { task, attempt } => (task, false, attempt),
        };
        assert!(answers.insert(answer), "two effects with one answer: {answer:?}");
    }
}

fn read(script: &str) -> BTreeMap<String, VecDeque<String>> {
    let lines = script.split(';').map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let words = if line.starts_with("undo ") || line.starts_with("event ") { 2 } else { 1 };
            let at = line.match_indices(' ').nth(words - 1).map_or(line.len(), |(at, _)| at);
            let outcomes = line[at..].split("|").map(|outcome| outcome.trim().to_owned()).collect();
            (line[..at].to_owned(), outcomes)
        })
        .collect()
}
