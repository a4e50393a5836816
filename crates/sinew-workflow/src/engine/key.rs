//! Idempotency keys and jitter: what must be the same whenever the engine is asked again.

use std::{borrow::Cow, sync::Arc};

use super::Driver;
use crate::TaskId;
use crate::entry::Part;
use crate::language::plan::{Kind, Task};
use crate::state::Frame;

impl Driver<'_> {
    /// Derives the key of a task that starts inside another: `<instance><pointer>[#iteration]`, or the same relative to
    /// the nearest key an author chose, or to the step a compensation undoes.
    ///
    /// It depends on where the task is and which iteration runs, never on how often that was tried, nor on extensions
    /// around it: what stands in an extended task shares that one's level.
    pub(super) fn key(&self, parent: TaskId, pointer: &str, visit: u32) -> Arc<str> {
        let (mut iterations, mut visits) = (Vec::new(), vec![visit]);
        let mut base = (&*self.state.id, Cow::Borrowed(""));
        let frames = &self.state.frames;
        for frame in std::iter::successors(frames.get(&parent), |frame| frames.get(&frame.parent?)) {
            let task = self.definition.plan.find(&frame.pointer).map(|(_, task)| task);
            if let Some(own) = own_key(frame, task) {
                base = own;
                break;
            }
            iterations.extend(iteration(frame));
            if task.is_some_and(|task| matches!(task.kind, Kind::Extended(_))) {
                // Its parts run once each.
                visits.pop();
            }
            visits.push(frame.visit);
        }
        let relative = pointer.strip_prefix(&*base.1).unwrap_or(pointer);
        [base.0, relative, &suffix(iterations, visits)].concat().into()
    }
}

/// Returns a key that those inside derive theirs from, and the pointer it stands for.
fn own_key<'s>(frame: &'s Frame, task: Option<&Task>) -> Option<(&'s str, Cow<'s, str>)> {
    if frame.undoes.is_some() {
        return Some((&frame.key, format!("{}/compensate", frame.pointer).into()));
    }
    task?.key.is_some().then(|| (&*frame.key, Cow::Borrowed(&*frame.pointer)))
}

/// Spreads over `0..span` what must differ between instances and attempts, but never between runs.
pub(super) fn jitter(key: &str, attempt: u32, span: u64) -> u64 {
    // FNV-1a: small, stable forever, and nobody gains from a collision.
    let bytes = key.bytes().chain(attempt.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) % span.max(1)
}

fn iteration(frame: &Frame) -> Option<u32> {
    frame.is_loop().then_some(())?;
    Some(match frame.part {
        Part::Again(times) | Part::Pause(times) => times,
        Part::First | Part::Catch => 0,
    })
}

/// Writes which iterations of the loops around a task run, the outermost first, and how often backward jumps led there
/// before: `#2`, `#2.0`, `#2~3.1`. The level of a jump is written too, since jumps are rare and levels are many.
fn suffix(iterations: Vec<u32>, visits: Vec<u32>) -> String {
    let mut suffix = String::new();
    if iterations.iter().any(|iteration| *iteration != 0) {
        let numbers: Vec<String> = iterations.iter().rev().map(u32::to_string).collect();
        suffix = format!("#{}", numbers.join("."));
    }
    for (level, visit) in visits.iter().rev().enumerate().filter(|(_, visit)| **visit != 0) {
        suffix.push_str(&format!("~{level}.{visit}"));
    }
    suffix
}
