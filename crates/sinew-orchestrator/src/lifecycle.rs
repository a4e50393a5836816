//! Lifecycle events: what happened to instances, told to whoever listens on the bus. After the fact and beside the work.
//!
//! They are derived from the entries of the log, with ids that stay the same. How far they are published is noted in the
//! log, and a new owner publishes again what stands behind that: at least once, each instance's in order, and repetitions
//! within the server's two minutes are recognised by their id. What cannot be published as fast as it happens waits, and
//! beyond a bound new instances are turned away until it has left.
//!
//! *Invariant*: the log forgets nothing that says what was not published yet: neither does an ended instance leave it
//! before, nor is it shortened.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesOrdered};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_workflow::{Entry, Outcome, State};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use crate::{
    calls::Line,
    shard::{Handle, Input, Note},
    spans::Origin,
};

/// The note in the shard's log that says how far is published.
pub(crate) const NOTE: &str = "lifecycle";
/// Records that may wait to be published before new instances are turned away.
const WAITING: u64 = 65_536;
/// Events under way at once.
const AT_ONCE: usize = 64;
/// How often it is noted how far is published.
const REMEMBER: Duration = Duration::from_secs(1);

/// Which lifecycle events are published, on `evt.io.serverlessworkflow.>`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// None. Each costs a write of the stream of events.
    #[default]
    None,
    /// Those of workflows: started, completed, faulted, cancelled, suspended, resumed, and correlations.
    Workflows,
    /// Those of their tasks too.
    Tasks,
}

/// What one record of the log says happened to an instance.
#[derive(Debug)]
pub(crate) struct Happened {
    pub(crate) origin: Origin,
    pub(crate) events: Vec<Value>,
}

/// What happened, with the record of the log that says so.
pub(crate) type Told = (u64, Happened);

/// The end of the way to the publisher that the shard holds.
pub(crate) struct Teller {
    /// Not bounded: what runs already is bounded by itself, and nothing else begins while too much waits.
    told: mpsc::UnboundedSender<Told>,
    /// What this owner told, and one for what its predecessor left.
    count: u64,
    published: watch::Receiver<u64>,
    silent: bool,
}

/// The publisher's end.
pub(crate) struct Inlet {
    told: mpsc::UnboundedReceiver<Told>,
    /// How much is published, counted as the teller does.
    published: watch::Sender<u64>,
}

/// Publishes for one shard.
pub(crate) struct Publisher {
    pub(crate) line: Line,
    pub(crate) shard: Handle,
    pub(crate) inlet: Inlet,
}

/// What a log holds that was not published by its former owner, as far as it is known.
#[derive(Default)]
pub(crate) struct Unpublished {
    pub(crate) level: Lifecycle,
    /// Whether it was ever noted how far is published: what happened before is not told.
    began: bool,
    waiting: VecDeque<Told>,
}

/// Makes the way to a publisher, who is told of nothing where nothing is to be published.
pub(crate) fn channel(level: Lifecycle) -> (Teller, Inlet) {
    let ((told, inbox), (sender, published)) = (mpsc::unbounded_channel(), watch::channel(0));
    let silent = level == Lifecycle::None;
    (Teller { told, count: 1, published, silent }, Inlet { told: inbox, published: sender })
}

impl Lifecycle {
    /// Returns the events of this level that entries stand for, given the state they follow.
    pub(crate) fn of(self, before: Option<&State>, entries: &[Entry], after: &State) -> Option<Happened> {
        let before = before.filter(|_| self != Self::None)?;
        let mut events = sinew_workflow::lifecycle(before, entries)
            .inspect_err(|error| tracing::error!(%error, "what happened to an instance cannot be told"))
            .unwrap_or_default();
        let of_workflow =
            |event: &Value| event["type"].as_str().is_some_and(|kind| kind.contains(".workflow."));
        events.retain(|event| self == Self::Tasks || of_workflow(event));
        (!events.is_empty()).then(|| Happened { origin: Origin::of(after), events })
    }
}

