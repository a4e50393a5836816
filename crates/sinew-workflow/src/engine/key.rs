//! Idempotency keys and jitter: what must be the same whenever the engine is asked again.

use std::fmt::Write;

use super::Driver;
use crate::entry::Part;
use crate::state::Frame;
use crate::TaskId;

impl Driver<'_> {
    /// Derives the key of a task that starts inside another: `<instance><pointer>[#pass]`, or the same relative to the
    /// nearest key an author chose, or to the step a compensation undoes.
    ///
    /// It depends on where the task is and which iteration runs, never on how often that was tried.
    pub(super) fn key(&self, parent: TaskId, pointer: &str, visit: u32) -> String {
        let mut passes = vec![visit];
        let mut base = (self.state.id.as_str().to_owned(), "");
        let frames = &self.state.frames;
        for frame in std::iter::successors(frames.get(&parent), |frame| frames.get(&frame.parent?)) {
            if let Some(own) = self.own_key(frame) {
                base = own;
                break;
            }
            passes.extend(iteration(frame));
            passes.push(frame.visit);
        }
        let relative = pointer.strip_prefix(base.1).unwrap_or(pointer);
        format!("{}{relative}{}", base.0, suffix(passes))
    }

    /// Returns a key that those inside derive theirs from, and the pointer it stands for.
    fn own_key<'f>(&self, frame: &'f Frame) -> Option<(String, &'f str)> {
        if frame.undoes.is_some() {
            return Some((frame.key.to_string(), &frame.pointer));
        }
        let (_, task) = self.definition.plan.find(&frame.pointer)?;
        task.key.is_some().then(|| (frame.key.to_string(), &*frame.pointer))
    }
}

/// Spreads over `0..span` what must differ between instances and attempts, but never between runs.
pub(super) fn jitter(key: &str, attempt: u32, span: u64) -> u64 {
    // FNV-1a: small, stable forever, and nobody gains from a collision.
    let bytes = key.bytes().chain(attempt.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)) % span.max(1)
}

fn iteration(frame: &Frame) -> Option<u32> {
    frame.items.as_ref()?;
    Some(match frame.part {
        Part::Again(times) | Part::Pause(times) => times,
        Part::First | Part::Catch => 0,
    })
}

/// Writes passes, the outermost first. Trailing zeros carry nothing: a pointer always has the same number of passes.
fn suffix(passes: Vec<u32>) -> String {
    let Some(last) = passes.iter().position(|pass| *pass != 0) else { return String::new() };
    let mut suffix = String::new();
    for (index, pass) in passes[last..].iter().rev().enumerate() {
        let separator = if index == 0 { '#' } else { '.' };
        // Writing to a string cannot fail.
        let _ = write!(suffix, "{separator}{pass}");
    }
    suffix
}
