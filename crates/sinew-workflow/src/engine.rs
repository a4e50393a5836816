//! `decide` and `run`: from an input to the entries it causes.
//!
//! A [`Driver`] works on the state itself. Whatever it finds out becomes an entry, and the entry is applied before the next
//! question is asked: so the engine never knows anything the log does not, and recovery is the same code as running.

mod accept;
mod catch;
mod child;
mod control;
mod enter;
mod env;
mod extend;
mod filter;
mod gather;
mod key;
mod kinds;
mod leave;
mod listen;
mod undo;

use std::sync::Arc;

use serde_json::Value;

use crate::entry::{Answer, Decided, Fact, Part, Started, Timer, Trigger};
use crate::language::plan;
use crate::state::{Frame, Work};
use crate::{
    Decision, Definition, Entry, Error, Fault, Input, Operate, Outcome, Parent, State, Status, TaskId,
    Timestamp, apply,
};
use env::Env;

/// How many things may follow from one input: jumps backwards could otherwise go on forever.
const MAX_TRANSITIONS: u32 = 20_000;
/// How many tasks an instance may start: its timeline is part of its state.
const MAX_STEPS: u32 = 20_000;

/// Decides what follows from an input, without changing the state.
///
/// Stale and repeated inputs decide nothing. Deciding twice decides the same. It works on a copy of the state, so
/// [`run`] is cheaper where the entries are to be applied anyway.
///
/// # Errors
/// [`Error::NotStarted`], [`Error::AlreadyStarted`], [`Error::WrongDefinition`] and [`Error::NotRunnable`] when the input
/// does not fit; [`Error::NotStuck`] when an operator has nothing to decide about.
pub fn decide(definition: &Definition, state: &State, input: &Input) -> Result<Vec<Entry>, Error> {
    Driver::drive(definition, &mut state.clone(), input.clone())
}

/// Decides what follows from an input and applies it.
///
/// The entries belong together: store them as one, then do [`State::effects`]. No part of the state is copied.
///
/// # Errors
/// As [`decide`], and the state is as it was. [`Error::Illegal`] and [`Error::UnknownTask`] are different: they say that
/// the log is damaged, or that the definition is not the one the instance started with, and may come when half of what
/// follows is applied. Such a state is of no use any more; what is stored still is.
pub fn run(definition: &Definition, state: &mut State, input: Input) -> Result<Vec<Entry>, Error> {
    Driver::drive(definition, state, input)
}

/// One input on its way through an instance.
struct Driver<'d> {
    definition: &'d Definition,
    state: &'d mut State,
    entries: Vec<Entry>,
    at: Timestamp,
    /// What follows next, the last first.
    todo: Vec<Todo>,
    transitions: u32,
}

/// Something that follows from what was found out. The tasks named may be gone by the time it is done.
enum Todo {
    /// Start a task inside another.
    Enter { parent: TaskId, task: plan::Id, branch: Option<u32> },
    /// A task has its output, or leaves what it has at hand.
    Finish { task: TaskId, output: Option<Arc<Value>>, then: Option<plan::Then>, chosen: Option<Arc<str>> },
    /// A task raises an error.
    Fail { task: TaskId, fault: Box<Fault> },
    /// A task inside another is over.
    Next { parent: TaskId, after: plan::Id, then: plan::Then },
}

/// Why something could not begin: an error of the workflow, or of the engine.
enum Stop {
    Fault(Box<Fault>),
    Engine(Error),
}

impl<'d> Driver<'d> {
    fn drive(definition: &'d Definition, state: &'d mut State, input: Input) -> Result<Vec<Entry>, Error> {
        let (at, entries, todo) = (input.at(), Vec::new(), Vec::new());
        let mut driver = Self { definition, state, entries, at, todo, transitions: 0 };
        driver.take(input)?;
        driver.settle()?;
        Ok(driver.entries)
    }

