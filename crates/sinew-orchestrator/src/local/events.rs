//! Events within one process: handed to whoever listens, kept for who will.
//!
//! One event at a time: the next one leaves when the shard has decided what the one before means. So of two events that
//! two tasks wait for in turn, each task gets one.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;
use sinew_workflow::TaskId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    listen::Listener,
    shard::{Ask, Command, Handle, Input},
};

/// Events kept that nobody listens for yet; beyond it the oldest go.
const KEPT: usize = 10_000;

/// What changes about who listens.
#[derive(Debug)]
pub(super) enum Listening {
    /// A task listens from now on.
    Begins(Listener),
    /// It does not any more.
    Ends { id: String, task: TaskId },
    /// An instance ended.
    Closed { id: String },
}

/// Events and listeners, brought together.
#[derive(Default)]
struct Market {
    listeners: Vec<Listener>,
    /// Events nobody listened for, the oldest first, each with its number.
    kept: VecDeque<(u64, Arc<Value>)>,
    count: u64,
}

/// Hands events out until `stop`.
pub(super) async fn run(
    handle: Handle,
    mut published: mpsc::Receiver<Arc<Value>>,
    mut listening: mpsc::UnboundedReceiver<Listening>,
    stop: CancellationToken,
) {
    let mut market = Market::default();
    loop {
        while let Ok(told) = listening.try_recv() {
            market.note(told);
        }
        if let Some((number, event)) = market.next() {
            deliver(&handle, &market, number, &event).await;
            continue;
        }
        tokio::select! {
            // Who listens comes first: a task that listens and then emits must hear itself.
            biased;
            () = stop.cancelled() => return,
            Some(told) = listening.recv() => market.note(told),
            Some(event) = published.recv() => market.keep(event),
            else => return,
        }
    }
}

/// Returns when each listener's shard has decided, and who listens now is known.
async fn deliver(handle: &Handle, market: &Market, number: u64, event: &Arc<Value>) {
    for Listener { id, task, attempt, .. } in market.interested(event) {
        let (event, origin) = (event.clone(), Some(format!("local/{number}")));
        handle.tell(Input::Event { id: id.clone(), task: *task, attempt: *attempt, event, origin }).await;
        // The answer comes after the effects of what was decided before it.
        let _ = handle.ask(Command::Ask(Ask::Get { id: id.clone() })).await;
    }
}

impl Market {
    fn note(&mut self, told: Listening) {
        match told {
            Listening::Begins(listener) => self.listeners.push(listener),
            Listening::Ends { id, task } => self.listeners.retain(|one| one.id != id || one.task != task),
            Listening::Closed { id } => self.listeners.retain(|one| one.id != id),
        }
    }

    fn keep(&mut self, event: Arc<Value>) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
            tracing::warn!(kept = KEPT, "an event nobody listened for is dropped");
        }
        self.count += 1;
        self.kept.push_back((self.count, event));
    }

    /// Takes the oldest event that somebody listens for.
    fn next(&mut self) -> Option<(u64, Arc<Value>)> {
        let place = self.kept.iter().position(|(_, event)| self.interested(event).next().is_some())?;
        self.kept.remove(place)
    }

    fn interested<'a>(&'a self, event: &'a Value) -> impl Iterator<Item = &'a Listener> {
        self.listeners.iter().filter(|listener| {
            listener.wanted.is_empty() || listener.wanted.iter().any(|wanted| wanted.fits(event))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use sinew_workflow::{Since, Wanted};

    use super::*;

    fn listener(id: &str, kind: &str) -> Listening {
        let wanted = vec![Wanted(BTreeMap::from([("type".to_owned(), kind.to_owned())]))];
        let (id, since) = (id.to_owned(), Since::default());
        Listening::Begins(Listener { id, task: TaskId::WORKFLOW, attempt: 1, wanted, since, last: None })
    }

    #[test]
    fn events_wait_for_their_listener_in_order() {
        let mut market = Market::default();
        for event in [json!({ "type": "a", "n": 1 }), json!({ "type": "b" }), json!({ "type": "a", "n": 2 })]
        {
            market.keep(Arc::new(event));
        }
        assert_eq!(market.next(), None, "nobody listens");
        market.note(listener("i", "a"));
        assert_eq!(market.next().map(|(number, _)| number), Some(1));
        assert_eq!(market.next().map(|(number, _)| number), Some(3));
        assert_eq!(market.next(), None, "nobody listens for b");
        market.note(Listening::Closed { id: "i".to_owned() });
        market.note(listener("j", "b"));
        assert_eq!(market.next().map(|(number, _)| number), Some(2));
    }

    #[test]
    fn what_nobody_listens_for_is_kept_within_bounds() {
        let mut market = Market::default();
        (0..=KEPT).for_each(|n| market.keep(Arc::new(json!({ "type": "a", "n": n }))));
        market.note(listener("i", "a"));
        assert_eq!((market.kept.len(), market.next().map(|(number, _)| number)), (KEPT, Some(2)));
    }
}
