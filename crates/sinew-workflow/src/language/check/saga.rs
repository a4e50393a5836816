//! What a saga leaves done: work nothing undoes, events sent too early, compensations that never run.

use std::collections::HashMap;

use super::Planned;
use crate::language::lower::saga_key;
use crate::language::plan::{Id, Kind, Task};
use crate::language::report::Report;
use crate::language::yaml::Node;
use crate::{Protocol, Target, code};

/// Where a task stands with regard to the pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Before,
    /// Some ways lead past the pivot, and others do not.
    Unclear,
    After,
}

pub(super) fn check(planned: Planned<'_>, report: &mut Report) {
    let count = planned.plan.tasks.len();
    let mut stages = Stages {
        planned,
        of: vec![None; count],
        covered: vec![false; count],
        in_parts: planned.undone_in_parts(),
        handling: vec![false; count],
        known: HashMap::new(),
    };
    stages.list(&planned.plan.body, Stage::Before, Inside::default());
    let has_pivot = planned.plan.tasks.iter().any(|task| task.pivot);
    for (at, (task, node)) in planned.all().enumerate() {
        match stages.of[at] {
            Some(Stage::Before) if !stages.covered[at] && leaves_work(task, node) => {
                left_done(task, node, report)
            }
            Some(Stage::Before) if has_pivot && !stages.handling[at] => early(task, node, report),
            Some(Stage::After) => never_undone(task, node, report),
            _ => {}
        }
    }
}

fn left_done(task: &Task, node: &Node, report: &mut Report) {
    let message = format!("nothing undoes `{}` when the saga fails after it", task.name);
    let finding = report.warning(code::NOT_UNDONE, node, message);
    finding.fix("add `compensate:` with the task that undoes it, `compensate: false` when there is nothing to undo, or `pivot: true`");
}

fn early(task: &Task, node: &Node, report: &mut Report) {
    if matches!(task.kind, Kind::Emit(_)) && task.compensate.is_none() && !refuses_undo(node) {
        let message =
            format!("`{}` tells others before the pivot, when all of it may still be undone", task.name);
        let finding = report.warning(code::EARLY_EVENT, node, message);
        finding.fix("emit after the pivot, or say `compensate: false` when the event is true anyway");
    }
}

fn never_undone(task: &Task, node: &Node, report: &mut Report) {
    let Some(place) = saga_key(node, "compensate").filter(|_| task.compensate.is_some()) else { return };
    let message = format!("`{}` comes after the pivot, so it will never be undone", task.name);
    let finding = report.warning(code::NEVER_UNDONE, place, message);
    finding.fix("remove `compensate`, or move the pivot behind it");
}

/// Says whether a task does something in the world that its author has not said how to undo.
fn leaves_work(task: &Task, node: &Node) -> bool {
    let does = match &task.kind {
        Kind::Call(call) => match call.target {
            Target::Protocol(Protocol::Http) => !reads_only(node),
            // To be asked leaves nothing behind.
            Target::Protocol(Protocol::Human) => false,
            _ => true,
        },
        _ => false,
    };
    does && task.compensate.is_none() && !task.pivot && !refuses_undo(node)
}

/// Says whether an HTTP call only asks for something.
fn reads_only(node: &Node) -> bool {
    let method = node.get("with").and_then(|with| with.get("method")).and_then(Node::text);
    method.is_some_and(|method| ["get", "head", "options"].contains(&method.to_ascii_lowercase().as_str()))
}

fn refuses_undo(node: &Node) -> bool {
    saga_key(node, "compensate").and_then(Node::bool) == Some(false)
}

/// What is around a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Inside {
    /// Something that is undone as one with it, or that has nothing to undo.
    covered: bool,
    /// The handler of an error.
    handling: bool,
}

/// Follows all ways through the plan. Stages only ever become less clear, so that this ends.
struct Stages<'a> {
    planned: Planned<'a>,
    of: Vec<Option<Stage>>,
    covered: Vec<bool>,
    in_parts: Vec<bool>,
    handling: Vec<bool>,
    /// How lists end that were followed before: without it, nesting would cost powers of its depth.
    known: HashMap<(u32, Stage, Inside), Stage>,
}

impl Stages<'_> {
    /// Follows a list and returns the stage behind it.
    fn list(&mut self, list: &[Id], enter: Stage, inside: Inside) -> Stage {
        let Some(first) = list.first() else { return enter };
        if let Some(known) = self.known.get(&(first.0, enter, inside)) {
            return *known;
        }
        let mut before: Vec<Option<Stage>> = vec![None; list.len()];
        let mut exit = None;
        before[0] = Some(enter);
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let Some(stage) = before[at] else { continue };
            let after = self.task(list[at], stage, inside);
            for next in self.planned.following(list[at], at, list.len()) {
                match next {
                    None => exit = Some(join(exit, after)),
                    Some(next) if before[next] != Some(join(before[next], after)) => {
                        before[next] = Some(join(before[next], after));
                        open.push(next);
                    }
                    Some(_) => {}
                }
            }
        }
        let exit = exit.unwrap_or(enter);
        self.known.insert((first.0, enter, inside), exit);
        exit
    }

    /// Follows a task and returns the stage behind it.
    fn task(&mut self, id: Id, stage: Stage, around: Inside) -> Stage {
        let Some((task, node)) = self.planned.get(id) else { return stage };
        let at = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.of[at] = Some(join(self.of[at], stage));
        self.covered[at] |= around.covered;
        self.handling[at] |= around.handling;
        let covers = refuses_undo(node) || (task.compensate.is_some() || task.pivot) && !self.in_parts[at];
        let inside = Inside { covered: around.covered || covers, ..around };
        let after = match &task.kind {
            _ if task.pivot => {
                self.inner(task, stage, inside);
                Stage::After
            }
            _ => self.inner(task, stage, inside),
        };
        if task.condition.is_some() { join(Some(stage), after) } else { after }
    }

    fn inner(&mut self, task: &Task, stage: Stage, inside: Inside) -> Stage {
        match &task.kind {
            Kind::Do(body) => self.list(body, stage, inside),
            Kind::Function { body, .. } => self.task(*body, stage, inside),
            Kind::Extended(extended) => {
                extended.parts.iter().fold(stage, |stage, part| self.task(*part, stage, inside))
            }
            Kind::Extension(extension) => self.list(&extension.body, stage, inside),
            Kind::For(looped) => {
                let once = join(Some(stage), self.list(&looped.body, stage, inside));
                join(Some(once), self.list(&looped.body, once, inside))
            }
            Kind::Try(attempt) => {
                let done = self.list(&attempt.body, stage, inside);
                let failed = join(Some(stage), done);
                if attempt.retry.is_some() {
                    self.list(&attempt.body, failed, inside);
                }
                let inside = Inside { handling: true, ..inside };
                attempt
                    .handler
                    .as_ref()
                    .map_or(done, |handler| join(Some(done), self.list(handler, failed, inside)))
            }
            Kind::Fork { branches, compete } => {
                let ends: Vec<Stage> =
                    branches.iter().map(|branch| self.task(*branch, stage, inside)).collect();
                match ends.first() {
                    None => stage,
                    Some(_) if !compete && ends.contains(&Stage::After) => Stage::After,
                    Some(first) => ends.iter().fold(*first, |all, end| join(Some(all), *end)),
                }
            }
            _ => stage,
        }
    }
}

fn join(known: Option<Stage>, other: Stage) -> Stage {
    match known {
        Some(known) if known != other => Stage::Unclear,
        _ => other,
    }
}
