//! `apply`: folds one entry into the state. It never evaluates and never chooses.

mod accept;
mod close;
mod ends;
mod listen;
mod undo;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{Call, Frame, State, Status, Work};
use crate::entry::{Answer, Data, Entered, Fact, Left, Opened, Part, Request, Started, Timer};
use crate::{
    Attempt, AttemptOutcome, Child, Entry, Error, Fault, Step, StepStatus, Target, TaskId, Timestamp, Verb,
};

/// Folds an entry into the state: the only way a state changes, live and in recovery.
///
/// # Errors
/// [`Error::Illegal`] when the entry does not follow from the state; the state may then be half changed.
pub fn apply(state: &mut State, entry: &Entry) -> Result<(), Error> {
    state.folded = state.folded.saturating_add(1);
    let at = entry.at;
    let fold = Fold { state, at, entry: entry.name() };
    match &entry.fact {
        Fact::Started(started) => fold.started(started),
        Fact::Entered(entered) => fold.entered(entered),
        Fact::Skipped(entered) => fold.skipped(entered),
        Fact::Called { task, attempt, request, body } => {
            fold.called(*task, request).sent(*task, *attempt, |frame| {
                Work::Call(Box::new(Call {
                    request: Arc::clone(request),
                    body: body.or(&frame.input),
                    taken: None,
                }))
            })
        }
        Fact::Emitted { task, attempt, id, event } => {
            fold.sent(*task, *attempt, |_| Work::Emit { id: id.clone(), event: Arc::clone(event) })
        }
        Fact::Waiting { task, timer } => fold.waiting(*task, *timer),
        Fact::Answered { task, attempt, outcome } => fold.answered(*task, *attempt, outcome),
        Fact::Signed { task, who } => fold.signed(*task, who),
        Fact::Claimed { task, who, until } => fold.claimed(*task, who, *until),
        Fact::Accepted(accepted) => fold.accepted(accepted),
        Fact::Listened(listened) => fold.listened(listened),
        Fact::Heard(heard) => fold.heard(heard),
        Fact::ItemOpened { task } => fold.item_opened(*task),
        Fact::ItemLeft(left) => fold.item_left(left),
        Fact::ListeningEnded { task, .. } => fold.listening_ended(*task),
        Fact::Stopped { task, attempt, .. } => fold.stopped(*task, *attempt),
        Fact::Opened(opened) => fold.opened(opened),
        Fact::Left(left) => fold.left(left),
        Fact::Ended(ended) => fold.ended(ended),
        Fact::UndoStarted(started) => fold.undo_started(started),
        Fact::UndoFailed(failed) => fold.undo_failed(failed),
        Fact::UndoEnded { task } => fold.undo_ended(*task),
        Fact::Decided { of, action, decision } => fold.decided(*of, *action, decision),
        Fact::GaveUp { fault } => fold.gave_up(fault),
        Fact::Settled { abandoned } => fold.settled(*abandoned),
        Fact::Recalled { fault, timer } => fold.recalled(fault, *timer),
        Fact::Terminated { fault } => fold.terminated(fault),
        Fact::Paused | Fact::Resumed => fold.paused(matches!(entry.fact, Fact::Paused)),
        Fact::Kept(kept) => fold.kept(kept),
    }
}

/// One entry being folded.
struct Fold<'s> {
    state: &'s mut State,
    at: Timestamp,
    entry: &'static str,
}

