//! How many requests of one key are under way at once, and how many wait for one of them to end.
//!
//! A key is known only while one of its requests is under way, so there are never more keys than requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    State,
    key::{Digest, Key},
};
use crate::{
    config::{Concurrency, Scope, Versions},
    exchange::Asked,
    observe::{Tally, family, sample, tally::CONCURRENCY},
    problem::Refusal,
};

/// Places in [`CONCURRENCY`].
const PASSED: usize = 0;
const WAITED: usize = 1;
const REFUSED: usize = 2;

/// The limits of one route.
#[derive(Debug)]
pub(crate) struct Gates(Vec<Gate>);

#[derive(Debug)]
struct Gate {
    limit: Concurrency,
    id: String,
    key: Key,
    rooms: OnceLock<Arc<Rooms>>,
    tally: Tally,
}

/// Who is under way or waits, by key.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<Digest, Room>>);

#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    /// How many places there are.
    most: u32,
    /// Requests that have a place or wait for one.
    inside: u32,
}

/// The right to be under way. It ends with the response, or the stream, it was given for.
#[derive(Debug)]
pub(crate) struct Turn {
    rooms: Arc<Rooms>,
    key: Digest,
    place: Option<OwnedSemaphorePermit>,
}

impl Gates {
    pub(super) fn new(
        limits: &[Concurrency],
        route: &str,
        versions: &Versions,
        version: Option<&str>,
    ) -> Self {
        let gate = |limit: &Concurrency| {
            let id = format!("{} · {limit}", if limit.scope == Scope::Edge { "*" } else { route });
            let tally = Tally::new(&CONCURRENCY, id.as_str());
            let key = Key::new(&limit.key, versions, version);
            Gate { limit: limit.clone(), id, key, rooms: OnceLock::new(), tally }
        };
        Self(limits.iter().map(gate).collect())
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|gate| format!("concurrency {}", gate.limit))
    }

    /// Waits for a turn at each of them, in their order.
    ///
    /// # Errors
    /// 429 where the line is full, or the wait too long.
    pub(crate) async fn enter(&self, state: &State, asked: &Asked<'_>) -> Result<Vec<Turn>, Refusal> {
        let client = state.proxies.client(asked.peer, &asked.head.headers);
        let mut turns = Vec::with_capacity(self.0.len());
        for gate in &self.0 {
            let key = gate.key.of(asked.head, &client);
            let patience = asked.deadline.within(Duration::from_millis(gate.limit.wait_ms));
            turns.push(gate.enter(state, key, patience).await?);
        }
        Ok(turns)
    }
}

impl Gate {
    async fn enter(&self, state: &State, key: Digest, patience: Duration) -> Result<Turn, Refusal> {
        let rooms = self.rooms.get_or_init(|| state.rooms(&self.id));
        let count = |outcome| self.tally.add(&state.tallies, outcome);
        let full = |why| {
            count(REFUSED);
            self.full(why)
        };
        let (mut turn, places) =
            rooms.step_in(key, &self.limit).ok_or_else(|| full("and its line is full"))?;
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => {
                count(PASSED);
                place
            }
            Err(_) => {
                let place = tokio::time::timeout(patience, places.acquire_owned()).await;
                let place = place.ok().and_then(Result::ok);
                let place = place.ok_or_else(|| full("and none of them ended in time"))?;
                count(WAITED);
                place
            }
        };
        turn.place = Some(place);
        Ok(turn)
    }

    fn full(&self, why: &str) -> Refusal {
        let Concurrency { name, requests, .. } = &self.limit;
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too-many-at-once", "too many requests at once")
            .detail(format!("{name} allows {requests} at once, {why}"))
            .with("policy", name.as_str())
            .after(1)
    }
}

impl Rooms {
    /// Counts somebody in, and says where to wait; `None` where the line is full.
    fn step_in(self: &Arc<Self>, key: Digest, limit: &Concurrency) -> Option<(Turn, Arc<Semaphore>)> {
        let mut rooms = self.locked();
        let places = || Arc::new(Semaphore::new(limit.requests as usize));
        let new = || Room { places: places(), most: limit.requests, inside: 0 };
        let room = rooms.entry(key).or_insert_with(new);
        if room.inside >= limit.requests.saturating_add(limit.waiting) {
            return None;
        }
        room.inside += 1;
        Some((Turn { rooms: self.clone(), key, place: None }, room.places.clone()))
    }

    /// Says how many are under way, and how many wait.
    fn told(&self) -> (u64, u64) {
        let rooms = self.locked();
        let inside: u64 = rooms.values().map(|room| u64::from(room.inside)).sum();
        let under_way: u64 = rooms.values().map(|room| u64::from(room.inside.min(room.most))).sum();
        (under_way, inside - under_way)
    }

    /// A plain lock, held for an addition and never across an await.
    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Its place first: whoever comes next finds room.
        self.place.take();
        let mut rooms = self.rooms.locked();
        if let Some(room) = rooms.get_mut(&self.key) {
            room.inside -= 1;
            if room.inside == 0 {
                rooms.remove(&self.key);
            }
        }
    }
}

/// Writes who is under way and who waits, for readers of metrics.
pub(super) fn describe(state: &State, text: &mut String) {
    let rooms = state.rooms.lock().unwrap_or_else(PoisonError::into_inner);
    let told: Vec<_> = rooms.iter().map(|(id, rooms)| (id.clone(), rooms.told())).collect();
    drop(rooms);
    let families = [
        ("sinew_edge_concurrency_under_way", "Requests that a limit of concurrency lets be under way."),
        ("sinew_edge_concurrency_waiting", "Requests that wait for one of them to end."),
    ];
    for (at, (name, help)) in families.into_iter().enumerate() {
        family(text, name, "gauge", help);
        for (id, told) in &told {
            sample(text, name, &[("limit", id)], [told.0, told.1][at]);
        }
    }
}

impl State {
    fn rooms(&self, id: &str) -> Arc<Rooms> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that no route has any more, and nobody is in.
        rooms.retain(|_, rooms| Arc::strong_count(rooms) > 1);
        rooms.entry(id.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// Whoever comes and goes, no key has more inside than places and line, and nothing is left of who has gone.
        #[test]
        fn nobody_is_inside_beyond_places_and_line(
            steps in prop::collection::vec((0u8..3, any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let limit: Concurrency =
                serde_json::from_value(json!({ "name": "x", "requests": 2, "waiting": 1 })).unwrap();
            let rooms = Arc::new(Rooms::default());
            let mut inside: Vec<(u8, Turn)> = Vec::new();
            for (key, comes, which) in steps {
                let before = inside.iter().filter(|(own, _)| *own == key).count();
                if comes {
                    let turn = rooms.step_in(Digest([key; 16]), &limit);
                    prop_assert_eq!(turn.is_some(), before < 3);
                    inside.extend(turn.map(|(turn, _)| (key, turn)));
                } else if !inside.is_empty() {
                    inside.swap_remove(which.index(inside.len()));
                }
            }
            inside.clear();
            prop_assert!(rooms.locked().is_empty());
        }
    }
}
