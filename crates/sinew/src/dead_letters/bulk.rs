//! The same action for many dead letters.

use super::{By, DeadLetters, Filter, Letter};
use crate::{Bulk, Error, bulk::pace, streams::DEAD_LETTERS};

/// Letters read at once.
const PAGE: usize = 256;

/// What became of an action on many letters.
#[derive(Debug, Default)]
pub struct Summary {
    /// Letters that matched.
    pub matched: u64,
    /// Letters the action was done with; none in a dry run.
    pub done: u64,
    /// Letters it failed for. They still stand.
    pub failed: Vec<(u64, Error)>,
}

impl DeadLetters {
    /// Gives every letter that matches to its group again, as [`DeadLetters::retry`] does.
    ///
    /// Letters that appear meanwhile are left alone, so that one which dies again at once is not retried without end.
    ///
    /// # Errors
    /// When the letters cannot be read. What fails for one letter stands in the summary.
    ///
    /// # Cancel safety
    /// Dropping the future ends it after some of the letters; going on is calling it again.
    pub async fn retry_all(&self, filter: &Filter, by: &By, bulk: Bulk) -> Result<Summary, Error> {
        self.each(filter, bulk, async |letter| self.retry(letter.sequence, by).await).await
    }

    /// Gives up every letter that matches for good, as [`DeadLetters::drop`] does.
    ///
    /// # Errors
    /// When the letters cannot be read. What fails for one letter stands in the summary.
    ///
    /// # Cancel safety
    /// Dropping the future ends it after some of the letters; going on is calling it again.
    pub async fn drop_all(&self, filter: &Filter, by: &By, bulk: Bulk) -> Result<Summary, Error> {
        self.each(filter, bulk, async |letter| self.drop(letter.sequence, by).await).await
    }

    async fn each(
        &self,
        filter: &Filter,
        bulk: Bulk,
        act: impl AsyncFn(&Letter) -> Result<bool, Error>,
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let last = self.bus().stream_state(DEAD_LETTERS).await?.last_sequence;
        let (mut after, mut clock) = (0, bulk.clock());
        loop {
            let page = self.page(filter, after, PAGE).await?;
            for letter in page.letters {
                if letter.sequence > last || bulk.is_over(summary.matched) {
                    return Ok(summary);
                }
                summary.matched += 1;
                if bulk.is_dry() {
                    continue;
                }
                pace(&mut clock).await;
                match act(&letter).await {
                    Ok(done) => summary.done += u64::from(done),
                    Err(error) => {
                        // When the bus fails for one it fails for all.
                        let stop = error.kind().is_retryable();
                        summary.failed.push((letter.sequence, error));
                        if stop {
                            return Ok(summary);
                        }
                    }
                }
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(summary),
            }
        }
    }
}
