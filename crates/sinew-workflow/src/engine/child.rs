//! Answers that are looked at before they count: those of people, and those of other workflows.

use super::Driver;
use crate::entry::{Answer, Fact};
use crate::language::plan::Kind;
use crate::state::{Frame, Work};
use crate::{Child, Error, Outcome, Target, TaskId};

/// The longest a question can be claimed at once: a year.
const LONGEST_CLAIM_MS: u64 = 366 * 24 * 3_600 * 1_000;

impl Driver<'_> {
    /// Takes an outcome as it counts in this instance.
    ///
    /// A decision that does not fit its schema is an error for whoever decided, so that it can be given again; the task
    /// goes on waiting. The fault of a child becomes the one of the task that runs it.
    pub(super) fn checked(&self, task: TaskId, outcome: Outcome) -> Result<Answer, Error> {
        let mut answer = Answer::from(outcome);
        let Some(frame) = self.state.frames.get(&task) else { return Ok(answer) };
        if let Answer::Completed(decision) = &answer
            && let (_, plan) = self.planned(frame)?
            && let Kind::Human(_, Some(schema)) = &plan.kind
        {
            schema.check("decision", decision).map_err(Error::Unfit)?;
        }
        if let Answer::Refused(fault) | Answer::NotSent(fault) | Answer::Unknown(fault) = &mut answer
            && frame.child().is_some()
        {
            fault.instance = None;
        }
        Ok(answer)
    }

    /// Gives a question to one person, or back to all; a question nobody is asked any more is nobody's.
    pub(super) fn claim(
        &mut self,
        task: TaskId,
        attempt: u32,
        who: String,
        for_ms: Option<u64>,
    ) -> Result<(), Error> {
        if !self.is_open(task, attempt) {
            return Ok(());
        }
        self.check_claim(task, &who)?;
        match for_ms {
            Some(millis) => {
                let until = self.at.after(millis.clamp(1, LONGEST_CLAIM_MS));
                self.record(Fact::Claimed { task, who, until })
            }
            None if self.state.claim(task, self.at).is_some() => {
                self.record(Fact::Claimed { task, who, until: self.at })
            }
            None => Ok(()),
        }
    }

    fn check_claim(&self, task: TaskId, who: &str) -> Result<(), Error> {
        match self.state.claim(task, self.at).filter(|claim| claim.who != who) {
            Some(claim) => Err(Error::Claimed { who: claim.who.clone(), until: claim.until }),
            None => Ok(()),
        }
    }

    fn is_open(&self, task: TaskId, attempt: u32) -> bool {
        self.state.questions().iter().any(|open| (open.task, open.attempt) == (task, attempt))
    }

    /// Notes who answers, where a person is asked and the answer counts; says whether it does.
    pub(super) fn sign(
        &mut self,
        task: TaskId,
        attempt: u32,
        outcome: &Outcome,
        who: String,
    ) -> Result<bool, Error> {
        if !self.is_open(task, attempt) {
            return Ok(false);
        }
        self.check_claim(task, &who)?;
        self.checked(task, outcome.clone())?;
        self.record(Fact::Signed { task, who })?;
        Ok(true)
    }
}

impl Frame {
    fn child(&self) -> Option<&Child> {
        let Work::Call(call) = &self.work else { return None };
        if let Target::Workflow(child) = &call.request.target { Some(child) } else { None }
    }
}
