//! Taking a shard over: fold its log, write that a new owner is here, ask the states what is due.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use sinew::bus::Object;
use sinew_workflow::State;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    Compiled, Input, Shard, World,
    batch::Batch,
    clean::Cleaner,
    clock::Clock,
    idle::Idle,
    live::Live,
    notes::{Notes, name_of},
    parked::{Parked, Summary},
    recent::Recent,
    repeated::Repeated,
    settle,
    timers::Timers,
    wake::Waking,
};
use crate::{
    Config,
    history::Finished,
    id::Id,
    journal::{Appended, Journal, JournalError},
    lifecycle::{self, Lifecycle, Unpublished},
    listen::Listener,
    record::{self, Header, Item, Piece},
    view,
};

/// Ended instances remembered from the log.
const ENDED: usize = 1_000;
/// Instances taken over before others get a turn, the renewal of the lease among them.
const TURN: usize = 256;

/// Why a shard cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Foreign(#[from] crate::Error),
    #[error("a definition cannot be read: {0}")]
    Definition(#[from] sinew::Error),
    #[error("a large value of instance {0} is gone: restore the object bucket WORKFLOW_PAYLOADS")]
    Missing(String),
    #[error("the log of instance {0} does not fit its state: {1}")]
    Damaged(String, sinew_workflow::Error),
}

/// What a shard is opened with.
pub(crate) struct Opening<W> {
    pub(crate) config: Config,
    pub(crate) world: W,
    pub(crate) lease: watch::Receiver<Instant>,
    pub(crate) epoch: u64,
    pub(crate) inbox: mpsc::Receiver<Input>,
}

/// What folding the log yields.
#[derive(Default)]
pub(super) struct Folded {
    pub(super) last: u64,
    first: u64,
    before: Option<Header>,
    /// The latest time in the log.
    clock: i64,
    pub(super) live: HashMap<String, Found>,
    parked: Parked,
    /// Who of the parked ones listens.
    ears: HashMap<Id, Box<[u8]>>,
    notes: Notes,
    unpublished: Unpublished,
    ended: VecDeque<Found>,
    /// Large items of which the last piece has not come yet, with the record of the first one.
    pieces: HashMap<String, (u64, u32, Vec<u8>)>,
}

/// An instance in the log.
#[derive(Default)]
pub(super) struct Found {
    pub(super) state: State,
    digest: Arc<str>,
    since: u64,
    claims: Vec<Object>,
    /// A value its entries name that is forgotten: which is right if the instance is found to have ended.
    missing: bool,
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Becomes the owner.
    ///
    /// The log is read until the record that says so could be appended right behind what was read: then nobody else
    /// appended in between, and nobody with an older view can append any more.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most that one record behind, which means nothing without its owner.
    pub(crate) async fn open(journal: J, opening: Opening<W>) -> Result<Self, OpenError> {
        let Opening { config, world, lease, epoch, inbox } = opening;
        let owner = view::digest_of_text(&sinew::new_id());
        let mut folded = Folded::default();
        folded.unpublished.level = config.lifecycle;
        let (opened, standing) = loop {
            // Listed first: whatever is named by then is read next, and nobody before us names anything later.
            let standing = journal.standing().await?;
            folded.read(&journal).await?;
            let record = record::join(Header::new(epoch, owner, 0), &[])?;
            match journal.append(folded.last, record).await {
                Ok(sequence) => break (sequence, standing),
                // A replica that lags answered, or somebody appended: the leader knows how far the log goes.
                Err(JournalError::Fenced) => folded.catch_up(&journal).await?,
                Err(error) => return Err(error.into()),
            }
        };
        let mut shard = Self {
            config,
            journal,
            world,
            lease,
            epoch,
            owner,
            number: 0,
            last: opened,
            live: HashMap::with_capacity(folded.live.len()),
            parked: Parked::default(),
            ears: HashMap::new(),
            waking: Waking::default(),
            idle: Idle::default(),
            parkings: 0,
            parking: 0,
            recent: Recent::default(),
            repeated: Repeated::default(),
            notes: Notes::default(),
            unpublished: Unpublished::default(),
            timers: Timers::default(),
            cleaner: Cleaner::new(folded.first),
            batch: Batch::default(),
            flying: None,
            inbox,
            clock: Clock::after(folded.clock),
            ending: false,
            work: TaskTracker::new(),
            #[cfg(test)]
            leaks: false,
        };
        shard.adopt(folded).await?;
        shard.sweep(standing);
        Ok(shard)
    }