impl Fold<'_> {
    fn started(mut self, started: &Started) -> Result<(), Error> {
        if self.state.is_started() {
            return Err(self.illegal("the instance is already started"));
        }
        let data = started.data.or(&started.input);
        let root = Frame {
            key: Arc::clone(&started.id),
            started_at: self.at,
            raw: Arc::clone(&started.input),
            input: Arc::clone(&data),
            data: Arc::clone(&data),
            timeout: started.deadline,
            ..Frame::blank()
        };
        self.state.id.clone_from(&started.id);
        self.state.workflow = Arc::clone(&started.workflow);
        self.state.trace.clone_from(&started.trace);
        self.state.input = Arc::clone(&started.input);
        self.state.context = data;
        self.state.status = Some(Status::Running);
        self.state.is_saga = started.saga;
        self.state.parent.clone_from(&started.parent);
        self.state.started_at = Some(self.at);
        self.state.next_task = 1;
        self.note_timer(started.deadline);
        self.state.frames.insert(TaskId::WORKFLOW, Arc::new(root));
        Ok(())
    }

    fn entered(mut self, entered: &Entered) -> Result<(), Error> {
        let parent = self.visit(entered)?;
        let (raw, undo) = (Arc::clone(&parent.data), parent.undo);
        if self.state.frames.contains_key(&entered.task) {
            return Err(self.illegal("the task is already open"));
        }
        let input = entered.input.or(&raw);
        let mut frame = Frame {
            parent: Some(entered.parent),
            undo,
            name: Arc::clone(&entered.name),
            pointer: Arc::clone(&entered.pointer),
            key: Arc::clone(&entered.key),
            visit: entered.visit,
            started_at: self.at,
            data: Arc::clone(&input),
            raw,
            input,
            branch: entered.branch,
            timeout: entered.timeout,
            compensate: entered.compensate,
            pivot: entered.pivot,
            ..Frame::blank()
        };
        if undo.is_none() {
            let step = self.step(entered, StepStatus::Running)?;
            // A retry goes on where the task left off: what it may have done before still counts.
            frame.attempts = step.attempts.last().map_or(0, |attempt| attempt.number).max(step.sent);
            frame.touched = step.attempts.iter().any(|attempt| {
                matches!(attempt.outcome, Some(AttemptOutcome::Completed | AttemptOutcome::Unknown))
            });
        }
        frame.touched |= self.state.records.contains_key(&entered.task);
        self.note_timer(entered.timeout);
        self.state.frames.insert(entered.task, Arc::new(frame));
        Ok(())
    }

    fn skipped(mut self, entered: &Entered) -> Result<(), Error> {
        let at = self.at;
        let parent = self.visit(entered)?;
        if let Some(branch) = entered.branch {
            parent.results.insert(branch, Arc::clone(&parent.data));
        }
        if parent.undo.is_none() {
            self.step(entered, StepStatus::Skipped)?.ended_at = Some(at);
        }
        Ok(())
    }

    /// Notes a call of a child that may have to be released or undone.
    fn called(self, task: TaskId, request: &Request) -> Self {
        if let Target::Workflow(Child { wait: true, verb: Verb::Run, .. }) = request.target {
            self.state.children.insert(task);
        }
        self
    }

    fn sent(mut self, task: TaskId, attempt: u32, work: impl FnOnce(&Frame) -> Work) -> Result<(), Error> {
        let at = self.at;
        let frame = self.frame(task)?;
        if frame.work != Work::None || attempt != frame.attempts + 1 {
            return Err(self.illegal("an attempt follows the end of the one before"));
        }
        frame.work = work(frame);
        frame.attempts = attempt;
        frame.refused = false;
        if let Some(step) = self.state.step_mut(task) {
            step.sent = attempt;
            step.attempts.push(Attempt {
                number: attempt,
                started_at: at,
                ended_at: None,
                outcome: None,
                fault: None,
                claims: None,
                by: None,
            });
        }
        Ok(())
    }

    fn waiting(mut self, task: TaskId, timer: Timer) -> Result<(), Error> {
        self.note_timer(Some(timer));
        self.frame(task)?.timer = Some(timer);
        self.set_status(task, StepStatus::Waiting);
        Ok(())
    }

    fn answered(mut self, task: TaskId, attempt: u32, answer: &Answer) -> Result<(), Error> {
        let frame = self.frame(task)?;
        if frame.attempts != attempt {
            return Err(self.illegal("the attempt is not the one in flight"));
        }
        if frame.taken().is_some() {
            frame.timer = None;
        }
        let work = std::mem::take(&mut frame.work);
        match (work, answer) {
            // A source that failed or ended: what was heard stays, for the engine to decide.
            (work @ Work::Listen(_), Answer::Completed(_)) => {
                frame.work = work;
                if let Work::Listen(listening) = &mut frame.work {
                    listening.ended = true;
                }
                return Ok(());
            }
            (Work::Listen(_), _) => return Ok(()),
            (Work::None, _) => return Err(self.illegal("no attempt is in flight")),
            (Work::Emit { event, .. }, Answer::Completed(_)) => frame.answer = Some(event),
            (Work::Call(_), Answer::Completed(reply)) => frame.answer = Some(Arc::clone(reply)),
            _ => {}
        }
        frame.touched |= matches!(answer, Answer::Completed(_) | Answer::Unknown(_));
        frame.refused = matches!(answer, Answer::Refused(_) | Answer::NotSent(_));
        let (outcome, fault) = match answer {
            Answer::Completed(_) => (AttemptOutcome::Completed, None),
            Answer::Refused(fault) => (AttemptOutcome::Refused, Some(fault)),
            Answer::NotSent(fault) => (AttemptOutcome::NotSent, Some(fault)),
            Answer::Unknown(fault) => (AttemptOutcome::Unknown, Some(fault)),
        };
        self.end_attempt(task, outcome, fault);
        Ok(())
    }

    fn opened(mut self, opened: &Opened) -> Result<(), Error> {
        self.interrupt_inside(opened.task)?;
        self.note_timer(opened.timer);
        let frame = self.frame(opened.task)?;
        frame.part = opened.part;
        if let Some(items) = &opened.items {
            frame.items = Some(Arc::clone(items));
        }
        let same = if frame.is_loop() { &frame.data } else { &frame.input };
        frame.data = opened.data.or(same);
        frame.vars.extend(opened.vars.iter().map(|(name, value)| (name.clone(), Arc::clone(value))));
        frame.visits.clear();
        frame.timer = opened.timer;
        let status =
            if matches!(opened.part, Part::Pause(_)) { StepStatus::Waiting } else { StepStatus::Running };
        self.set_status(opened.task, status);
        Ok(())
    }

    fn left(mut self, left: &Left) -> Result<(), Error> {
        self.interrupt_inside(left.task)?;
        match &left.fault {
            Some(fault) => self.close_failed(left.task, Some(fault)),
            None => self.close_completed(left),
        }
    }

    /// Counts an entry into a task and returns the frame it happens in.
    fn visit(&mut self, entered: &Entered) -> Result<&mut Frame, Error> {
        let number = entered.task.0;
        self.state.next_task = self.state.next_task.max(number.saturating_add(1));
        let parent = self.frame(entered.parent)?;
        *parent.visits.entry(Arc::clone(&entered.pointer)).or_default() += 1;
        Ok(parent)
    }

    /// Finds the step of a task that is retried, or adds one.
    fn step(&mut self, entered: &Entered, status: StepStatus) -> Result<&mut Step, Error> {
        let known = self.state.steps.binary_search_by_key(&entered.task, |step| step.task);
        let index = match known {
            Ok(index) => index,
            Err(index) if index == self.state.steps.len() => {
                self.state.steps.push(Arc::new(new_step(entered, self.at)));
                index
            }
            Err(_) => return Err(self.illegal("tasks start in the order of their numbers")),
        };
        let step = Arc::make_mut(&mut self.state.steps[index]);
        (step.status, step.ended_at, step.fault) = (status, None, None);
        Ok(step)
    }

    fn set_status(&mut self, task: TaskId, status: StepStatus) {
        if let Some(step) = self.state.step_mut(task) {
            step.status = status;
        }
    }

    fn signed(self, task: TaskId, who: &str) -> Result<(), Error> {
        if let Some(attempt) = self.state.step_mut(task).and_then(|step| step.attempts.last_mut()) {
            attempt.by = Some(who.to_owned());
        }
        Ok(())
    }

    fn claimed(self, task: TaskId, who: &str, until: Timestamp) -> Result<(), Error> {
        let at = self.at;
        if let Some(attempt) = self.state.step_mut(task).and_then(|step| step.attempts.last_mut()) {
            attempt.claims.get_or_insert_default().note(who, at, until);
        }
        Ok(())
    }

    fn end_attempt(&mut self, task: TaskId, outcome: AttemptOutcome, fault: Option<&Fault>) {
        let at = self.at;
        if let Some(attempt) = self.state.step_mut(task).and_then(|step| step.attempts.last_mut()) {
            (attempt.ended_at, attempt.outcome, attempt.fault) = (Some(at), Some(outcome), fault.cloned());
        }
    }

    fn frame(&mut self, task: TaskId) -> Result<&mut Frame, Error> {
        let entry = self.entry;
        let frame = self.state.frames.get_mut(&task).map(Arc::make_mut);
        frame.ok_or(Error::Illegal { entry, reason: "the task is not open" })
    }

    fn note_timer(&mut self, timer: Option<Timer>) {
        if let Some(timer) = timer {
            self.state.next_timer = self.state.next_timer.max(timer.number.saturating_add(1));
        }
    }

    fn illegal(&self, reason: &'static str) -> Error {
        Error::Illegal { entry: self.entry, reason }
    }
}

