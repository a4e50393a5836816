//! The checker of P8: holds what starters were told and what histories say against what services really saw. Pure.
//!
//! It believes nobody alone. A history that claims work no service saw, and work no history knows, are violations
//! alike; so is an order of effects that no saga allows, however well everything ended.

mod generated;
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::workflow::{WorkflowInstance, WorkflowStep};

/// Everything there is to judge by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What the starters of each instance were told; an instance that stands here was accepted.
    pub(crate) told: BTreeMap<String, Vec<Told>>,
    /// Every instance that was accepted, asked for, or named by an effect, as it was read in the end.
    pub(crate) instances: BTreeMap<String, WorkflowInstance>,
    /// What the services did, in the order they did it, repetitions included.
    pub(crate) effects: Vec<Effect>,
}

/// What a starter was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// The start is stored.
    Accepted,
    /// It completed with this output.
    Completed(Option<Value>),
    /// It faulted, and its saga stood like this.
    Faulted(String),
}

/// What a service did, as it noted it in that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Effect {
    pub(crate) verb: Verb,
    /// The instance it was done for and the step of it, as the body of the request says: whatever the key says.
    pub(crate) saga: String,
    pub(crate) step: String,
    /// The idempotency key it was asked under.
    pub(crate) key: String,
    /// On an undo, the key of what is undone.
    pub(crate) forward: Option<String>,
    /// When, in microseconds since 1970, and by which process; for whoever reads a violation.
    pub(crate) at_us: u128,
    pub(crate) pid: u32,
}

/// The direction of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Verb {
    Perform,
    Revoke,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// An accepted instance is gone.
    Missing,
    /// It neither ended nor is stuck.
    Unfinished,
    /// A starter was told something else than the history says.
    ToldOtherwise,
    /// An effect that no record asked for.
    Unrecorded,
    /// One work under several keys, or one key for several works.
    Rekeyed,
    /// The history claims work that no service did.
    Phantom,
    /// The history says that nothing was done, and something was.
    DoneThoughRefused,
    /// Something was undone that counts, or that was never done.
    WronglyUndone,
    /// An undo came before what it undoes.
    UndoneEarly,
    /// Forward work after the first undo.
    DoneAfterUndo,
    /// Undone in another order than the strict reverse of the start.
    OutOfOrder,
    /// A compensated saga left an effect behind.
    LeftOver,
}

/// One violation; displays as a line for whoever has to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) wrong: Wrong,
    pub(crate) saga: String,
    detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.saga, self.wrong, self.detail)
    }
}

/// Returns every violation.
pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut effects = BTreeMap::<&str, Vec<&Effect>>::new();
    for effect in &evidence.effects {
        effects.entry(&effect.saga).or_default().push(effect);
    }
    let mut found = Found::default();
    for (id, told) in &evidence.told {
        match evidence.instances.get(id) {
            Some(instance) => check_told(&mut found, instance, told),
            None => found.note(Wrong::Missing, id, format!("its starter was told {told:?}")),
        }
    }
    for (id, done) in &effects {
        if !evidence.instances.contains_key(*id) {
            found.note(Wrong::Unrecorded, id, format!("nobody knows the instance of {done:?}"));
        }
    }
    for (id, instance) in &evidence.instances {
        let case = Case { instance, effects: effects.get(id.as_str()).map_or(&[], Vec::as_slice) };
        case.check(&mut found);
    }
    found.violations
}

#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
}

impl Found {
    fn note(&mut self, wrong: Wrong, saga: &str, detail: String) {
        self.violations.push(Violation { wrong, saga: saga.to_owned(), detail });
    }
}

fn check_told(found: &mut Found, instance: &WorkflowInstance, told: &[Told]) {
    for told in told {
        let same = match told {
            Told::Accepted => true,
            Told::Completed(output) => instance.status == "completed" && instance.output == *output,
            // Who is told in the middle of the undo hears that.
            Told::Faulted(saga) => {
                instance.status == "faulted" && (*saga == instance.saga || saga == "compensating")
            }
        };
        if !same {
            let WorkflowInstance { id, status, saga, output, .. } = instance;
            let history = format!("{status}, {saga}, {output:?}");
            found.note(Wrong::ToldOtherwise, id, format!("told {told:?}, the history says {history}"));
        }
    }
}

/// One instance and its effects.
struct Case<'a> {
    instance: &'a WorkflowInstance,
    effects: &'a [&'a Effect],
}

impl<'a> Case<'a> {
    fn check(&self, found: &mut Found) {
        self.check_end(found);
        self.check_records(found);
        self.check_keys(found);
        self.check_claims(found);
        self.check_order(found);
    }

    fn note(&self, found: &mut Found, wrong: Wrong, detail: String) {
        found.note(wrong, &self.instance.id, detail);
    }

