//! Runs as a faultless system could have made them, and ways to spoil each.

use proptest::prelude::*;
use serde_json::json;
use sinew::workflow::{StepCompensation, WorkflowInstance, WorkflowStep};

use super::{Effect, Evidence, Told, Verb, Wrong};

/// How one saga goes.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    steps: usize,
    end: End,
    /// How often each effect is repeated before the next: at least once is what is promised.
    repeats: Vec<u8>,
    waits: bool,
}

/// How its last step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed,
    Refused,
    /// The reply was lost after the work was done, or before.
    Lost {
        done: bool,
    },
    /// Refused, and the undo of the first step never succeeds.
    Stuck,
}

pub(super) fn plots() -> impl Strategy<Value = Vec<Plot>> {
    let end = prop_oneof![
        Just(End::Completed),
        Just(End::Refused),
        any::<bool>().prop_map(|done| End::Lost { done }),
        Just(End::Stuck),
    ];
    let repeats = proptest::collection::vec(0_u8..3, 10);
    let plot = (1_usize..5, end, repeats, any::<bool>());
    let plot = plot.prop_map(|(steps, end, repeats, waits)| Plot { steps, end, repeats, waits });
    proptest::collection::vec(plot, 1..6)
}

/// Tells what would be seen of them; `order` interleaves their effects.
pub(super) fn run(plots: &[Plot], order: &[u8]) -> Evidence {
    let mut evidence = Evidence::default();
    let mut queues = Vec::new();
    for (number, plot) in plots.iter().enumerate() {
        let id = format!("g-{number}");
        let (instance, effects) = plot.play(&id);
        let told = match (plot.waits, plot.end) {
            (false, _) => Told::Accepted,
            (true, End::Completed) => Told::Completed(instance.output.clone()),
            (true, _) => Told::Faulted(instance.saga.clone()),
        };
        evidence.told.insert(id.clone(), vec![told]);
        evidence.instances.insert(id, instance);
        queues.push(effects.into_iter());
    }
    for turn in order {
        let count = queues.len();
        evidence.effects.extend(queues[usize::from(*turn) % count].next());
    }
    queues.into_iter().for_each(|rest| evidence.effects.extend(rest));
    evidence
}

impl Plot {
    fn play(&self, id: &str) -> (WorkflowInstance, Vec<Effect>) {
        let last = self.steps - 1;
        let outcome = |index: usize| match self.end {
            _ if index < last => "completed",
            End::Completed => "completed",
            End::Refused | End::Stuck => "refused",
            End::Lost { .. } => "unknown",
        };
        let mut steps: Vec<WorkflowStep> = (0..self.steps).map(|index| step(index, outcome(index))).collect();
        let done = |index: usize| match outcome(index) {
            "unknown" => self.end == End::Lost { done: true },
            outcome => outcome == "completed",
        };
        let mut effects: Vec<Effect> = (0..self.steps)
            .filter(|index| done(*index))
            .map(|index| effect(id, index, Verb::Perform))
            .collect();
        let mut saga = if self.end == End::Completed { "committed" } else { "none" };
        if self.end != End::Completed {
            for (index, step) in steps.iter_mut().enumerate().rev().filter(|(_, s)| s.outcome != "refused") {
                let stuck = index == 0 && self.end == End::Stuck;
                saga = if stuck { "stuck" } else { "compensated" };
                step.compensation = Some(undone(saga));
                if !stuck {
                    effects.push(effect(id, index, Verb::Revoke));
                }
            }
        }
        let again = effects.iter().zip(self.repeats.iter().cycle());
        let effects = again.flat_map(|(one, more)| vec![one.clone(); usize::from(*more) + 1]).collect();
        (instance(id, if self.end == End::Completed { "completed" } else { "faulted" }, saga, steps), effects)
    }
}

