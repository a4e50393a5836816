//! What was begun and may have to be stopped, by instance and task. Knows tasks of the runtime, not what they do.

use std::collections::HashMap;

use sinew_workflow::{Effect, Protocol, Source, Target, TaskId, Verb};
use tokio::task::AbortHandle;

use super::child::id_of;

/// Entries beyond which those that have ended are looked for.
const PRUNE: usize = 64;

/// What runs on behalf of instances; ended work is forgotten once it is as much as what runs.
pub(super) struct InFlight {
    running: HashMap<(String, TaskId), Flight>,
    prune_at: usize,
}

/// The identity of an effect, beside its instance.
pub(super) struct Begun {
    task: TaskId,
    attempt: u32,
    child: Option<String>,
}

struct Flight {
    begun: Begun,
    work: AbortHandle,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { running: HashMap::new(), prune_at: PRUNE }
    }
}

impl Begun {
    /// Reads what is begun; `None` for an effect nobody carries out in a task.
    pub(super) fn of(effect: &Effect) -> Option<Self> {
        match effect {
            // People are asked by the state itself: their answer comes from elsewhere.
            Effect::Call { target: Target::Protocol(Protocol::Human), .. } => None,
            Effect::Call { task, attempt, key, target, .. } => {
                let child = match target {
                    Target::Workflow(child) if child.wait && child.verb == Verb::Run => Some(id_of(key)),
                    _ => None,
                };
                Some(Self { task: *task, attempt: *attempt, child })
            }
            Effect::Emit { task, attempt, .. } => Some(Self { task: *task, attempt: *attempt, child: None }),
            Effect::Listen { task, attempt, source: Source::Protocol { .. }, .. } => {
                Some(Self { task: *task, attempt: *attempt, child: None })
            }
            Effect::Listen { .. } | Effect::Stop { .. } | Effect::Recall { .. } | Effect::Timer { .. } => {
                None
            }
        }
    }
}

impl InFlight {
    pub(super) fn note(&mut self, instance: String, begun: Begun, work: AbortHandle) {
        self.running.insert((instance, begun.task), Flight { begun, work });
        if self.running.len() >= self.prune_at {
            self.running.retain(|_, flight| !flight.work.is_finished());
            self.prune_at = PRUNE.max(self.running.len() * 2);
        }
    }

    /// Drops the work of this very attempt; returns the child instance it waited for, if any.
    pub(super) fn stop(&mut self, instance: &str, task: TaskId, attempt: u32) -> Option<String> {
        let key = (instance.to_owned(), task);
        let flight = self.running.get(&key).filter(|flight| flight.begun.attempt == attempt)?;
        flight.work.abort();
        self.running.remove(&key)?.begun.child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::WORKFLOW;

    fn begun(attempt: u32) -> Begun {
        Begun { task: TASK, attempt, child: Some(format!("child-{attempt}")) }
    }

    #[tokio::test]
    async fn only_the_attempt_that_is_named_is_stopped() {
        let mut in_flight = InFlight::default();
        let work = tokio::spawn(std::future::pending::<()>());
        in_flight.note("i".into(), begun(2), work.abort_handle());
        assert_eq!(in_flight.stop("i", TASK, 1), None);
        assert!(!work.is_finished(), "an older attempt is no reason to stop this one");
        assert_eq!(in_flight.stop("i", TASK, 2), Some("child-2".into()));
        assert!(work.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten() {
        let mut in_flight = InFlight::default();
        for number in 0..10 * PRUNE {
            let mut work = tokio::spawn(async {});
            (&mut work).await.unwrap();
            in_flight.note(format!("i{number}"), begun(1), work.abort_handle());
        }
        assert!(in_flight.running.len() <= PRUNE, "{}", in_flight.running.len());
    }
}
