//! Which bytes a request wants (RFC 9110, section 14). Pure: knows a field and a length.

use std::ops::Range;

/// Most ranges of one request; who asks for more gets everything.
const MOST: usize = 16;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: nothing else was asked for in a way that can be read.
    All,
    One(Range<u64>),
    /// These, as parts; none of them overlap.
    Many(Vec<Range<u64>>),
    /// Nothing of what there is.
    Nothing,
}

/// Reads a `Range` field for something of `size` bytes.
///
/// A field that cannot be read counts as none, and so does one that asks for very many parts. Parts that overlap or touch
/// are sent as one, so that nobody is sent more than there is.
pub(super) fn wanted(field: &str, size: u64) -> Wanted {
    let Some(specs) = specs(field) else { return Wanted::All };
    let mut ranges: Vec<Range<u64>> = specs.into_iter().filter_map(|spec| spec.of(size)).collect();
    let mut sorted = ranges.clone();
    sorted.sort_by_key(|range| range.start);
    if sorted.windows(2).any(|pair| pair[1].start <= pair[0].end) {
        ranges = merged(sorted);
    }
    match ranges.len() {
        0 => Wanted::Nothing,
        1 => Wanted::One(ranges.swap_remove(0)),
        _ => Wanted::Many(ranges),
    }
}

/// One range as it was written.
enum Spec {
    From(u64, Option<u64>),
    Last(u64),
}

impl Spec {
    fn read(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return number(last).map(Self::Last);
        }
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        // The other way round is no range, and spoils the field.
        if last.is_some_and(|last| last < first) { None } else { Some(Self::From(first, last)) }
    }

    fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

fn specs(field: &str) -> Option<Vec<Spec>> {
    let (unit, set) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let written = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let specs: Vec<Spec> = written.take(MOST + 1).map(Spec::read).collect::<Option<_>>()?;
    (1..=MOST).contains(&specs.len()).then_some(specs)
}

/// What is too large for a number lies behind every end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn merged(sorted: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_written() {
        use Wanted::{All, Many, Nothing, One};
        for (field, size, expected) in [
            ("bytes=0-0", 10, One(0..1)),
            ("bytes=2-4", 10, One(2..5)),
            ("bytes=5-", 10, One(5..10)),
            ("bytes=-3", 10, One(7..10)),
            ("bytes=-30", 10, One(0..10)),
            ("Bytes = 8-99999999999999999999999", 10, One(8..10)),
            ("bytes=0-1, 4-5,-2", 10, Many(vec![0..2, 4..6, 8..10])),
            ("bytes=8-9,0-1", 10, Many(vec![8..10, 0..2])),
            ("bytes=0-4,3-6", 10, One(0..7)),
            ("bytes=0-1,2-3", 10, One(0..4)),
            ("bytes=0-1,20-", 10, One(0..2)),
            ("bytes=10-", 10, Nothing),
            ("bytes=-0", 10, Nothing),
            ("bytes=0-", 0, Nothing),
            ("bytes=-5", 0, Nothing),
        ] {
            assert_eq!(wanted(field, size), expected, "{field}");
        }
        for none in ["", "bytes", "bytes=", "bytes=a-b", "bytes=4-2", "bytes=1-2,x", "lines=1-2", "bytes=-"] {
            assert_eq!(wanted(none, 10), All, "{none:?}");
        }
        let many: Vec<String> = (0..=MOST).map(|at| format!("{}-{}", at * 2, at * 2)).collect();
        assert_eq!(wanted(&format!("bytes={}", many.join(",")), 100), All);
    }

    proptest! {
        #[test]
        fn no_byte_is_sent_twice_and_every_one_asked_for_is_sent(
            size in 0_u64..50, specs in prop::collection::vec((0_u64..60, 0_u64..20), 1..MOST),
        ) {
            let written: Vec<String> =
                specs.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let ranges = match wanted(&format!("bytes={}", written.join(",")), size) {
                Wanted::All => vec![0..size],
                Wanted::One(range) => vec![range],
                Wanted::Many(ranges) => ranges,
                Wanted::Nothing => Vec::new(),
            };
            for byte in 0..size {
                let asked = specs.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
                let sent = ranges.iter().filter(|range| range.contains(&byte)).count();
                prop_assert_eq!(sent, usize::from(asked));
            }
            prop_assert!(ranges.iter().all(|range| range.end <= size && !range.is_empty()));
        }
    }
}