    fn check_end(&self, found: &mut Found) {
        let WorkflowInstance { status, saga, ended_ms, .. } = self.instance;
        let visible = match (status.as_str(), saga.as_str()) {
            ("completed", "none" | "committed") | ("faulted", "none" | "compensated") => ended_ms.is_some(),
            ("faulted", "stuck") => true,
            _ => false,
        };
        if !visible {
            self.note(found, Wrong::Unfinished, format!("it is {status}, {saga}, ended at {ended_ms:?}"));
        }
    }

    /// Each effect has its task in the history, and a task that was tried.
    fn check_records(&self, found: &mut Found) {
        for effect in self.effects {
            let recorded =
                self.step_of(&effect.key, effect.verb).is_some_and(|(_, step)| match effect.verb {
                    Verb::Perform => step.attempts > 0,
                    Verb::Revoke => step.compensation.as_ref().is_some_and(|undo| undo.attempts > 0),
                });
            if !recorded {
                self.note(found, Wrong::Unrecorded, format!("{effect:?}"));
            }
        }
    }

    /// One key for one work, one work under one key, and an undo names the key of its work.
    fn check_keys(&self, found: &mut Found) {
        let (mut works, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for effect in self.effects {
            let work = (effect.verb, effect.step.as_str());
            let key = *works.entry(work).or_insert(effect.key.as_str());
            let known = *keys.entry(effect.key.as_str()).or_insert(work);
            let forward = match effect.verb {
                Verb::Perform => effect.forward.is_none(),
                Verb::Revoke => effect.forward.as_deref() == effect.key.strip_suffix(UNDO),
            };
            if key != effect.key || known != work || !forward {
                self.note(found, Wrong::Rekeyed, format!("{effect:?}, before as {known:?} under {key}"));
            }
        }
    }

    /// What the history says of each step is what the services saw.
    fn check_claims(&self, found: &mut Found) {
        for step in &self.instance.steps {
            let (done, undone) = (self.did(step, Verb::Perform), self.did(step, Verb::Revoke));
            let claims = |wrong, holds: bool, found: &mut Found| {
                if holds {
                    self.note(found, wrong, format!("{step:?}, done: {done}, undone: {undone}"));
                }
            };
            let compensated = step.compensation.as_ref().is_some_and(|undo| undo.outcome == "compensated");
            claims(Wrong::Phantom, step.outcome == "completed" && !done, found);
            // An undo of what may have been done, and was not, may find nothing to do.
            let certain = step.outcome == "completed" || done;
            claims(Wrong::Phantom, compensated && certain && !undone, found);
            claims(Wrong::DoneThoughRefused, step.outcome == "refused" && done, found);
            let eligible = matches!(step.outcome.as_str(), "completed" | "unknown");
            let counts = self.instance.status == "completed" || !eligible;
            claims(Wrong::WronglyUndone, undone && counts, found);
            claims(Wrong::LeftOver, self.instance.saga == "compensated" && done && !undone, found);
            let nothing_undone = self.instance.status == "faulted" && self.instance.saga == "none";
            claims(Wrong::LeftOver, nothing_undone && done, found);
        }
    }

    /// Forward work ends before the first undo; undos go backwards, one at a time.
    fn check_order(&self, found: &mut Found) {
        let (mut performed, mut undoing) = (HashSet::new(), None::<usize>);
        for effect in self.effects {
            let Some((index, step)) = self.step_of(&effect.key, effect.verb) else { continue };
            match (effect.verb, undoing) {
                (Verb::Perform, None) => drop(performed.insert(index)),
                (Verb::Perform, Some(_)) => self.note(found, Wrong::DoneAfterUndo, format!("{effect:?}")),
                (Verb::Revoke, before) => {
                    if step.outcome == "completed" && !performed.contains(&index) {
                        self.note(found, Wrong::UndoneEarly, format!("{effect:?}"));
                    }
                    if before.is_some_and(|before| before < index) {
                        self.note(found, Wrong::OutOfOrder, format!("{effect:?}"));
                    }
                    undoing = Some(before.map_or(index, |before| before.min(index)));
                }
            }
        }
    }

    fn did(&self, step: &WorkflowStep, verb: Verb) -> bool {
        self.effects
            .iter()
            .any(|one| one.verb == verb && self.step_of(&one.key, verb).is_some_and(|(_, own)| own == step))
    }

    /// Finds the step a key belongs to: `<instance><pointer>`, with `/undo` behind it on an undo.
    fn step_of(&self, key: &str, verb: Verb) -> Option<(usize, &'a WorkflowStep)> {
        let key = if verb == Verb::Revoke { key.strip_suffix(UNDO)? } else { key };
        let pointer = key.strip_prefix(self.instance.id.as_str())?;
        self.instance.steps.iter().enumerate().find(|(_, step)| step.pointer == pointer)
    }
}

/// What the key of an undo ends with.
const UNDO: &str = "/undo";
