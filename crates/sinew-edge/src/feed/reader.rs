//! One reader for all clients of the same events. It follows the stream from when it began, tells everybody who is
//! attached, and keeps the newest events for those who come again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use sinew::{Bus, EVENTS, bus::admin::Place};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{hub::Subjects, item::Item};

/// Events a client may be behind before it has to read by itself.
const AHEAD: usize = 256;
/// What is kept for those who come again.
const KEPT: usize = 1_024;
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Pause before a server that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A client that wants to be told, from behind `position` on.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) position: Option<u64>,
    pub(super) answer: oneshot::Sender<Attached>,
}

/// What a client is told when it is attached.
#[derive(Debug)]
pub(super) struct Attached {
    /// Tells every event behind `head`.
    pub(super) live: broadcast::Receiver<Arc<Item>>,
    pub(super) head: u64,
    /// Every event behind the position that was asked for, up to `head`; `None` where they are not kept.
    pub(super) recent: Option<VecDeque<Arc<Item>>>,
}

/// The newest events.
struct Recent {
    /// Everything behind this sequence is here.
    floor: u64,
    items: VecDeque<Arc<Item>>,
    bytes: usize,
}

/// Reads until nobody can ask any more.
pub(super) async fn run(bus: Bus, subjects: Subjects, mut asks: mpsc::Receiver<Ask>) {
    let Some(mut head) = begin(&bus, &asks).await else { return };
    let mut follow = bus.follow(EVENTS, subjects.to_vec(), Place::Sequence(head + 1));
    let (live, _) = broadcast::channel(AHEAD);
    let mut recent = Recent { floor: head, items: VecDeque::new(), bytes: 0 };
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(Ask { position, answer }) = ask else { break };
                let recent = recent.behind(position.unwrap_or(head), head);
                let _ = answer.send(Attached { live: live.subscribe(), head, recent });
            }
            followed = follow.next() => {
                // Nothing for now: the next call waits for what is new.
                let Some(followed) = followed else { continue };
                head = followed.sequence;
                let item = Arc::new(Item::new(&followed));
                recent.keep(item.clone());
                // Nobody there just now is no mistake.
                let _ = live.send(item);
            }
        }
    }
    follow.end().await;
}

/// Finds the end of the stream; `None` when nobody is left who could ask.
async fn begin(bus: &Bus, asks: &mpsc::Receiver<Ask>) -> Option<u64> {
    while !(asks.is_closed() && asks.is_empty()) {
        match bus.stream_state(EVENTS).await {
            Ok(state) => return Some(state.last_sequence),
            Err(error) => {
                tracing::debug!(%error, "the stream of events cannot be read yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    None
}

impl Recent {
    fn keep(&mut self, item: Arc<Item>) {
        self.bytes += item.weight();
        self.items.push_back(item);
        while self.items.len() > KEPT || (self.bytes > KEPT_BYTES && self.items.len() > 1) {
            let Some(oldest) = self.items.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.weight());
            self.floor = oldest.sequence;
        }
    }

    fn behind(&self, position: u64, head: u64) -> Option<VecDeque<Arc<Item>>> {
        let here = self.floor <= position && position <= head;
        here.then(|| {
            let from = self.items.partition_point(|item| item.sequence <= position);
            self.items.range(from..).cloned().collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::item::tests::item, *};

    fn kept(sequences: impl Iterator<Item = u64>, size: usize) -> Recent {
        let mut recent = Recent { floor: 0, items: VecDeque::new(), bytes: 0 };
        sequences.for_each(|sequence| recent.keep(Arc::new(item(sequence, "text/plain", vec![b'x'; size]))));
        recent
    }

    #[test]
    fn what_is_kept_is_whole_or_not_offered() {
        let recent = kept((1..=2_000).map(|n| n * 2), 1);
        let sequences = |position| {
            let found = recent.behind(position, 4_000)?;
            Some(found.iter().map(|item| item.sequence).collect::<Vec<_>>())
        };
        assert_eq!(sequences(3_995), Some(vec![3_996, 3_998, 4_000]));
        assert_eq!(sequences(4_000), Some(vec![]));
        assert_eq!(sequences(recent.floor).map(|all| all.len()), Some(KEPT));
        assert_eq!(sequences(recent.floor - 1), None, "an event is not there any more");
        assert_eq!(sequences(4_001), None, "nobody knows what is behind the head");
    }

    #[test]
    fn large_events_are_not_kept_in_any_number() {
        let recent = kept(1..=100, 500_000);
        assert!(recent.bytes <= KEPT_BYTES && recent.items.len() < 5, "{}", recent.items.len());
    }
}
