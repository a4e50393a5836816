//! Gates in front of operations with limits: what may not begin yet waits its turn, one turn for each instance.
//!
//! Each shard has a share of every limit, fixed by its number: so no replica has to ask another, and all of them together
//! keep to the limit however they come and go. A call waits before its own time begins; it stands in the log as begun, so
//! the next owner lets it wait again.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

use sinew::workflow::CallLimit;
use sinew_workflow::{Effect, Operation, Target};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{Limit, Limits};

/// What a rate may run ahead after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The gates of one shard.
#[derive(Default)]
pub(crate) struct Gates {
    gates: HashMap<String, Way>,
}

/// The way to a gate.
#[derive(Clone)]
struct Way {
    /// Not bounded: as many wait as calls stand in the log, and those are bounded by the instances.
    words: mpsc::UnboundedSender<Word>,
    limit: Limit,
    standing: watch::Receiver<Standing>,
}

/// How a gate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// Calls under way.
    busy: usize,
    /// Calls that wait.
    waiting: usize,
}

/// Permission to call; given back when it is dropped.
pub(crate) struct Pass(mpsc::UnboundedSender<Word>);

enum Word {
    Enter { instance: String, pass: oneshot::Sender<Pass> },
    Left,
}

/// A gate, which a task of its own owns.
struct Gate {
    own: mpsc::WeakUnboundedSender<Word>,
    concurrency: Option<usize>,
    pace: Option<Pace>,
    busy: usize,
    turns: Turns<oneshot::Sender<Pass>>,
}

/// A rate: the time of the next one, kept up to [`BURST`] behind.
struct Pace {
    interval: Duration,
    next: Instant,
}

/// Those who wait: first come, first served within an instance, and one turn for each instance that waits.
struct Turns<T> {
    of: HashMap<String, VecDeque<T>>,
    order: VecDeque<String>,
}

impl Gates {
    /// Opens the gates of a shard. They close with `stop`.
    pub(crate) fn open(
        limits: &Limits,
        (shard, shards): (u16, u16),
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let gate = |(name, limit): (&String, &Limit)| {
            let (words, inbox) = mpsc::unbounded_channel();
            let (concurrency, interval) = limit.share(shard, shards);
            let pace = interval.map(|interval| Pace { interval, next: Instant::now() });
            let (own, turns) = (words.downgrade(), Turns::default());
            let (sender, standing) = watch::channel(Standing::default());
            let gate = Gate { own, concurrency, pace, busy: 0, turns };
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(gate.run(inbox, sender)).await;
            });
            (name.clone(), Way { words, limit: *limit, standing })
        };
        Self { gates: limits.iter().map(gate).collect() }
    }

    /// Lets a call wait until it may begin; `None` where nothing limits it.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue up.
    pub(crate) fn enter(
        &self,
        instance: &str,
        effect: &Effect,
    ) -> Option<impl Future<Output = Option<Pass>> + Send + use<>> {
        let Effect::Call { target: Target::Operation(operation), .. } = effect else { return None };
        let way = self.of(operation)?;
        let (pass, granted) = oneshot::channel();
        way.words.send(Word::Enter { instance: instance.to_owned(), pass }).ok()?;
        Some(async move { granted.await.ok() })
    }

    /// Tells how every gate stands.
    pub(crate) fn standing(&self) -> impl Iterator<Item = CallLimit> {
        self.gates.iter().map(|(name, Way { limit, standing, .. })| {
            let Standing { busy, waiting } = *standing.borrow();
            CallLimit {
                operation: name.clone(),
                concurrency: limit.concurrency.map(NonZeroU32::get),
                rate: limit.rate.map(|rate| rate.to_string()),
                under_way: u64::try_from(busy).unwrap_or(u64::MAX),
                waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            }
        })
    }

    fn of(&self, Operation { service, operation, .. }: &Operation) -> Option<&Way> {
        if self.gates.is_empty() {
            return None;
        }
        let own = self.gates.get(&format!("{service}.{operation}"));
        own.or_else(|| self.gates.get(&format!("{service}.*")))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // A gate that is gone counts nobody.
        let _ = self.0.send(Word::Left);
    }
}

impl Gate {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Word>, standing: watch::Sender<Standing>) {
        loop {
            let wake = self.admit();
            standing.send_replace(Standing { busy: self.busy, waiting: self.turns.len() });
            let word = tokio::select! {
                word = inbox.recv() => word,
                () = sleep_until(wake) => continue,
            };
            match word {
                Some(Word::Enter { instance, pass }) => self.turns.push(instance, pass),
                Some(Word::Left) => self.busy = self.busy.saturating_sub(1),
                None => return,
            }
        }
    }

    /// Lets in whoever may begin; returns when to look again, if only time is in the way.
    fn admit(&mut self) -> Option<Instant> {
        let own = self.own.upgrade()?;
        while self.concurrency.is_none_or(|most| self.busy < most) {
            self.turns.forget(oneshot::Sender::is_closed);
            if self.turns.is_empty() {
                return None;
            }
            if let Some(pace) = &mut self.pace
                && let Err(at) = pace.take(Instant::now())
            {
                return Some(at);
            }
            let waiting = self.turns.pop()?;
            self.busy += 1;
            // Given up in this moment, the pass comes back by being dropped.
            let _ = waiting.send(Pass(own.clone()));
        }
        None
    }
}

