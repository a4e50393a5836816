//! What one client is to get next: the past from the stream, then what the shared reader tells. In order, none twice.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::Serialize;
use sinew::{
    EVENTS,
    bus::{Follow, StreamState, admin::Place},
};
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::{
    filter::Filter,
    hub::{Feeds, Seat},
    item::Item,
};

/// Pause before a server that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A client's place in the stream.
pub(super) struct Tail {
    feeds: Feeds,
    seat: Seat,
    filter: Filter,
    /// Everything up to this sequence was told, or is not for this client.
    position: u64,
    state: State,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Event(Arc<Item>),
    Gap(Gap),
}

/// Something that cannot be told any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Gap {
    /// Behind which event it begins.
    pub(super) after: String,
    /// What follows it.
    pub(super) next: String,
    /// How many events it may be; the stream counts all events, not only those of the feed.
    pub(super) missing_at_most: u64,
    pub(super) detail: &'static str,
}

enum State {
    /// It has to find out what it missed.
    Behind,
    /// It reads by itself until it meets the shared reader.
    Past(Box<Past>),
    Live(broadcast::Receiver<Arc<Item>>, VecDeque<Arc<Item>>),
}

struct Past {
    follow: Follow,
    live: broadcast::Receiver<Arc<Item>>,
    /// Where the shared reader goes on.
    head: u64,
    _permit: OwnedSemaphorePermit,
}

impl Tail {
    /// Begins behind sequence `position`, or with what comes from now on; `None` once the edge is ending.
    pub(super) async fn begin(
        feeds: &Feeds,
        seat: Seat,
        filter: Filter,
        position: Option<u64>,
    ) -> Option<Self> {
        let (position, state) = match position {
            Some(position) => (position, State::Behind),
            None => {
                let attached = seat.attach(None).await?;
                (attached.head, State::Live(attached.live, VecDeque::new()))
            }
        };
        Some(Self { feeds: feeds.clone(), seat, filter, position, state })
    }

    /// Goes on behind another sequence.
    pub(super) async fn resume(&mut self, position: u64) {
        self.end().await;
        self.position = position;
    }

    /// Returns the sequence behind which a client may go on later.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Waits for what comes next; never ends, whatever happens to the bus.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            match &mut self.state {
                State::Behind => {
                    // Boxed, as all that only catching up needs: a client that waits keeps no room for it.
                    if let Some(gap) = Box::pin(self.catch_up()).await {
                        return Next::Gap(gap);
                    }
                }
                State::Past(past) if past.follow.reached() >= past.head => {
                    self.position = self.position.max(past.head);
                    Box::pin(self.meet()).await;
                }
                State::Past(past) => {
                    let Some(followed) = Box::pin(past.follow.next()).await else { continue };
                    if let Some(item) = self.take(Arc::new(Item::new(&followed))) {
                        return Next::Event(item);
                    }
                }
                State::Live(live, recent) => {
                    let item = match recent.pop_front() {
                        Some(item) => Ok(item),
                        None => live.recv().await,
                    };
                    match item {
                        Ok(item) => {
                            if let Some(item) = self.take(item) {
                                return Next::Event(item);
                            }
                        }
                        Err(broadcast::error::RecvError::Lagged(_)) => self.state = State::Behind,
                        // The edge is ending, which whoever waits here hears of as well.
                        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    }
                }
            }
        }
    }

    /// Gives back what the server keeps for it.
    pub(super) async fn end(&mut self) {
        if let State::Past(past) = std::mem::replace(&mut self.state, State::Behind) {
            Box::pin(past.follow.end()).await;
        }
    }

    /// Passes an event on that was not told yet and is for this client.
    fn take(&mut self, item: Arc<Item>) -> Option<Arc<Item>> {
        if item.sequence <= self.position {
            return None;
        }
        self.position = item.sequence;
        self.filter.passes(&item).then_some(item)
    }

    /// Finds a way to what is behind the position; returns what cannot be told any more.
    async fn catch_up(&mut self) -> Option<Gap> {
        let Some(attached) = self.seat.attach(Some(self.position)).await else {
            return std::future::pending().await;
        };
        if let Some(recent) = attached.recent {
            self.state = State::Live(attached.live, recent);
            return None;
        }
        let Ok(permit) = self.feeds.catching_up.clone().acquire_owned().await else {
            return std::future::pending().await;
        };
        let state = match self.feeds.bus.stream_state(EVENTS).await {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "the past of the stream cannot be read yet");
                tokio::time::sleep(PAUSE).await;
                return None;
            }
        };
        let gap = Gap::between(self.position, &state);
        self.position = gap.as_ref().map_or(self.position, |gap| gap.position(&state));
        let (subjects, place) = (self.seat.subjects().to_vec(), Place::Sequence(self.position + 1));
        let follow = self.feeds.bus.follow(EVENTS, subjects, place);
        let (live, head) = (attached.live, attached.head);
        self.state = State::Past(Box::new(Past { follow, live, head, _permit: permit }));
        gap
    }

    /// Goes over to the shared reader.
    async fn meet(&mut self) {
        if let State::Past(past) = std::mem::replace(&mut self.state, State::Behind) {
            let Past { follow, live, .. } = *past;
            self.state = State::Live(live, VecDeque::new());
            follow.end().await;
        }
    }
}

impl Gap {
    /// Compares where a client is with what the stream holds.
    fn between(position: u64, state: &StreamState) -> Option<Self> {
        let (first, last) = (state.first_sequence, state.last_sequence);
        if position > last {
            let detail = "the stream does not reach this id: it was made anew, and what comes next is new";
            let (after, next) = (position.to_string(), (last + 1).to_string());
            return Some(Self { after, next, missing_at_most: 0, detail });
        }
        // What is removed from the front is gone; a stream that was emptied begins behind its end.
        let missing = first.saturating_sub(position + 1);
        (missing > 0).then(|| Self {
            after: position.to_string(),
            next: first.to_string(),
            missing_at_most: missing,
            detail: "older events are not kept any more",
        })
    }

    fn position(&self, state: &StreamState) -> u64 {
        if self.missing_at_most == 0 { state.last_sequence } else { state.first_sequence.saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_gap_is_told_exactly_where_something_may_be_missing(position in 0..40u64, first in 1..20u64, length in 0..20u64) {
            let state = StreamState { messages: length, bytes: 0, first_sequence: first, last_sequence: first + length - 1 };
            let gap = Gap::between(position, &state);
            let whole = position + 1 >= first && position <= state.last_sequence;
            prop_assert_eq!(gap.is_none(), whole);
            if let Some(gap) = gap {
                prop_assert!(gap.position(&state) >= first - 1 && gap.position(&state) <= state.last_sequence);
                prop_assert_eq!(gap.missing_at_most, first.saturating_sub(position + 1));
            }
        }
    }
}
