//! Shards on a log in memory, driven by hand: every append, acknowledgement, reply and crash happens when a test says.

mod crashes;
mod notes;
mod parking;
mod promises;
mod stage;

use stage::{Stage, definition};

use super::{Release, Shard, World};
use crate::journal::Journal;

impl<J: Journal, W: World> Shard<J, W> {
    /// Plants the violation that everything else here is to prevent.
    pub(super) fn leak(&mut self, releases: Vec<Release>) -> Vec<Release> {
        if !self.leaks {
            return releases;
        }
        let (early, kept): (Vec<_>, Vec<_>) =
            releases.into_iter().partition(|release| matches!(release, Release::Effects { .. }));
        early.into_iter().for_each(|release| self.release(release, 0));
        kept
    }
}