/// Ways to spoil a run.
pub(super) const PLANTS: [(Wrong, Plant); 12] = [
    (Wrong::Missing, |run, id| run.instances.remove(id).is_some()),
    (Wrong::Unfinished, |run, id| {
        let instance = run.instances.get_mut(id).unwrap();
        (instance.status, instance.ended_ms) = ("running".to_owned(), None);
        true
    }),
    (Wrong::ToldOtherwise, |run, id| {
        let told = Told::Completed(Some(json!("something else")));
        run.told.entry(id.to_owned()).or_default().push(told);
        true
    }),
    (Wrong::Unrecorded, |run, id| {
        let unknown = effect(id, 7, Verb::Perform);
        run.effects.insert(0, unknown);
        true
    }),
    (Wrong::Rekeyed, |run, id| {
        let Some(index) = run.effects.iter().position(|one| one.saga == id) else { return false };
        let again = Effect { key: format!("{}#2", run.effects[index].key), ..run.effects[index].clone() };
        run.effects.insert(index + 1, again);
        true
    }),
    (Wrong::Phantom, |run, id| {
        let claims = run.instances[id].steps.iter().any(|step| step.outcome == "completed");
        run.effects.retain(|one| one.saga != id);
        claims
    }),
    (Wrong::DoneThoughRefused, |run, id| {
        let refused = run.instances[id].steps.iter().position(|step| step.outcome == "refused");
        let done = refused.map(|index| effect(id, index, Verb::Perform));
        done.map(|done| run.effects.insert(0, done)).is_some()
    }),
    (Wrong::WronglyUndone, |run, id| {
        let completed = run.instances[id].status == "completed";
        run.effects.push(effect(id, 0, Verb::Revoke));
        completed
    }),
    (Wrong::UndoneEarly, |run, id| {
        let own = |verb| move |one: &&Effect| one.saga == id && one.verb == verb;
        let undo = run.effects.iter().find(own(Verb::Revoke)).cloned();
        let Some(undo) = undo else { return false };
        // What it undoes may never have been known to be done.
        let known = run.effects.iter().any(|one| one.saga == id && Some(&one.key) == undo.forward.as_ref());
        let step = run.instances[id].steps.iter().find(|step| step.name == undo.step);
        let completed = step.is_some_and(|step| step.outcome == "completed");
        run.effects.insert(0, undo);
        known && completed
    }),
    (Wrong::DoneAfterUndo, |run, id| {
        let undone = run.effects.iter().any(|one| one.saga == id && one.verb == Verb::Revoke);
        let done = run.effects.iter().find(|one| one.saga == id && one.verb == Verb::Perform).cloned();
        done.map(|done| run.effects.push(done)).is_some() && undone
    }),
    (Wrong::OutOfOrder, |run, id| {
        let undos: Vec<usize> = (0..run.effects.len())
            .filter(|index| run.effects[*index].saga == id && run.effects[*index].verb == Verb::Revoke)
            .collect();
        let (Some(first), Some(last)) = (undos.first(), undos.last()) else { return false };
        let differ = run.effects[*first].key != run.effects[*last].key;
        run.effects.swap(*first, *last);
        differ
    }),
    (Wrong::LeftOver, |run, id| {
        let instance = &run.instances[id];
        let done = run.effects.iter().any(|one| one.saga == id && one.verb == Verb::Perform);
        let compensated = instance.saga == "compensated";
        run.effects.retain(|one| one.saga != id || one.verb == Verb::Perform);
        compensated && done
    }),
];

/// Spoils what is known of one saga; says whether it could.
type Plant = fn(&mut Evidence, &str) -> bool;

fn effect(saga: &str, index: usize, verb: Verb) -> Effect {
    let forward = format!("{saga}/do/{index}/s{index}");
    let (key, forward) = match verb {
        Verb::Perform => (forward, None),
        Verb::Revoke => (format!("{forward}/undo"), Some(forward)),
    };
    Effect { verb, saga: saga.to_owned(), step: format!("s{index}"), key, forward, at_us: 0, pid: 1 }
}

fn step(index: usize, outcome: &str) -> WorkflowStep {
    WorkflowStep {
        name: format!("s{index}"),
        pointer: format!("/do/{index}/s{index}"),
        kind: "call".to_owned(),
        outcome: outcome.to_owned(),
        attempts: 1,
        started_ms: 0,
        ended_ms: Some(1),
        error: None,
        by: None,
        claims: Vec::new(),
        compensation: None,
    }
}

fn undone(outcome: &str) -> StepCompensation {
    StepCompensation { outcome: outcome.to_owned(), attempts: 1, started_ms: Some(1), ended_ms: Some(2) }
}

fn instance(id: &str, status: &str, saga: &str, steps: Vec<WorkflowStep>) -> WorkflowInstance {
    let json = json!({
        "id": id, "name": "plot", "version": "1", "status": status, "saga": saga, "started_ms": 0, "ended_ms": 2,
    });
    let output = (status == "completed").then(|| json!({ "id": id }));
    WorkflowInstance { output, steps, ..serde_json::from_value(json).unwrap() }
}
