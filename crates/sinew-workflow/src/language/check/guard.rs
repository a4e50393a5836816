//! What compensations read: an output may be unknown, and then it is null; loops are over, and their variables gone.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::path::Part;

use super::Planned;
use crate::code;
use crate::language::jq::mentions;
use crate::language::plan::{Kind, Task};
use crate::language::report::Report;
use crate::language::template::{Reading, bare, read};
use crate::language::yaml::{Node, Tree};

/// Reports compensations that read a field of an output nobody may know.
pub(super) fn check(planned: Planned<'_>, report: &mut Report) {
    let in_parts = planned.undone_in_parts();
    for ((task, _), in_parts) in planned.all().zip(in_parts) {
        // A composite whose parts answer for themselves is undone as a whole only when it completed.
        if in_parts || matches!(task.kind, Kind::Set(_) | Kind::Switch(_) | Kind::Wait(_)) {
            continue;
        }
        let Some((compensation, node)) = task.compensate.and_then(|id| planned.get(id)) else { continue };
        let mut found = Vec::new();
        first_reads(planned, compensation, node, &mut found);
        for (place, field) in found {
            let message = format!(
                "`.{field}` is null when nobody knows whether `{}` was done: its reply was late or lost",
                task.name
            );
            let finding = report.warning(code::NULL_OUTPUT, place, message);
            finding.fix(format!(
                "undo by `$task.idempotencyKey` or `$input`, or say what else with `.{field} // …`"
            ));
        }
    }
}

/// Reports what a compensation reads that is gone by the time it runs; `scope` are the variables around its task.
pub(crate) fn gone(compensation: &Node, scope: &[&str], report: &mut Report) {
    let mut bound = Vec::new();
    binds(compensation, &mut bound);
    let gone: Vec<&str> = scope.iter().copied().filter(|name| !bound.contains(name)).collect();
    report_gone(compensation, &gone, true, report);
}

fn report_gone(node: &Node, gone: &[&str], outputless: bool, report: &mut Report) {
    match &node.tree {
        Tree::Text(text) if text.contains('$') => {
            if let Some(name) = gone.iter().find(|name| mentions(text, name)) {
                let message =
                    format!("`${name}` is gone when this runs: the loop or handler it belongs to is over");
                let finding = report.error(code::GONE, node, message);
                finding.fix("keep it in the output of the task by `output.as`, and read it from `.`, or read `$input`");
            }
            if outputless && mentions(text, "output") {
                let message = "`$output` is the output of the compensation itself, which does not exist yet";
                report.error(code::GONE, node, message).fix("the output of what is undone is `.`");
            }
        }
        Tree::List(items) => items.iter().for_each(|item| report_gone(item, gone, outputless, report)),
        Tree::Map(entries) => entries.iter().for_each(|(key, value)| {
            let outputless = outputless && !matches!(key.text.as_str(), "output" | "export");
            report_gone(value, gone, outputless, report);
        }),
        _ => {}
    }
}

/// Collects the variables a compensation binds itself.
fn binds<'n>(node: &'n Node, bound: &mut Vec<&'n str>) {
    let text = |node: Option<&'n Node>, default: &'static str| {
        node.and_then(Node::text).unwrap_or(default).trim_start_matches('$')
    };
    if let Some(looped) = node.get("for").or_else(|| node.get("foreach")) {
        bound.extend([
            text(looped.get("each").or_else(|| looped.get("item")), "item"),
            text(looped.get("at"), "index"),
        ]);
    }
    if let Some(catch) = node.get("catch") {
        bound.push(text(catch.get("as"), "error"));
    }
    node.items().iter().for_each(|item| binds(item, bound));
    node.entries().iter().for_each(|(_, value)| binds(value, bound));
}