    fn take(&mut self, input: Input) -> Result<(), Error> {
        let input = match input {
            Input::Start { id, input, trace, .. } => return self.start(id, input, trace, None),
            Input::StartChild { id, input, parent, trace, .. } => {
                return self.start(id, input, trace, Some(parent));
            }
            input => input,
        };
        if !self.state.is_started() {
            return Err(Error::NotStarted);
        }
        self.check_definition()?;
        let input = match input {
            Input::Decision { task, attempt, outcome, who, at } => {
                if !self.sign(task, attempt, &outcome, who)? {
                    return Ok(());
                }
                Input::Reply { task, attempt, outcome, at }
            }
            Input::Claim { task, attempt, who, for_ms, .. } => return self.claim(task, attempt, who, for_ms),
            input => input,
        };
        if self.state.is_closed() {
            return if matches!(input, Input::Operator { .. }) { Err(Error::NotStuck) } else { Ok(()) };
        }
        if self.keep(&input)? {
            return Ok(());
        }
        match input {
            Input::Start { .. } | Input::StartChild { .. } | Input::Decision { .. } | Input::Claim { .. } => {
                Ok(())
            }
            Input::Event { task, attempt, event, origin, .. } => {
                self.hear(task, attempt, &event, origin.as_deref())
            }
            Input::Reply { task, attempt, outcome, .. } => self.reply(task, attempt, outcome),
            Input::Accepted { task, attempt, terms, .. } => self.accept(task, attempt, terms),
            Input::Heartbeat { task, attempt, .. } => self.beat(task, attempt),
            Input::Timer { task, timer, .. } => self.timer(task, timer),
            Input::Cancel { reason, .. } => self.cancel(reason.as_deref()),
            Input::Undo { reason, .. } => self.undo_child(reason.as_deref()),
            Input::Release { .. } => self.release(),
            Input::Terminate { reason, .. } => self.terminate(reason.as_deref()),
            Input::Pause { .. } => self.suspend(),
            Input::Resume { .. } => self.resume(),
            Input::Operator { action, who, why, .. } => self.operate(action, who, why),
        }
    }

    /// Works off what follows until the instance waits for something.
    fn settle(&mut self) -> Result<(), Error> {
        while let Some(todo) = self.todo.pop() {
            self.transitions += 1;
            let undoing = self.state.recovery.is_some();
            if self.transitions > MAX_TRANSITIONS || self.state.next_task > MAX_STEPS && !undoing {
                self.overrun(&todo)?;
                continue;
            }
            match todo {
                Todo::Enter { parent, task, branch } => self.enter(parent, task, branch)?,
                Todo::Finish { task, output, then, chosen } => self.finish(task, output, then, chosen)?,
                Todo::Fail { task, fault } => self.fail(task, fault)?,
                Todo::Next { parent, after, then } => self.next(parent, after, then)?,
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: String,
        input: Value,
        trace: Option<String>,
        parent: Option<Parent>,
    ) -> Result<(), Error> {
        if self.state.is_started() {
            let running = &self.state.id;
            return if **running == *id {
                Ok(())
            } else {
                Err(Error::AlreadyStarted { id: running.to_string() })
            };
        }
        self.definition.runnable().map_err(Error::NotRunnable)?;
        let input = Arc::new(input);
        let plan = &self.definition.plan;
        let env = Env::starting(self, &id, &input);
        let prepared = Self::filtered(&plan.input, "workflow input", &input, &env);
        let timeout = plan.timeout.as_ref().map(|length| env.length(length, &input)).transpose();
        let deadline =
            timeout.clone().ok().flatten().map(|millis| Timer { number: 0, at: self.at.after(millis) });
        let data = prepared
            .clone()
            .map_or(crate::entry::Data::Same, |data| crate::entry::Data::unless(data, &input));
        self.record(Fact::Started(Box::new(Started {
            id: id.into(),
            workflow: Arc::clone(&self.definition.reference),
            input,
            data,
            trace: trace.map(Into::into),
            deadline,
            saga: self.definition.is_saga,
            parent,
        })))?;
        match prepared.and(timeout) {
            Ok(_) => self.begin_part(TaskId::WORKFLOW),
            Err(fault) => self.end_faulted(Trigger::Fault, fault),
        }
    }

    fn reply(&mut self, task: TaskId, attempt: u32, outcome: Outcome) -> Result<(), Error> {
        let frame = self.state.frames.get(&task);
        if !frame.is_some_and(|frame| frame.work != Work::None && frame.attempts == attempt) {
            return Ok(());
        }
        let outcome = self.checked(task, outcome)?;
        self.answer(task, attempt, outcome)
    }

    /// Goes on with what came of an attempt.
    fn answer(&mut self, task: TaskId, attempt: u32, outcome: Answer) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&task).filter(|frame| frame.attempts == attempt) else {
            return Ok(());
        };
        let own = self.without_reply(frame);
        match (&frame.work, &outcome) {
            (Work::None, _) => return Ok(()),
            (Work::Listen(_), Answer::Completed(_)) => return self.hush(task),
            _ => {}
        }
        let next = match &outcome {
            Answer::Completed(_) => Todo::finish(task, own),
            Answer::Refused(fault) | Answer::NotSent(fault) | Answer::Unknown(fault) => {
                Todo::Fail { task, fault: Box::new(fault.clone()) }
            }
        };
        self.record(Fact::Answered { task, attempt, outcome })?;
        self.todo.push(next);
        Ok(())
    }

