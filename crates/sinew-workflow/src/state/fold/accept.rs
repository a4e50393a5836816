//! Folding work that was taken on and is done later.

use super::Fold;
use crate::Error;
use crate::entry::Accepted;
use crate::state::Work;

impl Fold<'_> {
    pub(super) fn accepted(mut self, accepted: &Accepted) -> Result<(), Error> {
        self.note_timer(Some(accepted.timer));
        let frame = self.frame(accepted.task)?;
        let attempts = frame.attempts;
        match &mut frame.work {
            Work::Call(call) if attempts == accepted.attempt => call.taken = Some(accepted.taken),
            _ => return Err(self.illegal("the call is not the one in flight")),
        }
        frame.timer = Some(accepted.timer);
        Ok(())
    }
}
