//! Which operations a plan uses how, for hosts that know the contracts of services.

use super::Planned;
use crate::language::plan::{Id, Kind};
use crate::language::report::{Report, nearest};
use crate::{Contracts, Diagnostic, Known, Severity, Target, code};

/// A call of an operation: what its contract should allow.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) service: String,
    pub(crate) operation: String,
    /// Whether it may be sent again after an attempt whose outcome is unknown.
    pub(crate) repeats: Option<Repeats>,
    /// A finding at the place of the call, to be given its words.
    pub(crate) place: Diagnostic,
}

/// Why a call is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// A `try` around it retries.
    Retry,
    /// It is part of a compensation, which is retried until it works.
    Undo,
}

pub(crate) type Uses = Vec<Use>;

pub(super) fn uses(planned: Planned<'_>, report: &Report) -> Uses {
    let mut uses = Vec::new();
    for id in &planned.plan.body {
        find(planned, *id, None, report, &mut uses);
    }
    uses
}

fn find(planned: Planned<'_>, id: Id, repeats: Option<Repeats>, report: &Report, uses: &mut Uses) {
    let Some((task, node)) = planned.get(id) else { return };
    if let Kind::Call(call) = &task.kind
        && let Target::Operation(operation) = &call.target
    {
        let place = report.one(code::NOT_IDEMPOTENT, node.get("call").unwrap_or(node), "");
        let place = Diagnostic { severity: Severity::Warning, ..place };
        let (service, operation) = (operation.service.to_string(), operation.operation.to_string());
        uses.push(Use { service, operation, repeats, place });
    }
    if let Some(compensation) = task.compensate {
        find(planned, compensation, Some(Repeats::Undo), report, uses);
    }
    match &task.kind {
        Kind::Try(attempt) => {
            let inside = if attempt.retry.is_some() { repeats.or(Some(Repeats::Retry)) } else { repeats };
            attempt.body.iter().for_each(|id| find(planned, *id, inside, report, uses));
            attempt.handler.iter().flatten().for_each(|id| find(planned, *id, repeats, report, uses));
        }
        kind => kind.children().into_iter().for_each(|id| find(planned, id, repeats, report, uses)),
    }
}

impl Use {
    /// Returns what is doubtful about this call, as far as its contract is known.
    pub(crate) fn against(&self, contracts: &dyn Contracts) -> Option<Diagnostic> {
        let name = format!("{}.{}", self.service, self.operation);
        match (contracts.find(&self.service, &self.operation), self.repeats) {
            (Known::Missing { others }, _) => Some(self.missing(&name, &others)),
            (Known::Operation { idempotent: false }, Some(repeats)) => Some(self.repeated(&name, repeats)),
            _ => None,
        }
    }

    fn missing(&self, name: &str, others: &[String]) -> Diagnostic {
        let message = format!("`{}` has no operation `{}`", self.service, self.operation);
        let others = others.iter().map(String::as_str);
        let fix = match nearest(&self.operation, others.clone()) {
            Some(other) => format!("did you mean `{}.{other}`?", self.service),
            None => format!(
                "it has {}; or deploy the version that has `{name}`",
                others.collect::<Vec<_>>().join(", ")
            ),
        };
        Diagnostic { code: code::NO_OPERATION, message, fix: Some(fix), ..self.place.clone() }
    }

    fn repeated(&self, name: &str, repeats: Repeats) -> Diagnostic {
        let by = match repeats {
            Repeats::Retry => "the retry around it",
            Repeats::Undo => "its saga until it works",
        };
        let message =
            format!("`{name}` is sent again by {by}, but its contract does not say it is idempotent");
        let fix = "let the service honour the idempotency key and declare the operation `idempotent`";
        Diagnostic { message, fix: Some(fix.to_owned()), ..self.place.clone() }
    }
}