    /// Takes over what was found, and begins what it says is due.
    async fn adopt(&mut self, mut folded: Folded) -> Result<(), OpenError> {
        self.adopt_notes(std::mem::take(&mut folded.notes));
        self.unpublished = std::mem::take(&mut folded.unpublished);
        if let Some(id) = folded.live.iter().find_map(|(id, found)| found.missing.then_some(id)) {
            return Err(OpenError::Missing(id.clone()));
        }
        for found in std::mem::take(&mut folded.ended).into_iter().filter(|found| !found.missing) {
            let instance = view::instance(&found.state);
            self.recent.push(Arc::new(Finished::of(instance, found.state.input(), &found.digest)));
        }
        // All definitions first: nothing is begun on behalf of a shard that cannot be opened whole.
        let definitions = folded.definitions(&self.world).await?;
        self.adopt_parked(folded.parked, folded.ears, &definitions).await;
        for (count, (id, found)) in folded.live.into_iter().enumerate() {
            let definition = definitions.get(&found.digest).cloned();
            self.take_over(&id, found, definition);
            if count % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Takes over those who are parked, unread.
    async fn adopt_parked(
        &mut self,
        parked: Parked,
        ears: HashMap<Id, Box<[u8]>>,
        definitions: &HashMap<Arc<str>, Compiled>,
    ) {
        (self.parked, self.ears) = (parked, ears);
        definitions.iter().for_each(|(digest, definition)| self.parked.define(digest, Some(definition)));
        for (count, (_, spot)) in self.parked.iter().enumerate() {
            self.cleaner.shelve(spot.sequence);
            if count % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Returns who of the parked ones listened when this owner took over. They are given out once, to be read one by one.
    pub(crate) fn parked_listeners(&mut self) -> impl Iterator<Item = Listener> + Send + Sync + use<J, W> {
        let started = |id: &Id| self.parked.get(id).map(|spot| spot.started).unwrap_or_default();
        let ears: Vec<_> =
            std::mem::take(&mut self.ears).into_iter().map(|(id, ears)| (started(&id), id, ears)).collect();
        ears.into_iter().flat_map(|(started, id, ears)| {
            record::listeners(&id.to_string(), started, &ears).unwrap_or_else(|error| {
                tracing::error!(instance = %id, %error, "it cannot be read what a parked instance listens for");
                Vec::new()
            })
        })
    }

    fn take_over(&mut self, id: &str, found: Found, definition: Option<Compiled>) {
        let Found { state, digest, since, claims, .. } = found;
        let (closed, known) = (state.is_closed(), definition.is_some());
        // A call whose reply nobody could understand is not made.
        let due = if known { state.due() } else { Vec::new() };
        let due = settle::after_silence(&state, due, self.clock.now());
        let mut live = Live::new(id, state, definition, digest);
        live.claims = claims;
        self.live.insert(id.to_owned(), live);
        self.stands(id, since);
        self.repeated.note(id, &due);
        let now = self.clock.now();
        self.touch(id, now);
        self.begin(id, due);
        if let Some(live) = self.live.get(id) {
            let given_up = live.given_up();
            if !given_up.is_empty() {
                self.world.cancel(given_up);
            }
        }
        if closed {
            self.closed(id);
        } else if !known {
            tracing::error!(instance = id, "an instance stands still: its definition is missing");
        }
    }
}

impl Folded {
    /// Loads every definition that anything here runs.
    async fn definitions<W: World>(&self, world: &W) -> Result<HashMap<Arc<str>, Compiled>, OpenError> {
        let live = self.live.values().map(|found| &found.digest);
        let mut digests: Vec<&Arc<str>> = live.chain(self.parked.digests()).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut definitions = HashMap::new();
        for digest in digests {
            if let Some(definition) = world.definition(digest).await? {
                definitions.insert(digest.clone(), definition);
            }
        }
        Ok(definitions)
    }

    pub(super) async fn read<J: Journal>(&mut self, journal: &J) -> Result<(), OpenError> {
        loop {
            let batch = journal.read(self.last + 1).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for one in batch {
                self.take(one, journal).await?;
            }
        }
    }

    /// Waits until everything the leader has can be read, in case a lagging replica answered.
    async fn catch_up<J: Journal>(&mut self, journal: &J) -> Result<(), OpenError> {
        loop {
            self.read(journal).await?;
            let whole = journal.last().await?.is_none_or(|last| last.sequence <= self.last);
            // Paced either way: the one that appended may do so again.
            tokio::time::sleep(super::RETRY).await;
            if whole {
                return Ok(());
            }
        }
    }

    async fn take<J: Journal>(&mut self, one: Appended, journal: &J) -> Result<(), OpenError> {
        let (header, items) = record::read(&one.record)?;
        if self.before.is_some_and(|before| !header.follows(&before)) {
            // An earlier owner's cleaner forgot records under our eyes: what is folded so far may have ended in them.
            // Everything that is still needed stands from here on.
            let mut unpublished = std::mem::take(&mut self.unpublished);
            // What was published since is not known any more.
            unpublished.take();
            *self = Self { clock: self.clock, unpublished, ..Self::default() };
        }
        if self.first == 0 {
            self.first = one.sequence;
        }
        (self.before, self.last) = (Some(header), one.sequence);
        for item in items {
            match item.claim.clone() {
                Some(claim) => {
                    let value = journal.kept(&claim).await?;
                    self.claimed(item, claim, value.as_deref(), one.sequence)?;
                }
                None => self.fold(item, one.sequence)?,
            }
        }
        Ok(())
    }

    /// Folds an item that stands beside the log.
    pub(super) fn claimed(
        &mut self,
        item: Item,
        claim: Object,
        value: Option<&[u8]>,
        sequence: u64,
    ) -> Result<(), OpenError> {
        let id = item.id.clone();
        match value {
            Some(value) => self.fold(record::read_item(value)?, sequence)?,
            None => self.live.entry(item.id).or_default().missing = true,
        }
        if let Some(found) = self.live.get_mut(&id) {
            found.claims.push(claim);
        }
        Ok(())
    }

    pub(super) fn fold(&mut self, item: Item, sequence: u64) -> Result<(), OpenError> {
        if let Some(piece) = item.piece {
            return match self.piece(item.id, piece, sequence) {
                Some((first, bytes)) => self.fold(record::read_item(&bytes)?, first),
                None => Ok(()),
            };
        }
        if self.notes.fold(&item, sequence) {
            if let Some(note) = item.note.as_ref().filter(|_| name_of(&item.id) == Some(lifecycle::NOTE)) {
                self.unpublished.noted(note);
            }
            return Ok(());
        }
        if item.archived || item.definition.is_some() {
            self.forget_parked(&item.id);
        }
        if let Some(parked) = item.parked {
            self.park(&item.id, *parked, &item.definition.unwrap_or_default(), sequence);
            return Ok(());
        }
        if item.archived {
            self.ended.extend(self.live.remove(&item.id));
            if self.ended.len() > ENDED {
                self.ended.pop_front();
            }
            return Ok(());
        }
        // Entries of an instance whose start was forgotten belong to one that ended, or stand before its snapshot.
        if item.definition.is_none() && !self.live.contains_key(&item.id) {
            return Ok(());
        }
        let found = self.live.entry(item.id).or_default();
        if let Some(digest) = item.definition {
            (found.digest, found.since) = (digest.into(), sequence);
        }
        if let Some(snapshot) = item.snapshot {
            found.state = *snapshot;
            (found.claims, found.missing) = (Vec::new(), false);
        }
        if found.missing {
            return Ok(());
        }
        let before = (self.unpublished.level != Lifecycle::None).then(|| found.state.clone());
        for entry in &item.entries {
            self.clock = self.clock.max(entry.at.as_millis());
            sinew_workflow::apply(&mut found.state, entry)
                .map_err(|error| OpenError::Damaged(found.state.id().to_owned(), error))?;
        }
        let happened = self.unpublished.level.of(before.as_ref(), &item.entries, &found.state);
        self.unpublished.push(sequence, happened);
        Ok(())
    }

    fn park(&mut self, id: &str, mut parked: record::Parked, digest: &str, sequence: u64) {
        self.live.remove(id);
        let (id, ears) = (Id::of(id), parked.take_ears());
        if !ears.is_empty() {
            self.ears.insert(id.clone(), ears);
        }
        let record::Parked { started, wake, status, .. } = parked;
        let summary = Summary { sequence, started, wake, status, drawn: false };
        self.parked.insert(id, &summary, (&Arc::from(digest), &parked.workflow));
    }

    fn forget_parked(&mut self, id: &str) {
        if !self.parked.is_empty() {
            let id = Id::of(id);
            self.parked.remove(&id);
            self.ears.remove(&id);
        }
    }

    /// Adds a piece of a large item; returns the item when it is whole. One that was begun and never ended does not
    /// count: its owner stopped in between, and what it was to replace still stands.
    fn piece(&mut self, id: String, piece: Piece, sequence: u64) -> Option<(u64, Vec<u8>)> {
        if piece.index == 0 {
            self.pieces.insert(id.clone(), (sequence, 0, Vec::new()));
        }
        let (_, next, bytes) = self.pieces.get_mut(&id).filter(|(_, next, _)| *next == piece.index)?;
        *next += 1;
        bytes.extend(piece.bytes);
        if !piece.last {
            return None;
        }
        self.pieces.remove(&id).map(|(first, _, bytes)| (first, bytes))
    }
}
