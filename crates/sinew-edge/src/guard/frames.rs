//! HTTP/2 frames as they pass by. Counts those that cost the edge work and the client nothing: resets, pings, settings,
//! continuations, empty data.

use std::time::Instant;

/// What an HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames of that kind a client may send at once, and in a second from then on.
const BURST: u64 = 500;
const A_SECOND: u64 = 100;
const HEADER: usize = 9;

/// The frames of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    /// Bytes of the current frame that are still to come.
    left: usize,
    spent: u64,
    since: Option<Instant>,
}

impl Frames {
    /// Returns how many bytes may pass; not all of them where the header of a frame is not whole yet. The time is asked
    /// for only where a frame is counted.
    ///
    /// # Errors
    /// How many may pass before a frame that is one too many.
    pub(super) fn read(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<usize, usize> {
        let mut at = 0;
        loop {
            let skipped = self.left.min(bytes.len() - at);
            (at, self.left) = (at + skipped, self.left - skipped);
            let Some(header) = bytes.get(at..at + HEADER).filter(|_| self.left == 0) else { return Ok(at) };
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            if costs(header[3], header[4], length) && !self.spend(now()) {
                return Err(at);
            }
            (at, self.left) = (at + HEADER, length as usize);
        }
    }

    /// Counts one; no where it is too many.
    fn spend(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.duration_since(since).as_secs();
        if seconds > 0 {
            self.spent = self.spent.saturating_sub(seconds.saturating_mul(A_SECOND));
            self.since = Some(now);
        }
        self.spent += 1;
        self.spent <= BURST
    }
}

/// Says whether a frame is work without a request. Windows are opened as often as data was sent, so they are not counted.
fn costs(kind: u8, flags: u8, length: u32) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const WINDOW_UPDATE: u8 = 8;
    const END_STREAM: u8 = 1;
    match kind {
        DATA => length == 0 && flags & END_STREAM == 0,
        HEADERS | WINDOW_UPDATE => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn a_flood_is_stopped_and_a_steady_stream_is_not() {
        let begin = Instant::now();
        let mut frames = Frames::default();
        for _ in 0..BURST {
            assert_eq!(frames.read(&PING, || begin), Ok(PING.len()));
        }
        assert_eq!(frames.read(&PING, || begin), Err(0));
        let mut frames = Frames::default();
        for number in 0..10 * BURST {
            let now = begin + Duration::from_millis(20) * u32::try_from(number).unwrap();
            assert_eq!(frames.read(&PING, || now), Ok(PING.len()));
        }
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut frames = Frames::default();
        let mut read = |bytes: &[u8]| frames.read(bytes, Instant::now);
        // Half a header waits for its other half; half a payload passes.
        assert_eq!(read(&PING[..5]), Ok(0));
        assert_eq!(read(&PING[..12]), Ok(12));
        assert_eq!(read(&[&PING[12..], &PING[..]].concat()), Ok(5 + 17));
        assert_eq!(frames.spent, 2);
    }

    #[test]
    fn the_end_of_a_body_costs_nothing() {
        assert!(costs(0, 0, 0) && !costs(0, 1, 0) && !costs(0, 0, 9));
    }
}
