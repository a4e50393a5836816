//! How listening is folded: what was heard, queued, gone through and kept.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Fold;
use crate::entry::{Data, Heard, ItemLeft, Listened, Part};
use crate::state::{Correlation, Frame, Listening, Work, remember};
use crate::{AttemptOutcome, Error, StepStatus, TaskId};

impl Fold<'_> {
    pub(super) fn listened(mut self, listened: &Listened) -> Result<(), Error> {
        self.note_timer(listened.timer);
        // What the instance has heard, it has: who listens later does not hear it again.
        let correlation = Correlation { origins: self.state.heard.clone(), ..Correlation::default() };
        let frame = self.frame(listened.task)?;
        if frame.work != Work::None || listened.attempt != frame.attempts + 1 {
            return Err(self.illegal("an attempt follows the end of the one before"));
        }
        frame.attempts = listened.attempt;
        frame.timer = listened.timer;
        frame.work = Work::Listen(Box::new(Listening {
            source: listened.source.clone(),
            correlation,
            queue: VecDeque::new(),
            results: Vec::new(),
            taken: 0,
            item: None,
            last: None,
            ended: false,
            each: listened.each.clone(),
            forgets: listened.forgets,
        }));
        if let Some(step) = self.state.step_mut(listened.task) {
            (step.status, step.sent) = (StepStatus::Waiting, listened.attempt);
        }
        Ok(())
    }

    pub(super) fn heard(mut self, heard: &Heard) -> Result<(), Error> {
        let listening = self.listening(heard.task)?;
        if listening.ended {
            return Err(Error::Illegal { entry: "heard", reason: "the task listens no more" });
        }
        listening.correlation.note(heard.origin.as_deref(), heard.filter, &heard.keys);
        listening.ended = heard.last;
        listening.last = heard.origin.clone().or(listening.last.take());
        match &heard.item {
            Data::Is(item) if listening.each.is_some() => listening.queue.push_back(Arc::clone(item)),
            Data::Is(item) => {
                listening.taken = listening.taken.saturating_add(1);
                listening.results.push(Arc::clone(item));
            }
            Data::Same => {}
        }
        if let Some(origin) = &heard.origin {
            remember(&mut self.state.heard, origin);
        }
        Ok(())
    }

    pub(super) fn item_opened(mut self, task: TaskId) -> Result<(), Error> {
        let (frame, mut listening) = self.take_listening(task)?;
        let (Some(item), None) = (listening.queue.pop_front(), &listening.item) else {
            return Err(Error::Illegal { entry: "item-opened", reason: "no event waits for its turn" });
        };
        frame.part = if listening.taken == 0 { Part::First } else { Part::Again(listening.taken) };
        if let Some((each, at)) = &listening.each {
            frame.vars.insert(each.clone(), Arc::clone(&item));
            frame.vars.insert(at.clone(), Arc::new(json!(listening.taken)));
        }
        frame.data = Arc::clone(&item);
        frame.visits.clear();
        listening.item = Some(item);
        listening.taken = listening.taken.saturating_add(1);
        frame.work = Work::Listen(listening);
        self.set_status(task, StepStatus::Running);
        Ok(())
    }

    pub(super) fn item_left(mut self, left: &ItemLeft) -> Result<(), Error> {
        let (frame, mut listening) = self.take_listening(left.task)?;
        let Some(item) = listening.item.take() else {
            return Err(Error::Illegal { entry: "item-left", reason: "no event is gone through" });
        };
        if !listening.forgets {
            listening.results.push(left.output.or(&item));
        }
        if let Some((each, at)) = &listening.each {
            frame.vars.remove(each);
            frame.vars.remove(at);
        }
        frame.data = Arc::clone(&frame.input);
        frame.work = Work::Listen(listening);
        let undo = frame.undo;
        if let Some(context) = left.context.value() {
            match undo {
                Some(undo) => self.frame(undo)?.context = Arc::clone(context),
                None => self.state.context = Arc::clone(context),
            }
        }
        self.set_status(left.task, StepStatus::Waiting);
        Ok(())
    }

    pub(super) fn listening_ended(mut self, task: TaskId) -> Result<(), Error> {
        self.interrupt_inside(task)?;
        let (frame, listening) = self.take_listening(task)?;
        frame.answer = Some(Arc::new(listening.results.iter().map(|result| Value::clone(result)).collect()));
        frame.timer = None;
        self.set_status(task, StepStatus::Running);
        Ok(())
    }

    /// What was in flight is given up. Nobody knows what came of a call; listening changes nothing in the world.
    pub(super) fn stopped(mut self, task: TaskId, attempt: u32) -> Result<(), Error> {
        let frame = self.frame(task)?;
        if frame.attempts != attempt || frame.work == Work::None {
            return Err(self.illegal("the attempt is not the one in flight"));
        }
        if frame.taken().is_some() {
            frame.timer = None;
        }
        if frame.listening().is_none() {
            frame.touched = true;
            frame.work = Work::None;
            self.end_attempt(task, AttemptOutcome::Unknown, None);
        } else {
            frame.work = Work::None;
        }
        Ok(())
    }

    fn listening(&mut self, task: TaskId) -> Result<&mut Listening, Error> {
        let entry = self.entry;
        match &mut self.frame(task)?.work {
            Work::Listen(listening) => Ok(listening),
            _ => Err(Error::Illegal { entry, reason: "the task does not listen" }),
        }
    }

    fn take_listening(&mut self, task: TaskId) -> Result<(&mut Frame, Box<Listening>), Error> {
        let entry = self.entry;
        let frame = self.frame(task)?;
        match std::mem::take(&mut frame.work) {
            Work::Listen(listening) => Ok((frame, listening)),
            _ => Err(Error::Illegal { entry, reason: "the task does not listen" }),
        }
    }
}
