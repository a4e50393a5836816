//! The receiving side's account of a stream: nothing is skipped, nothing comes unasked. Pure: no clock, no I/O.

/// What the headers of a message say, and whether it has a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: Option<u64>,
    pub(crate) end: Option<u64>,
    pub(crate) is_empty: bool,
}

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The handler is still at work on opening the stream.
    Preparing,
    /// The stream is open, and nothing was lost so far.
    Alive,
    /// The next item.
    Item,
    /// The end, and nothing was lost.
    End,
    /// What the message should have been preceded by did not come.
    Gap { missing: u64 },
    /// More was sent than asked for, or a number came twice.
    Unasked,
    /// A plain reply: the operation does not answer with a stream.
    Reply,
}

/// How many items came and how many were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    seen: u64,
    allowed: u64,
}

impl Order {
    pub(crate) fn new(credit: u64) -> Self {
        Self { seen: 0, allowed: credit }
    }

    /// Returns how many items may come in all.
    pub(crate) fn allowed(self) -> u64 {
        self.allowed
    }

    /// Asks for `allowed` items in all.
    pub(crate) fn allow(&mut self, allowed: u64) {
        self.allowed = self.allowed.max(allowed);
    }

    /// Says what a message means, and counts it if it is an item.
    pub(crate) fn judge(&mut self, head: Head) -> Part {
        match head {
            Head { end: Some(count), .. } => self.level(count, Part::End),
            Head { seq: None, is_empty: true, .. } => Part::Preparing,
            Head { seq: None, .. } => Part::Reply,
            Head { seq: Some(number), is_empty: true, .. } => self.level(number, Part::Alive),
            Head { seq: Some(number), .. } => self.item(number),
        }
    }

    fn item(&mut self, number: u64) -> Part {
        let Some(before) = number.checked_sub(1) else { return Part::Unasked };
        let part = self.level(before, Part::Item);
        if part == Part::Item {
            if number > self.allowed {
                return Part::Unasked;
            }
            self.seen = number;
        }
        part
    }

    /// Returns `part` if exactly `count` items came so far.
    fn level(self, count: u64, part: Part) -> Part {
        match count.checked_sub(self.seen) {
            Some(0) => part,
            Some(missing) => Part::Gap { missing },
            None => Part::Unasked,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn item(number: u64) -> Head {
        Head { seq: Some(number), end: None, is_empty: false }
    }

    const fn alive(sent: u64) -> Head {
        Head { seq: Some(sent), end: None, is_empty: true }
    }

    const fn end(count: u64) -> Head {
        Head { seq: None, end: Some(count), is_empty: true }
    }

    #[test]
    fn a_whole_stream_is_taken() {
        let mut order = Order::new(2);
        let heads =
            [Head { seq: None, end: None, is_empty: true }, alive(0), item(1), alive(1), item(2), end(2)];
        let parts = [Part::Preparing, Part::Alive, Part::Item, Part::Alive, Part::Item, Part::End];
        assert_eq!(heads.map(|head| order.judge(head)), parts);
    }

    #[test]
    fn what_breaks_the_rules_is_named() {
        let mut order = Order::new(1);
        assert_eq!(order.judge(Head { seq: None, end: None, is_empty: false }), Part::Reply);
        assert_eq!(order.judge(item(0)), Part::Unasked);
        assert_eq!(order.judge(item(1)), Part::Item);
        assert_eq!(order.judge(item(1)), Part::Unasked);
        assert_eq!(order.judge(alive(0)), Part::Unasked);
        assert_eq!(order.judge(item(2)), Part::Unasked, "nobody asked for it");
        order.allow(5);
        assert_eq!(order.judge(item(5)), Part::Gap { missing: 3 });
    }

    proptest! {
        /// Any messages may be lost on the way: what is taken is whole, or the loss is noticed at the next message.
        #[test]
        fn a_loss_is_never_skipped(lost in prop::collection::vec(any::<bool>(), 1..40)) {
            let mut order = Order::new(100);
            let count = lost.len() as u64;
            let mut missing = false;
            for (number, lost) in (1..).zip(&lost) {
                if *lost {
                    missing = true;
                    continue;
                }
                let part = order.judge(item(number));
                prop_assert_eq!(part == Part::Item, !missing);
                if missing {
                    return Ok(());
                }
            }
            prop_assert_eq!(order.judge(alive(count)) == Part::Alive, !missing);
            prop_assert_eq!(order.judge(end(count)) == Part::End, !missing);
        }

        #[test]
        fn no_more_items_are_taken_than_asked_for(allowed in 0u64..50, numbers in prop::collection::vec(0u64..60, 0..100)) {
            let mut order = Order::new(allowed);
            let taken = numbers.into_iter().filter(|number| order.judge(item(*number)) == Part::Item).count();
            prop_assert!(taken as u64 <= allowed);
        }
    }
}
