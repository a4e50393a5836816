//! Work that a service took on and does later: how long it is waited for.

use super::{Driver, Todo};
use crate::entry::{Accepted, Fact, Taken, Timer};
use crate::state::{Frame, Work};
use crate::{Error, Fault, TaskId, Terms};

/// How long work that was taken on may last when nothing is said: a day.
const WITHIN_MS: u64 = 24 * 3_600 * 1_000;
/// The longest it may last: a year.
const LONGEST_MS: u64 = 366 * WITHIN_MS;
/// The shortest silence that is taken for an end: what is shorter is a log entry per breath.
const SHORTEST_SILENCE_MS: u64 = 1_000;

impl Driver<'_> {
    /// Somebody took the work of an attempt on, or says anew how long it takes.
    pub(super) fn accept(&mut self, task: TaskId, attempt: u32, terms: Terms) -> Result<(), Error> {
        if self.called(task, attempt).is_none() {
            return Ok(());
        }
        let Terms { heartbeat_ms, within_ms } = terms;
        let taken = Taken {
            until: self.at.after(within_ms.unwrap_or(WITHIN_MS).min(LONGEST_MS)),
            heartbeat_ms: heartbeat_ms.map(|millis| millis.max(SHORTEST_SILENCE_MS)),
        };
        self.note_life(task, attempt, taken)
    }

    /// A sign of life of work that was taken on.
    pub(super) fn beat(&mut self, task: TaskId, attempt: u32) -> Result<(), Error> {
        let taken = self.called(task, attempt).and_then(Frame::taken);
        match taken.filter(|taken| taken.heartbeat_ms.is_some()) {
            Some(taken) => self.note_life(task, attempt, taken),
            None => Ok(()),
        }
    }

    /// The work was not done in time, or whoever does it fell silent. Nobody knows how far it got.
    pub(super) fn lapsed(&mut self, task: TaskId, attempt: u32, taken: Taken) -> Result<(), Error> {
        let name = &self.state.frame(task)?.name;
        let fault = if self.at >= taken.until {
            Fault::timeout(format!("the work `{name}` was taken on for was not done in time"))
                .with_code("deadline-exceeded")
        } else {
            let silence = taken.heartbeat_ms.unwrap_or_default();
            Fault::timeout(format!("whoever took on `{name}` gave no sign of life for {silence} ms"))
                .with_code("heartbeat-missed")
        };
        // Whoever is at it, or has not begun, is told to stop.
        self.stop(task, attempt)?;
        self.todo.push(Todo::Fail { task, fault: fault.into() });
        Ok(())
    }

    fn note_life(&mut self, task: TaskId, attempt: u32, taken: Taken) -> Result<(), Error> {
        let timer = Timer { number: self.state.next_timer, at: taken.lapse(self.at) };
        self.record(Fact::Accepted(Box::new(Accepted { task, attempt, taken, timer })))
    }

    /// Finds the task whose call of this attempt is in flight.
    fn called(&self, task: TaskId, attempt: u32) -> Option<&Frame> {
        let frame = self.state.frames.get(&task)?;
        (frame.attempts == attempt && frame.calls()).then_some(frame)
    }
}

impl Frame {
    /// Says whether a call is in flight.
    pub(crate) fn calls(&self) -> bool {
        matches!(self.work, Work::Call(_))
    }

    /// Returns the terms on which its call was taken on, if it was.
    pub(crate) fn taken(&self) -> Option<Taken> {
        if let Work::Call(call) = &self.work { call.taken } else { None }
    }
}
