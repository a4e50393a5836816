//! What gathers while an append is in flight: encoded items, and beside each what it releases.

use bytes::Bytes;

use super::Release;

#[derive(Default)]
pub(super) struct Batch {
    items: Vec<(Bytes, Vec<Release>)>,
    bytes: usize,
    /// How much left with the last record.
    taken: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns how much left with the last record.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Returns how much waits for the log.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, item: Bytes, releases: Vec<Release>) {
        self.bytes += item.len();
        self.items.push((item, releases));
    }

    /// Lets `release` go with the last item. Only for a batch that is not empty.
    pub(super) fn attach(&mut self, release: Release) {
        if let Some((_, releases)) = self.items.last_mut() {
            releases.push(release);
        }
    }

    /// Takes as many items as fit into `limit` bytes, at least one.
    pub(super) fn take(&mut self, limit: usize) -> (Vec<Bytes>, Vec<Release>) {
        let mut bytes = 0;
        let fits = self.items.iter().take_while(|(item, _)| {
            bytes += item.len();
            bytes <= limit
        });
        let count = fits.count().max(1).min(self.items.len());
        let (mut items, mut releases) = (Vec::with_capacity(count), Vec::with_capacity(count));
        self.taken = 0;
        for (item, mut own) in self.items.drain(..count) {
            self.bytes -= item.len();
            self.taken += item.len();
            items.push(item);
            releases.append(&mut own);
        }
        (items, releases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_what_fits_and_always_something() {
        let mut batch = Batch::default();
        for size in [40, 40, 40, 500] {
            batch.push(Bytes::from(vec![0; size]), Vec::new());
        }
        assert_eq!(batch.take(100).0.len(), 2);
        assert_eq!(batch.take(100).0.len(), 1);
        assert_eq!(batch.take(100).0.len(), 1, "an item larger than the limit still leaves");
        assert!(batch.is_empty());
    }
}
