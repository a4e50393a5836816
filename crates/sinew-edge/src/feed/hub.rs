//! Who follows what: one reader for each set of subjects, shared by all its clients, and a place for each client.
//!
//! One task owns both. A client asks for a place, and gives it back by dropping it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sinew::Bus;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::reader::{self, Ask, Attached};

/// Clients that read the past by themselves at once: each has a consumer of its own meanwhile.
const CATCHING_UP: usize = 32;
/// Sets of subjects that are followed at once. The server allows a stream 1,000 consumers.
const READERS: usize = 256;
/// How long a reader nobody listens to is kept for those who come again.
const IDLE: Duration = Duration::from_secs(30);

/// What is followed: sorted, without overlaps.
pub(super) type Subjects = Arc<[String]>;

/// The way to the task that owns readers and places.
#[derive(Clone, Debug)]
pub(crate) struct Feeds {
    // Unbounded: a place is given back by a drop, which cannot wait, and there are never more words than clients.
    words: mpsc::UnboundedSender<Word>,
    pub(super) bus: Bus,
    pub(super) catching_up: Arc<Semaphore>,
}

/// Who wants a place.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The route's name.
    pub(super) route: Arc<str>,
    pub(super) peer: IpAddr,
    pub(super) subjects: Subjects,
    pub(super) max_clients: usize,
    pub(super) max_clients_per_ip: usize,
}

/// A client's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    wanted: Wanted,
    reader: mpsc::Sender<Ask>,
    words: mpsc::UnboundedSender<Word>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The route has as many clients as it may.
    Route,
    /// The client's address has.
    Peer,
    /// Too many different events are followed.
    Readers,
    /// The edge is ending.
    Ending,
}

#[derive(Debug)]
enum Word {
    Take(Wanted, oneshot::Sender<Result<Seat, Full>>),
    Leave(Wanted),
}

/// A reader and how many clients it has.
struct Shared {
    asks: mpsc::Sender<Ask>,
    clients: usize,
    idle_since: Instant,
}

struct Hub {
    bus: Bus,
    words: mpsc::UnboundedSender<Word>,
    readers: HashMap<Subjects, Shared>,
    by_route: HashMap<Arc<str>, usize>,
    by_peer: HashMap<(Arc<str>, IpAddr), usize>,
    tasks: TaskTracker,
}

impl Feeds {
    /// Starts the task, which ends with `closing`.
    pub(crate) fn start(bus: &Bus, tasks: &TaskTracker, closing: CancellationToken) -> Self {
        let (words, heard) = mpsc::unbounded_channel();
        let hub = Hub {
            bus: bus.clone(),
            words: words.clone(),
            readers: HashMap::new(),
            by_route: HashMap::new(),
            by_peer: HashMap::new(),
            tasks: tasks.clone(),
        };
        tasks.spawn(closing.run_until_cancelled_owned(hub.run(heard)));
        Self { words, bus: bus.clone(), catching_up: Arc::new(Semaphore::new(CATCHING_UP)) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn seat(&self, wanted: Wanted) -> Result<Seat, Full> {
        let (answer, seat) = oneshot::channel();
        self.words.send(Word::Take(wanted, answer)).map_err(|_| Full::Ending)?;
        seat.await.unwrap_or(Err(Full::Ending))
    }
}

impl Seat {
    /// Joins the shared reader, where possible right behind sequence `position`; `None` once the edge is ending.
    pub(super) async fn attach(&self, position: Option<u64>) -> Option<Attached> {
        let (answer, attached) = oneshot::channel();
        self.reader.send(Ask { position, answer }).await.ok()?;
        attached.await.ok()
    }

    pub(super) fn subjects(&self) -> &Subjects {
        &self.wanted.subjects
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.words.send(Word::Leave(self.wanted.clone()));
    }
}

impl Hub {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Word>) {
        let mut sweep = tokio::time::interval(IDLE);
        loop {
            tokio::select! {
                Some(word) = heard.recv() => match word {
                    // Who went away meanwhile drops the seat, which gives it back.
                    Word::Take(wanted, answer) => drop(answer.send(self.take(wanted))),
                    Word::Leave(wanted) => self.leave(&wanted),
                },
                _ = sweep.tick() => {
                    self.readers.retain(|_, reader| reader.clients > 0 || reader.idle_since.elapsed() < IDLE);
                }
            }
        }
    }

    fn take(&mut self, wanted: Wanted) -> Result<Seat, Full> {
        let peer = (wanted.route.clone(), wanted.peer);
        if self.by_route.get(&wanted.route).is_some_and(|count| *count >= wanted.max_clients) {
            return Err(Full::Route);
        }
        if self.by_peer.get(&peer).is_some_and(|count| *count >= wanted.max_clients_per_ip) {
            return Err(Full::Peer);
        }
        let reader = self.reader(&wanted.subjects)?;
        *self.by_route.entry(wanted.route.clone()).or_default() += 1;
        *self.by_peer.entry(peer).or_default() += 1;
        Ok(Seat { wanted, reader, words: self.words.clone() })
    }

    fn reader(&mut self, subjects: &Subjects) -> Result<mpsc::Sender<Ask>, Full> {
        if !self.readers.contains_key(subjects) {
            if self.readers.len() >= READERS {
                self.readers.retain(|_, reader| reader.clients > 0);
            }
            if self.readers.len() >= READERS {
                return Err(Full::Readers);
            }
            let (asks, asked) = mpsc::channel(64);
            // It ends when the last way to it is dropped.
            self.tasks.spawn(reader::run(self.bus.clone(), subjects.clone(), asked));
            let shared = Shared { asks, clients: 0, idle_since: Instant::now() };
            self.readers.insert(subjects.clone(), shared);
        }
        let shared = self.readers.get_mut(subjects).ok_or(Full::Ending)?;
        shared.clients += 1;
        Ok(shared.asks.clone())
    }

    fn leave(&mut self, wanted: &Wanted) {
        count_down(&mut self.by_route, &wanted.route);
        count_down(&mut self.by_peer, &(wanted.route.clone(), wanted.peer));
        if let Some(reader) = self.readers.get_mut(&wanted.subjects) {
            reader.clients = reader.clients.saturating_sub(1);
            reader.idle_since = Instant::now();
        }
    }
}

/// Forgets what is counted down to nothing.
fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
