//! Instances that start by themselves: by the clock, after the one before, by events.
//!
//! A definition's schedule belongs to one shard, found by its name, and what it has done is noted in that shard's log.
//! Instances have ids that follow from what starts them, a moment or the sequence of an event: whoever owns the shard
//! next may start one again, and finds the one that is there. So nothing fires twice, and nothing is lost with an owner.
//!
//! The newest version of a definition has the schedule; a newer one replaces it, removing it ends it.

mod after;
mod clock;
mod trigger;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sinew::Bus;
use tokio::{
    sync::oneshot,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    definitions::{Definitions, Newest},
    shard::{Compiled, Handle, Input, Note},
    starter::{Starter, Wanted},
    view,
};

/// What the names of the notes begin with.
const PREFIX: &str = "schedule/";
/// Pause before a definition is read again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// Settings of schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedules {
    /// What becomes of moments that passed while no orchestrator ran, where the schedule does not say.
    pub missed: Missed,
    /// Seconds by which an instance may start late and not count as missed.
    pub grace_seconds: u64,
}

/// What becomes of moments that passed while no orchestrator ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing: the next moment counts.
    Skip,
    /// One instance makes up for all of them.
    #[default]
    Once,
    /// One instance each, for the newest 1,000.
    All,
}

/// The schedules of one shard.
pub(crate) struct Keeper {
    pub(crate) bus: Bus,
    pub(crate) shard: Handle,
    pub(crate) starter: Starter,
    pub(crate) definitions: Definitions,
    pub(crate) settings: Schedules,
}

/// The schedule of one definition at work.
struct Job {
    bus: Bus,
    shard: Handle,
    starter: Starter,
    settings: Schedules,
    newest: Newest,
    definition: Compiled,
}

/// A job in its task.
struct Running {
    digest: String,
    task: Id,
    stop: CancellationToken,
}

impl From<sinew_workflow::Missed> for Missed {
    fn from(missed: sinew_workflow::Missed) -> Self {
        match missed {
            sinew_workflow::Missed::Skip => Self::Skip,
            sinew_workflow::Missed::Once => Self::Once,
            sinew_workflow::Missed::All => Self::All,
        }
    }
}

impl Default for Schedules {
    fn default() -> Self {
        Self { missed: Missed::default(), grace_seconds: 60 }
    }
}

impl Keeper {
    /// Keeps the schedules that `is_mine` says are this shard's, until dropped.
    pub(crate) async fn run(self, notes: BTreeMap<String, Value>, is_mine: impl Fn(&str) -> bool) {
        let mut index = self.definitions.watch();
        let (mut tasks, mut running) = (JoinSet::new(), HashMap::<String, Running>::new());
        let mut noted: Vec<String> =
            notes.into_keys().filter_map(|name| Some(place_of(&name)?.to_owned())).collect();
        loop {
            let newest = self.definitions.newest();
            let mine: HashMap<&str, &Newest> = newest
                .iter()
                .filter(|one| is_mine(&one.place))
                .map(|one| (one.place.as_str(), one))
                .collect();
            let stale = |place: &String, one: &Running| {
                mine.get(place.as_str()).is_none_or(|newest| newest.digest != one.digest)
            };
            let ended: Vec<String> = running
                .iter()
                .filter(|(place, one)| stale(place, one))
                .map(|(place, _)| place.clone())
                .collect();
            for place in &ended {
                if let Some(one) = running.remove(place) {
                    one.stop.cancel();
                    // The next one goes on from what this one noted last.
                    while let Some(ended) = tasks.join_next_with_id().await {
                        if ended.map_or_else(|error| error.id(), |(id, ())| id) == one.task {
                            break;
                        }
                    }
                }
            }
            for place in ended.into_iter().chain(noted.drain(..)) {
                if !mine.contains_key(place.as_str()) {
                    self.forget(&place).await;
                }
            }
            for (place, newest) in mine {
                if !running.contains_key(place) {
                    let (stop, job) = (CancellationToken::new(), self.job(newest.clone()));
                    let work = stop.clone().run_until_cancelled_owned(job);
                    let task = tasks.spawn(async move { work.await.unwrap_or(()) }).id();
                    running.insert(place.to_owned(), Running { digest: newest.digest.clone(), task, stop });
                }
            }
            if index.changed().await.is_err() {
                return;
            }
        }
    }

