//! Where control goes: tasks nothing leads to, and circles nothing leaves.

use super::Planned;
use crate::code;
use crate::language::plan::{Id, Kind, Task, Then};
use crate::language::report::Report;

/// Where control may go after a task of a list: to another one of it, or out.
pub(super) type Next = Option<usize>;

pub(super) fn check(planned: Planned<'_>, report: &mut Report) {
    let traits = Traits::of(planned);
    let inner = planned.plan.tasks.iter().flat_map(|task| task.kind.sequences());
    for list in std::iter::once(&*planned.plan.body).chain(inner) {
        let graph = Graph::of(planned, list, &traits);
        unreachable(planned, list, &graph, report);
        endless(planned, list, &graph, report);
    }
}

/// What is known of each task, in the order of the plan.
struct Traits {
    /// It, or something inside, waits for the world or for time.
    waits: Vec<bool>,
    /// It, or something inside, may end the workflow or raise an error on purpose.
    ends: Vec<bool>,
}

impl Traits {
    fn of(planned: Planned<'_>) -> Self {
        let (mut waits, mut ends) = (Vec::new(), Vec::new());
        for (task, _) in planned.all() {
            let children = task.kind.children();
            let any = |known: &[bool]| children.iter().any(|id| known.get(index(*id)) == Some(&true));
            let own = !matches!(
                task.kind,
                Kind::Do(_)
                    | Kind::For(_)
                    | Kind::Try(_)
                    | Kind::Fork { .. }
                    | Kind::Function { .. }
                    | Kind::Extended(_)
                    | Kind::Extension(_)
                    | Kind::Set(_)
                    | Kind::Switch(_)
                    | Kind::Raise(_)
                    | Kind::Compensate
            );
            waits.push(own || any(&waits));
            let leaves = matches!(task.kind, Kind::Raise(_) | Kind::Compensate);
            ends.push(leaves || thens(task).contains(&Then::End) || any(&ends));
        }
        Self { waits, ends }
    }
}

/// The tasks of one list, by position.
struct Graph {
    next: Vec<Vec<Next>>,
    /// Positions control may reach.
    reached: Vec<bool>,
    /// Positions from which control may leave the list, or wait for something.
    harmless: Vec<bool>,
}

impl Graph {
    fn of(planned: Planned<'_>, list: &[Id], traits: &Traits) -> Self {
        let next: Vec<Vec<Next>> =
            list.iter().enumerate().map(|(at, id)| planned.following(*id, at, list.len())).collect();
        let reached = spread(&next, [0].into_iter().filter(|_| !list.is_empty()));
        let mut back: Vec<Vec<Next>> = vec![Vec::new(); list.len()];
        for (from, targets) in next.iter().enumerate() {
            for to in targets.iter().flatten() {
                back[*to].push(Some(from));
            }
        }
        let known = |traits: &[bool], at: usize| traits.get(index(list[at])) == Some(&true);
        let ways_out = (0..list.len())
            .filter(|&at| next[at].contains(&None) || known(&traits.waits, at) || known(&traits.ends, at));
        let harmless = spread(&back, ways_out);
        Self { next, reached, harmless }
    }
}

/// Reports the first of each run of tasks nothing leads to.
fn unreachable(planned: Planned<'_>, list: &[Id], graph: &Graph, report: &mut Report) {
    for (at, id) in list.iter().enumerate() {
        let starts_run = !graph.reached[at] && (at == 0 || graph.reached[at - 1]);
        if let Some((task, node)) = planned.get(*id).filter(|_| starts_run) {
            let message =
                format!("nothing leads to `{}`: the task before it always goes elsewhere", task.name);
            let finding = report.warning(code::UNREACHABLE, node, message);
            finding.fix("remove it, or lead to it by `then`");
        }
    }
}

/// Reports a circle that is never left and never waits: it can only end in an error.
fn endless(planned: Planned<'_>, list: &[Id], graph: &Graph, report: &mut Report) {
    let Some(first) = (0..list.len()).find(|&at| graph.reached[at] && !graph.harmless[at]) else { return };
    let inside = spread(&graph.next, [first].into_iter());
    let jumps_back = |at: &usize| inside[*at] && graph.next[*at].iter().flatten().any(|to| to <= at);
    let last = (0..list.len()).find(jumps_back).unwrap_or(first);
    let Some((task, node)) = planned.get(list[last]) else { return };
    let message =
        format!("after `{}` the same tasks run again for ever, without waiting for anything", task.name);
    let place = node.get("then").unwrap_or(node);
    report
        .error(code::ENDLESS, place, message)
        .fix("leave the circle by a `switch` with a condition, or wait in it");
}

impl Planned<'_> {
    /// Returns where what stands in a list may lead. With extensions around it, a task leads where it does without them.
    pub(super) fn following(self, id: Id, at: usize, length: usize) -> Vec<Next> {
        let Some((task, _)) = self.get(id) else { return Vec::new() };
        let mut next = following(task, at, length);
        if let Kind::Extended(extended) = &task.kind {
            next.extend(
                self.get(extended.body).into_iter().flat_map(|(body, _)| following(body, at, length)),
            );
        }
        next
    }
}

/// Returns where a task may lead.
fn following(task: &Task, at: usize, length: usize) -> Vec<Next> {
    if matches!(task.kind, Kind::Raise(_) | Kind::Compensate) && task.condition.is_none() {
        return vec![];
    }
    let after = Some(at + 1).filter(|next| *next < length);
    let resolve = |then: Then| match then {
        Then::Continue => after,
        Then::Exit | Then::End => None,
        Then::To(position) => Some(position),
    };
    let mut next: Vec<Next> = thens(task).into_iter().map(resolve).collect();
    if task.condition.is_some() {
        next.push(after);
    }
    next
}

/// Returns the directives one of which is followed after a task.
fn thens(task: &Task) -> Vec<Then> {
    match &task.kind {
        Kind::Switch(cases) => {
            let mut thens: Vec<Then> = cases.iter().map(|case| case.then).collect();
            if cases.iter().all(|case| case.when.is_some()) {
                thens.push(task.then);
            }
            thens
        }
        Kind::Try(attempt) => [Some(task.then), attempt.then].into_iter().flatten().collect(),
        _ => vec![task.then],
    }
}

/// Marks every position that can be reached from some.
fn spread(next: &[Vec<Next>], from: impl Iterator<Item = usize>) -> Vec<bool> {
    let mut seen = vec![false; next.len()];
    let mut open: Vec<usize> = from.collect();
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(next[at].iter().flatten());
        }
    }
    seen
}

fn index(id: Id) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}
