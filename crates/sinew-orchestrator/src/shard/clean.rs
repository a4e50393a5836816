//! Keeping the log as short as what lives in it: whole states of old instances are written again, then what stands
//! before the oldest needed record is forgotten.
//!
//! The oldest go first, and as many bytes are written again as others wrote: so cleaning costs at most as much as the
//! work itself, never holds it up, rests when nothing happens, and the log stays within twice what lives in it.

use std::collections::{BTreeSet, VecDeque};

use super::{Release, Shard, World, notes::name_of};
use crate::{journal::Journal, record::split};

/// Where the instances stand in the log, and what may be forgotten.
pub(super) struct Cleaner {
    /// Instances by the oldest record they need. Those whose state is on its way to a newer place are not here.
    ages: BTreeSet<(u64, String)>,
    /// The old places of those, in the order in which they will leave them.
    moving: VecDeque<u64>,
    /// Bytes that others wrote and the cleaner has not yet matched.
    credit: i64,
    /// Everything before this record is forgotten.
    forgotten: u64,
}

impl Cleaner {
    pub(super) fn new(first: u64) -> Self {
        Self { ages: BTreeSet::new(), moving: VecDeque::new(), credit: 0, forgotten: first }
    }

    /// Notes that others wrote so much; unused credit does not grow beyond `most`.
    pub(super) fn earn(&mut self, bytes: usize, most: usize) {
        let signed = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(signed(bytes)).min(signed(most));
    }

    /// Notes that an instance needs the log from record `since` on.
    pub(super) fn keep(&mut self, since: u64, id: &str) {
        self.ages.insert((since, id.to_owned()));
    }

    /// Notes that an instance needs the log no more.
    pub(super) fn release(&mut self, since: u64, id: &str) {
        self.ages.remove(&(since, id.to_owned()));
    }

    /// Notes that what stands at `since` is on its way to a newer place.
    pub(super) fn moves(&mut self, since: u64, id: &str) {
        self.release(since, id);
        self.moving.push_back(since);
    }

    /// Notes that the state of the instance that moved first is acknowledged in its new place.
    pub(super) fn moved(&mut self) {
        self.moving.pop_front();
    }

    /// Returns the oldest record anybody needs, if anybody needs one.
    fn horizon(&self) -> Option<u64> {
        let oldest = self.ages.first().map(|(since, _)| *since);
        self.moving.front().copied().into_iter().chain(oldest).min()
    }

    fn spend(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub_unsigned(bytes.try_into().unwrap_or(u64::MAX));
    }

    /// Returns the instance that stands longest in one place, when it stands before `limit`.
    fn laggard(&self, limit: u64) -> Option<(u64, String)> {
        self.ages.first().filter(|(since, _)| self.credit > 0 && *since < limit).cloned()
    }
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Moves what stands too far behind, as far as the credit goes, and forgets what nobody needs.
    pub(super) fn clean(&mut self) {
        let every = self.config.clean_every;
        while let Some((since, id)) = self.cleaner.laggard(self.last.saturating_sub(every)) {
            if !self.write_again(since, &id) {
                break;
            }
        }
        let horizon = self.cleaner.horizon().unwrap_or(self.last);
        if horizon >= self.cleaner.forgotten.saturating_add(every) {
            self.cleaner.forgotten = horizon;
            let (forget, told) = (self.journal.forget(horizon), self.world.told());
            self.work.spawn(async move {
                // What is not told yet stands nowhere else.
                if !told.await {
                    return;
                }
                if let Err(error) = forget.await {
                    tracing::debug!(%error, "the log could not be shortened this time");
                }
            });
        }
    }

    /// Puts an instance's whole state into the batch; says whether it could.
    fn write_again(&mut self, since: u64, id: &str) -> bool {
        if let Some(name) = name_of(id) {
            return self.note_again(since, name);
        }
        let Some(live) = self.live.get_mut(id).filter(|live| !live.leaving) else { return false };
        let limit = self.config.max_record_bytes;
        let pieces = match live.snapshot(id).encode().and_then(|item| split(id, item, limit)) {
            Ok(pieces) => pieces,
            Err(error) => {
                tracing::error!(instance = id, %error, "a state cannot be written again: it holds the log up");
                // Not tried again before a good deal more was written.
                self.cleaner.spend(limit);
                return false;
            }
        };
        live.obsolete.append(&mut live.claims);
        self.cleaner.moves(since, id);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            self.cleaner.spend(piece.len());
            let mut releases = Vec::new();
            if index == 0 {
                releases.push(Release::Moving { id: id.to_owned() });
            }
            if index == last {
                releases.push(Release::Moved { id: id.to_owned() });
            }
            self.batch.push(piece, releases);
        }
        true
    }
}