    /// Returns the output of a call that does not wait for its reply.
    fn without_reply(&self, frame: &Frame) -> Option<Arc<Value>> {
        let (_, task) = self.planned(frame).ok()?;
        let waits = !matches!(&task.kind, plan::Kind::Call(call) if !call.wait);
        (!waits).then(|| Arc::clone(&frame.input))
    }

    fn timer(&mut self, task: TaskId, number: u32) -> Result<(), Error> {
        let due = |timer: Option<Timer>| timer.is_some_and(|timer| timer.number == number);
        if task == TaskId::WORKFLOW
            && self.state.recovery.as_ref().is_some_and(|recovery| due(recovery.timer))
        {
            return self.give_up();
        }
        let Some(frame) = self.state.frames.get(&task) else { return Ok(()) };
        if due(frame.timeout) {
            let name = Arc::clone(&frame.name);
            return match task {
                TaskId::WORKFLOW => self
                    .end_faulted(Trigger::Timeout, Fault::timeout("the workflow did not end in time").into()),
                _ => self.fail(task, Fault::timeout(format!("`{name}` did not end in time")).into()),
            };
        }
        if !due(frame.timer) {
            return Ok(());
        }
        if let Some(taken) = frame.taken() {
            return self.lapsed(task, frame.attempts, taken);
        }
        match (frame.undoes, frame.part) {
            (Some(of), _) => self.run_undo(task, of, frame.attempts + 1),
            (None, Part::Pause(times)) => self.try_again(task, times),
            (None, _) if self.is_trying(frame) => self.attempt_expired(task),
            (None, _) if frame.listening().is_some() => self.hush(task),
            (None, _) => self.finish(task, None, None, None),
        }
    }

    fn operate(&mut self, action: Operate, who: String, why: String) -> Result<(), Error> {
        let of = self.stuck().ok_or(Error::NotStuck)?;
        let (decided, value) = match action {
            Operate::Retry => (Decided::Retry, None),
            Operate::Skip => (Decided::Skip, None),
            Operate::Resolve(value) => (Decided::Resolve, Some(value)),
            Operate::Abandon => (Decided::Abandon, None),
        };
        let decision = Decision { who, why, at: self.at, value };
        self.record(Fact::Decided { of, action: decided, decision: Box::new(decision) })?;
        match decided {
            // The losers of a race are given up: the work goes on.
            Decided::Abandon if self.state.status() == Status::Running => Ok(()),
            Decided::Abandon => self.record(Fact::Settled { abandoned: true }),
            Decided::Retry | Decided::Skip | Decided::Resolve => self.recover(),
        }
    }

    /// Ends an instance, or the run of a compensation, that would go on without end.
    fn overrun(&mut self, todo: &Todo) -> Result<(), Error> {
        let fault = Box::new(Fault::runtime(format!(
            "more than {MAX_TRANSITIONS} steps in a row, or {MAX_STEPS} tasks; split the workflow"
        )));
        match self.state.frames.get(&todo.place()).and_then(|frame| frame.undo) {
            Some(undo) => {
                self.drop_inside(undo);
                self.undo_stuck(undo, fault)
            }
            None if self.state.status() == Status::Running => self.end_faulted(Trigger::Fault, fault),
            None => Ok(()),
        }
    }

    /// Notes a fact and lets the state know.
    fn record(&mut self, fact: Fact) -> Result<(), Error> {
        self.give_up_inside(&fact)?;
        let entry = Entry { at: self.at, fact };
        apply(self.state, &entry)?;
        self.entries.push(entry);
        Ok(())
    }

    fn check_definition(&self) -> Result<(), Error> {
        let (pinned, given) = (&*self.state.workflow, self.definition.reference());
        if pinned == given {
            return Ok(());
        }
        Err(Error::WrongDefinition { pinned: Box::new(pinned.clone()), given: Box::new(given.clone()) })
    }

    /// Finds the plan of an open task.
    fn planned(&self, frame: &Frame) -> Result<(plan::Id, &'d plan::Task), Error> {
        let found = self.definition.plan.find(&frame.pointer);
        found.ok_or_else(|| Error::UnknownTask { pointer: frame.pointer.to_string() })
    }

    fn next_timer(&self, millis: u64) -> Timer {
        Timer { number: self.state.next_timer, at: self.at.after(millis) }
    }
}

impl Todo {
    fn finish(task: TaskId, output: Option<Arc<Value>>) -> Self {
        Self::Finish { task, output, then: None, chosen: None }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<Box<Fault>> for Stop {
    fn from(fault: Box<Fault>) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}
