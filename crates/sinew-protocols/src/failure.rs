//! How a call ended that was not done: the fault to raise, and what is known of its effect.

use sinew_workflow::{Fault, Outcome};

/// A call that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) effect: Effect,
    /// Boxed, because almost every function here may return one.
    pub(crate) fault: Box<Fault>,
}

/// What a failed call did to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it never got there, or may be repeated as if it had not.
    NotSent,
    /// Nothing: the other side said no.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Failure {
    pub(crate) fn not_sent(fault: Fault) -> Self {
        Self { effect: Effect::NotSent, fault: Box::new(fault) }
    }

    pub(crate) fn refused(fault: Fault) -> Self {
        Self { effect: Effect::Refused, fault: Box::new(fault) }
    }

    pub(crate) fn unknown(fault: Fault) -> Self {
        Self { effect: Effect::Unknown, fault: Box::new(fault) }
    }

    /// The definition asks for something impossible, so nothing was tried.
    pub(crate) fn configuration(detail: impl Into<String>) -> Self {
        Self::refused(Fault::configuration(detail))
    }

    /// What was asked changes nothing on the other side: an unknown effect is none.
    pub(crate) fn of_safe_request(mut self) -> Self {
        if self.effect == Effect::Unknown {
            self.effect = Effect::NotSent;
        }
        self
    }

    /// Says what was being done.
    pub(crate) fn during(mut self, doing: &str) -> Self {
        let detail = self.fault.detail.take();
        self.fault.detail =
            Some(detail.map_or_else(|| doing.to_owned(), |detail| format!("{doing}: {detail}")));
        self
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure.effect {
            Effect::NotSent => Self::NotSent(*failure.fault),
            Effect::Refused => Self::Refused(*failure.fault),
            Effect::Unknown => Self::Unknown(*failure.fault),
        }
    }
}
