//! Which calls documents elsewhere describe, for hosts that can read them before anything runs.

use super::Planned;
use crate::language::plan::{From, Kind};
use crate::language::report::Report;
use crate::language::template::Template;
use crate::{Described, Protocol, Target, code};

pub(super) fn described(planned: Planned<'_>, report: &Report) -> Vec<Described> {
    let calls = planned.all().filter_map(|(task, node)| {
        let (protocol, arguments) = outside(&task.kind)?;
        let arguments = arguments.known();
        arguments.pointer(Described::place_of(protocol)?)?;
        let place = node.get("call").or_else(|| node.get("run")).unwrap_or(node);
        Some(Described::new(protocol, arguments, report.one(code::RESOURCE, place, "")))
    });
    calls.collect()
}

fn outside(kind: &Kind) -> Option<(Protocol, &Template)> {
    match kind {
        Kind::Call(call) => match call.target {
            Target::Protocol(protocol) => Some((protocol, call.body.as_ref()?)),
            _ => None,
        },
        Kind::Listen(listen) => match &listen.from {
            From::Protocol(subscription) => Some((subscription.protocol, &subscription.arguments)),
            From::Bus(_) => None,
        },
        _ => None,
    }
}