/// Collects what the first task of a compensation reads unguarded. Later ones read what that left.
fn first_reads<'n>(planned: Planned<'n>, task: &Task, node: &'n Node, found: &mut Vec<(&'n Node, String)>) {
    // A condition, or another way to name what is undone, is a guard.
    if node.get("if").is_some() || says(node, "idempotencyKey") {
        return;
    }
    if let Some(from) = node.get("input").and_then(|input| input.get("from")) {
        return reads(from, true, found);
    }
    let inner = match &task.kind {
        Kind::Do(body) => body.first(),
        Kind::Try(attempt) => attempt.body.first(),
        _ => None,
    };
    if let Some((task, node)) = inner.and_then(|id| planned.get(*id)) {
        return first_reads(planned, task, node, found);
    }
    let (key, is_transform) = if node.get("set").is_some() { ("set", true) } else { ("with", false) };
    node.get(key).into_iter().for_each(|value| reads(value, is_transform, found));
}

/// Collects the unguarded fields of the expressions in a value; text is one by itself where a transformation stands.
fn reads<'n>(node: &'n Node, is_transform: bool, found: &mut Vec<(&'n Node, String)>) {
    match &node.tree {
        Tree::Text(text) if is_transform => found.extend(unguarded(bare(text)).map(|field| (node, field))),
        Tree::Text(text) => {
            let sources: Vec<&str> = match read(text) {
                Reading::Whole(source) => vec![source],
                Reading::Mixed(pieces) => {
                    pieces.into_iter().filter(|(is, _)| *is).map(|(_, source)| source).collect()
                }
                Reading::Plain | Reading::Unclosed => Vec::new(),
            };
            found.extend(sources.into_iter().filter_map(|source| Some((node, unguarded(source)?))));
        }
        Tree::List(items) => items.iter().for_each(|item| reads(item, false, found)),
        Tree::Map(entries) => entries.iter().for_each(|(_, value)| reads(value, false, found)),
        _ => {}
    }
}

/// Says whether a word occurs in any text of a value.
fn says(node: &Node, word: &str) -> bool {
    match &node.tree {
        Tree::Text(text) => text.contains(word),
        Tree::List(items) => items.iter().any(|item| says(item, word)),
        Tree::Map(entries) => entries.iter().any(|(_, value)| says(value, word)),
        _ => false,
    }
}

/// Finds a field of `.` that an expression reads as if it were there.
fn unguarded(source: &str) -> Option<String> {
    find(&jaq_core::load::parse(source, |parser| parser.term())?)
}

fn find(term: &Term<&str>) -> Option<String> {
    match term {
        Term::Path(base, path) if matches!(**base, Term::Id) => match path.0.first() {
            Some((Part::Index(Term::Str(_, parts)), _)) => match parts.as_slice() {
                [StrPart::Str(field)] => Some((*field).to_owned()),
                _ => None,
            },
            _ => None,
        },
        Term::Path(base, _) => find(base),
        Term::Str(_, parts) => parts.iter().find_map(|part| match part {
            StrPart::Term(term) => find(term),
            _ => None,
        }),
        Term::Arr(inner) => find(inner.as_deref()?),
        Term::Obj(entries) => entries.iter().find_map(|(key, value)| match value {
            Some(value) => find(value),
            // `{ id }` is short for `{ id: .id }`.
            None => shorthand(key),
        }),
        Term::Neg(inner) | Term::Label(_, inner) => find(inner),
        Term::BinOp(left, operator, right) => match operator {
            // What stands behind a pipe reads something else.
            BinaryOp::Pipe(None) if !matches!(**left, Term::Id) => find(left),
            BinaryOp::Pipe(_) | BinaryOp::Comma | BinaryOp::Math(_) => find(left).or_else(|| find(right)),
            // A default is a guard, and so is asking.
            _ => None,
        },
        _ => None,
    }
}

fn shorthand(key: &Term<&str>) -> Option<String> {
    match key {
        Term::Str(_, parts) => match parts.as_slice() {
            [StrPart::Str(field)] => Some((*field).to_owned()),
            _ => None,
        },
        _ => None,
    }
}
