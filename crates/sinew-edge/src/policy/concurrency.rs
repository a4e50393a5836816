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
    problem::Refusal,
};

/// The limits of one route.
#[derive(Debug)]
pub(crate) struct Gates(Vec<Gate>);

#[derive(Debug)]
struct Gate {
    limit: Concurrency,
    id: String,
    key: Key,
    rooms: OnceLock<Arc<Rooms>>,
}

/// Who is under way or waits, by key.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<Digest, Room>>);

#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
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
        let gate = |limit: &Concurrency| Gate {
            limit: limit.clone(),
            id: format!("{} · {limit}", if limit.scope == Scope::Edge { "*" } else { route }),
            key: Key::new(&limit.key, versions, version),
            rooms: OnceLock::new(),
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
        let (mut turn, places) =
            rooms.step_in(key, &self.limit).ok_or_else(|| self.full("and its line is full"))?;
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => tokio::time::timeout(patience, places.acquire_owned()).await.ok().and_then(Result::ok),
        };
        turn.place = Some(place.ok_or_else(|| self.full("and none of them ended in time"))?);
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
        let new = || Room { places: Arc::new(Semaphore::new(limit.requests as usize)), inside: 0 };
        let room = rooms.entry(key).or_insert_with(new);
        if room.inside >= limit.requests.saturating_add(limit.waiting) {
            return None;
        }
        room.inside += 1;
        Some((Turn { rooms: self.clone(), key, place: None }, room.places.clone()))
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