    fn job(&self, newest: Newest) -> impl Future<Output = ()> + Send + 'static {
        let (bus, shard, starter) = (self.bus.clone(), self.shard.clone(), self.starter.clone());
        let (definitions, settings) = (self.definitions.clone(), self.settings.clone());
        async move {
            let definition = loop {
                match definitions.compiled(&newest.digest).await {
                    Ok(Some(definition)) => break definition,
                    // Said where it was read.
                    Ok(None) => return,
                    Err(error) => tracing::debug!(%error, "a schedule cannot be read yet"),
                }
                tokio::time::sleep(AGAIN).await;
            };
            Job { bus, shard, starter, settings, newest, definition }.run().await;
        }
    }

    async fn forget(&self, place: &str) {
        for kind in [clock::KIND, after::KIND, trigger::KIND] {
            self.shard.tell(Input::Note(Note::new(&note_name(place, kind), Value::Null))).await;
        }
    }
}

impl Job {
    /// Works until dropped, or until nothing will ever start.
    async fn run(self) {
        let Some(schedule) = self.definition.schedule().cloned() else { return };
        tokio::join!(
            clock::run(&self, &schedule),
            after::run(&self, &schedule),
            trigger::run(&self, &schedule)
        );
    }

    /// Reads what was noted for this kind of schedule.
    async fn recall<T: DeserializeOwned>(&self, kind: &str) -> Option<T> {
        let (told, noted) = oneshot::channel();
        self.shard.tell(Input::Recall { name: note_name(&self.newest.place, kind), told }).await;
        serde_json::from_value(noted.await.ok()??).ok()
    }

    /// Notes something and returns when it is stored. Does not return when the shard is gone.
    async fn note<T: Serialize>(&self, kind: &str, value: &T) {
        let (told, stored) = oneshot::channel();
        let value = serde_json::to_value(value).unwrap_or_default();
        let note = Note { stored: Some(told), ..Note::new(&note_name(&self.newest.place, kind), value) };
        self.shard.tell(Input::Note(note)).await;
        if stored.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn wanted(&self, which: &str, input: Value) -> Wanted {
        let Newest { place, name, digest, .. } = &self.newest;
        // Two namespaces may have a workflow of the same name.
        let id = format!("{name}-{which}-{:06x}", view::digest_of_text(place) & 0xff_ffff);
        Wanted { id, workflow: name.clone(), digest: digest.clone(), input }
    }
}

fn note_name(place: &str, kind: &str) -> String {
    format!("{PREFIX}{place}/{kind}")
}

/// Returns the definition a note is about.
fn place_of(note: &str) -> Option<&str> {
    note.strip_prefix(PREFIX)?.rsplit_once('/').map(|(place, _)| place)
}

/// Waits until the machine's clock shows a moment; a clock that is set is followed.
async fn sleep_until(moment: sinew_workflow::Timestamp) {
    const LOOK: Duration = Duration::from_secs(10);
    loop {
        let left = moment.since(now());
        if left == 0 {
            return;
        }
        tokio::time::sleep(LOOK.min(Duration::from_millis(left))).await;
    }
}

fn now() -> sinew_workflow::Timestamp {
    sinew_workflow::Timestamp::from_millis(view::now_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_whose_it_is() {
        assert_eq!(place_of(&note_name("shop/nightly", "clock")), Some("shop/nightly"));
        assert_eq!(place_of("events"), None);
    }
}