impl Teller {
    pub(crate) fn tell(&mut self, told: Told) {
        self.count += 1;
        // When the other end is gone, the next owner publishes it.
        let _ = self.told.send(told);
    }

    /// Says whether too much waits to be published.
    pub(crate) fn is_behind(&self) -> bool {
        !self.silent && self.count.saturating_sub(*self.published.borrow()) > WAITING
    }

    /// Waits until everything told so far is published; false when that is for the next owner to do.
    pub(crate) fn published(&self) -> impl Future<Output = bool> + Send + use<> {
        let (mut published, count, silent) = (self.published.clone(), self.count, self.silent);
        async move { silent || published.wait_for(|done| *done >= count).await.is_ok() }
    }
}

impl Publisher {
    /// Publishes first what the former owner did not, then what happens, until the shard is gone.
    pub(crate) async fn run(mut self, last: u64, mut left: VecDeque<Told>) {
        self.note(last.min(left.front().map_or(u64::MAX, |(sequence, _)| sequence - 1))).await;
        let mut under_way = FuturesOrdered::new();
        let mut tick = tokio::time::interval(REMEMBER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut published, mut noted) = (0, 0);
        // What the former owner left counts as one.
        let mut before = left.len();
        self.count(before == 0);
        let (mut waiting, mut busy) = (left.pop_front(), HashSet::new());
        loop {
            // One record of an instance at a time: what happened to it is told in its order.
            let free = under_way.len() < AT_ONCE;
            let next = waiting.take_if(|(_, what)| free && busy.insert(what.origin.id().to_owned()));
            if let Some(told) = next {
                under_way.push_back(publish(self.line.clone(), told));
                waiting = left.pop_front();
                continue;
            }
            tokio::select! {
                Some((sequence, id)) = under_way.next() => {
                    busy.remove(&id);
                    published = sequence;
                    self.count(before <= 1);
                    before = before.saturating_sub(1);
                }
                told = self.inlet.told.recv(), if waiting.is_none() => match told {
                    Some(told) => waiting = Some(told),
                    None => return,
                },
                _ = tick.tick(), if published > noted => {
                    // One record may say what happened to several instances: it counts once all behind it do.
                    let rest = under_way.is_empty() && waiting.is_none();
                    self.note(if rest { published } else { published - 1 }).await;
                    noted = published;
                }
            }
        }
    }

    /// Forgets how far was published.
    pub(crate) async fn rest(self) {
        self.shard.tell(Input::Note(Note::new(NOTE, Value::Null))).await;
    }

    fn count(&self, one: bool) {
        if one {
            self.inlet.published.send_modify(|published| *published += 1);
        }
    }

    async fn note(&self, sequence: u64) {
        self.shard.tell(Input::Note(Note::new(NOTE, sequence.into()))).await;
    }
}

impl Unpublished {
    /// Notes what a record of the log says happened.
    pub(crate) fn push(&mut self, sequence: u64, happened: Option<Happened>) {
        self.waiting.extend(happened.filter(|_| self.began).map(|happened| (sequence, happened)));
    }

    /// Forgets what was published.
    pub(crate) fn noted(&mut self, note: &Value) {
        self.began = !note.is_null();
        let published = note.as_u64().unwrap_or(0);
        self.waiting.retain(|(sequence, _)| *sequence > published);
    }

    pub(crate) fn take(&mut self) -> VecDeque<Told> {
        std::mem::take(&mut self.waiting)
    }
}

/// Publishes one after the other what one record says, and returns its sequence and the instance.
async fn publish(line: Line, (sequence, happened): Told) -> (u64, String) {
    let Happened { origin, events } = happened;
    for event in &events {
        let id = event["id"].as_str().unwrap_or_default();
        if let Outcome::Refused(fault) = line.emit(&origin, id, event).await {
            tracing::warn!(id, %fault, "a lifecycle event was refused");
        }
    }
    (sequence, origin.id().to_owned())
}
