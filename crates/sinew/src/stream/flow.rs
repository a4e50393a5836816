//! How far an upload may run ahead of the handler that takes its items: by number, and by size once that is seen. Pure.

/// Items that may come before the first one was seen.
const FIRST: u64 = 8;
/// However large they are, so that the next is there when one is taken.
const FEWEST: u64 = 4;
/// However small they are.
pub(super) const MOST: u64 = 256;
/// What waits to be taken, as long as items of the largest size seen fit into it more than [`FEWEST`] times.
const BYTES: u64 = 1 << 20;

/// The receiver's account of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    taken: u64,
    allowed: u64,
    largest: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self { taken: 0, allowed: FIRST, largest: 0 }
    }

    /// Returns how many items were taken.
    pub(super) fn taken(self) -> u64 {
        self.taken
    }

    /// Returns how many items may come in all.
    pub(super) fn allowed(self) -> u64 {
        self.allowed
    }

    /// Notes that an item of so many bytes was taken; says how many may come in all where that is worth a word.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        self.taken += 1;
        self.largest = self.largest.max(bytes as u64);
        let window = (BYTES / self.largest.max(1)).clamp(FEWEST, MOST);
        let ahead = self.allowed.saturating_sub(self.taken);
        (ahead <= window / 2).then(|| {
            self.allowed = self.taken + window;
            self.allowed
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sender_never_waits_for_a_handler_that_has_taken_everything(sizes in prop::collection::vec(0usize..2_000_000, 1..600)) {
            let (mut flow, mut told) = (Flow::new(), FIRST);
            for (taken, size) in (1u64..).zip(sizes) {
                told = flow.take(size).unwrap_or(told);
                prop_assert!(told > taken, "{told} allowed, {taken} taken");
                prop_assert_eq!(told, flow.allowed());
            }
        }

        #[test]
        fn what_waits_is_bounded_by_number_and_by_size(size in 0usize..2_000_000, items in 1u64..2_000) {
            let mut flow = Flow::new();
            for taken in 1..=items {
                let before = flow.allowed();
                flow.take(size);
                prop_assert!(flow.allowed() >= before);
                let ahead = flow.allowed() - taken;
                prop_assert!(ahead <= MOST && (ahead <= FIRST || ahead * size as u64 <= BYTES));
            }
        }
    }
}