impl Pace {
    /// Takes one, or says when there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if self.next > now {
            return Err(self.next);
        }
        let behind = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(behind) + self.interval;
        Ok(())
    }
}

impl<T> Turns<T> {
    fn push(&mut self, instance: String, item: T) {
        let own = self.of.entry(instance.clone()).or_default();
        if own.is_empty() {
            self.order.push_back(instance);
        }
        own.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        let instance = self.order.pop_front()?;
        let own = self.of.get_mut(&instance)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.of.remove(&instance);
        } else {
            self.order.push_back(instance);
        }
        item
    }

    /// Drops those at the front who do not wait any more.
    fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        while let Some(own) = self.order.front().and_then(|instance| self.of.get(instance)) {
            if !own.front().is_some_and(&gone) {
                return;
            }
            drop(self.pop());
        }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn len(&self) -> usize {
        self.of.values().map(VecDeque::len).sum()
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: VecDeque::new() }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use sinew_workflow::TaskId;

    use super::*;

    async fn enter(gates: &Gates, instance: &str, effect: &Effect) -> Option<Pass> {
        gates.enter(instance, effect)?.await
    }

    fn call(service: &str) -> Effect {
        let operation = Operation { service: service.into(), operation: "charge".into(), subject: None };
        Effect::Call {
            task: TaskId::of(1),
            attempt: 1,
            key: "k".into(),
            forward_key: None,
            target: Target::Operation(operation),
            body: std::sync::Arc::new(json!({})),
            headers: std::collections::BTreeMap::new(),
            timeout_ms: 1,
            command: false,
            name: "n".into(),
            undo: false,
        }
    }

    fn gates(limits: serde_json::Value) -> Gates {
        let limits: Limits = serde_json::from_value(limits).unwrap();
        Gates::open(&limits, (0, 1), &TaskTracker::new(), &CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_allowed_are_under_way_and_each_end_lets_the_next_in() {
        let gates = gates(json!({ "pay.charge": { "concurrency": 2 } }));
        let (first, second) =
            (enter(&gates, "a", &call("pay")).await, enter(&gates, "b", &call("pay")).await);
        assert!(first.is_some() && second.is_some());
        let effect = call("pay");
        let third = enter(&gates, "c", &effect);
        tokio::pin!(third);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut third).await.is_err());
        let stands = || gates.standing().map(|gate| (gate.under_way, gate.waiting)).next().unwrap();
        assert_eq!(stands(), (2, 1));
        drop(first);
        assert!(third.await.is_some());
        assert_eq!(stands().1, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spreads_calls_over_time() {
        let gates = gates(json!({ "pay.*": { "rate": "10/s" } }));
        let began = Instant::now();
        for _ in 0..21 {
            enter(&gates, "a", &call("pay")).await.unwrap();
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1_800) && took <= Duration::from_millis(2_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_keeps_nobody_out() {
        let gates = gates(json!({ "pay.charge": { "concurrency": 1 } }));
        let first = enter(&gates, "a", &call("pay")).await;
        let gone = tokio::time::timeout(Duration::from_secs(1), enter(&gates, "b", &call("pay"))).await;
        assert!(gone.is_err());
        drop(first);
        assert!(enter(&gates, "c", &call("pay")).await.is_some());
    }

    #[tokio::test]
    async fn what_has_no_limit_does_not_wait() {
        let gates = gates(json!({ "pay.refund": { "concurrency": 1 } }));
        assert!(enter(&gates, "a", &call("pay")).await.is_none());
        assert!(Gates::default().enter("a", &call("pay")).is_none());
    }

    proptest! {
        #[test]
        fn each_instance_has_its_turn_and_its_calls_keep_their_order(pushed in proptest::collection::vec(0u8..5, 1..60)) {
            let mut turns = Turns::default();
            for (number, instance) in pushed.iter().enumerate() {
                turns.push(instance.to_string(), (*instance, number));
            }
            prop_assert_eq!(turns.len(), pushed.len());
            let popped: Vec<(u8, usize)> = std::iter::from_fn(|| turns.pop()).collect();
            prop_assert_eq!(popped.len(), pushed.len());
            for instance in 0..5 {
                let own: Vec<usize> = popped.iter().filter(|(of, _)| *of == instance).map(|(_, n)| *n).collect();
                prop_assert!(own.is_sorted());
                // While somebody waits, nobody else has two turns.
                let turns: Vec<usize> = popped.iter().enumerate().filter(|(_, (of, _))| *of == instance).map(|(at, _)| at).collect();
                for pair in turns.windows(2) {
                    let between: Vec<u8> = popped[pair[0] + 1..pair[1]].iter().map(|(of, _)| *of).collect();
                    let distinct: std::collections::BTreeSet<u8> = between.iter().copied().collect();
                    prop_assert_eq!(distinct.len(), between.len());
                }
            }
        }
    }
}