impl Frame {
    /// Returns an empty frame, without memory of its own.
    pub(crate) fn blank() -> Self {
        static BLANK: LazyLock<Frame> = LazyLock::new(Frame::default);
        BLANK.clone()
    }

    /// Says whether its tasks run once per item.
    pub(crate) fn is_loop(&self) -> bool {
        self.items.is_some() || self.listening().is_some_and(|listening| listening.each.is_some())
    }

    /// Returns what a task of this kind leaves when nothing else is said: its reply, or the data of its tasks.
    pub(crate) fn outcome(&self) -> &Arc<Value> {
        self.answer.as_ref().unwrap_or(&self.data)
    }
}

fn new_step(entered: &Entered, at: Timestamp) -> Step {
    Step {
        task: entered.task,
        parent: Some(entered.parent).filter(|parent| *parent != TaskId::WORKFLOW),
        name: Arc::clone(&entered.name),
        pointer: Arc::clone(&entered.pointer),
        kind: Arc::clone(&entered.kind),
        status: StepStatus::Running,
        started_at: at,
        ended_at: None,
        attempts: Vec::new(),
        fault: None,
        undo: None,
        key: Arc::clone(&entered.key),
        sent: 0,
    }
}

impl Data {
    /// Says whether a value is noted here.
    pub(crate) fn value(&self) -> Option<&Arc<Value>> {
        if let Self::Is(value) = self { Some(value) } else { None }
    }
}
