//! The shape of a document: which keys exist where, and what their values are.
//!
//! The tables in [`tables`] *are* the language; the walk here reports whatever does not fit them. Meaning (names,
//! targets, expressions) is checked by [`lower`](super::lower), which may therefore skip what has the wrong shape.

mod tables;

use super::duration;
use super::report::{Report, nearest};
use super::yaml::{Node, Tree};
use crate::{Severity, code};

pub(crate) use tables::TASKS;

/// What a value may be.
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// Text.
    Text,
    /// Text of a restricted form, with the words that explain it.
    Pattern(fn(&str) -> bool, &'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    Integer,
    Boolean,
    /// An object with these keys and no others.
    Object(&'static [Field]),
    /// An object with these keys, and any others.
    Open(&'static [Field]),
    /// An object with these keys, exactly one of which must be there.
    OneOf(&'static [Field]),
    /// An object from any name to this.
    Map(&'static Shape),
    List(&'static Shape),
    /// A list of objects with a single key: how the language names things in order.
    Named(&'static Shape),
    /// The first of these that takes the kind of value written.
    Either(&'static [&'static Shape]),
    /// ISO 8601 text, an object of units, or an expression.
    Duration,
    /// A task, told apart by its keyword.
    Task,
}

/// A key of an object.
pub(crate) struct Field {
    name: &'static str,
    shape: &'static Shape,
    required: bool,
}

/// A keyword that makes a task, with the keys that come with it.
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    fields: &'static [Field],
}

/// Reports everything in a document that does not fit the language.
pub(crate) fn check(root: &Node, report: &mut Report) {
    let Tree::Map(_) = root.tree else {
        report
            .error(code::WRONG_TYPE, root, "a workflow is an object with `document` and `do`")
            .fix("begin with `document:` and its dsl, namespace, name and version");
        return;
    };
    let known = || tables::ROOT.iter().map(|field| field.name);
    for (key, _) in root.entries() {
        if known().any(|name| name == key.text) {
            continue;
        }
        // The specification lets runtimes add keys here, so only what looks like a slip is refused.
        let slip = nearest(&key.text, known()).is_some();
        let severity = if slip { Severity::Error } else { Severity::Warning };
        let message = format!("unknown key `{}` in the workflow", key.text);
        report.key(code::UNKNOWN_KEY, severity, root, key, message).suggest(&key.text, known());
    }
    fields(root, tables::ROOT, report);
}

/// Reports everything in a task of a file of its own that does not fit the language.
pub(crate) fn check_task(root: &Node, report: &mut Report) {
    task(root, report);
}

/// Returns the keyword of a task, if it has exactly one.
pub(crate) fn keyword(node: &Node) -> Option<&'static Keyword> {
    let mut found = keywords(node);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn keywords(node: &Node) -> impl Iterator<Item = &'static Keyword> {
    // `do` is the body of a `for`, not a keyword beside it.
    let is_loop = node.get("for").is_some();
    TASKS.iter().filter(move |keyword| node.get(keyword.name).is_some() && !(is_loop && keyword.name == "do"))
}

fn walk(node: &Node, shape: &Shape, report: &mut Report) {
    match shape {
        Shape::Any => {}
        Shape::Text => expect(node, "text", node.text().is_some(), report),
        Shape::Pattern(fits, words) => pattern(node, *fits, words, report),
        Shape::Word(words) => word(node, words, report),
        Shape::Integer => expect(node, "a whole number", node.integer().is_some(), report),
        Shape::Boolean => expect(node, "true or false", node.bool().is_some(), report),
        Shape::Object(known) => {
            if object(node, report) {
                closed(node, &[*known], report);
                fields(node, known, report);
            }
        }
        Shape::Open(known) => {
            if object(node, report) {
                fields(node, known, report);
            }
        }
        Shape::OneOf(known) => one_of(node, known, report),
        Shape::Map(inner) => {
            if object(node, report) {
                node.entries().iter().for_each(|(_, value)| walk(value, inner, report));
            }
        }
        Shape::List(inner) => {
            expect(node, "a list", matches!(node.tree, Tree::List(_)), report);
            node.items().iter().for_each(|item| walk(item, inner, report));
        }
        Shape::Named(inner) => named(node, inner, report),
        Shape::Either(shapes) => either(node, shapes, report),
        Shape::Duration => length(node, report),
        Shape::Task => task(node, report),
    }
}

fn expect(node: &Node, what: &str, fits: bool, report: &mut Report) {
    if !fits {
        let finding =
            report.error(code::WRONG_TYPE, node, format!("expected {what}, found {}", node.describe()));
        if what == "text" && !matches!(node.tree, Tree::List(_) | Tree::Map(_)) {
            finding.fix("put it in quotes");
        }
    }
}

fn object(node: &Node, report: &mut Report) -> bool {
    let fits = matches!(node.tree, Tree::Map(_));
    expect(node, "an object", fits, report);
    fits
}

fn pattern(node: &Node, fits: fn(&str) -> bool, words: &str, report: &mut Report) {
    match node.text() {
        None => expect(node, "text", false, report),
        Some(text) if !fits(text) => {
            report
                .error(code::INVALID_VALUE, node, format!("`{text}` is not {words}"))
                .fix(format!("write {words}"));
        }
        Some(_) => {}
    }
}

fn word(node: &Node, words: &'static [&'static str], report: &mut Report) {
    match node.text() {
        None => expect(node, "text", false, report),
        Some(text) if !words.contains(&text) => {
            report
                .error(code::INVALID_VALUE, node, format!("`{text}` is not allowed here"))
                .suggest(text, words.iter().copied());
        }
        Some(_) => {}
    }
}

/// Reports keys that none of the tables has.
fn closed(node: &Node, tables: &[&'static [Field]], report: &mut Report) {
    let known = || tables.iter().flat_map(|fields| fields.iter().map(|field| field.name));
    for (key, _) in node.entries() {
        if !known().any(|name| name == key.text) {
            let message = format!("unknown key `{}`", key.text);
            report.key(code::UNKNOWN_KEY, Severity::Error, node, key, message).suggest(&key.text, known());
        }
    }
}

/// Checks the keys of one table: that required ones are there, and the shape of those that are.
fn fields(node: &Node, table: &'static [Field], report: &mut Report) {
    for field in table {
        match node.get(field.name) {
            Some(value) => walk(value, field.shape, report),
            None if field.required => {
                report
                    .error(code::MISSING_KEY, node, format!("`{}` is missing", field.name))
                    .fix(format!("add `{}:`", field.name));
            }
            None => {}
        }
    }
}

fn one_of(node: &Node, known: &'static [Field], report: &mut Report) {
    if !object(node, report) {
        return;
    }
    closed(node, &[known], report);
    fields(node, known, report);
    let names: Vec<_> = known.iter().map(|field| field.name).collect();
    let present = names.iter().filter(|name| node.get(name).is_some()).count();
    if present != 1 {
        let message = format!("exactly one of {} must be here, found {present}", names.join(", "));
        report.error(if present == 0 { code::MISSING_KEY } else { code::INVALID_VALUE }, node, message);
    }
}

fn named(node: &Node, inner: &'static Shape, report: &mut Report) {
    if !matches!(node.tree, Tree::List(_)) {
        let finding =
            report.error(code::WRONG_TYPE, node, format!("expected a list, found {}", node.describe()));
        finding.fix("write `- name:` before each");
        return;
    }
    for item in node.items() {
        match item.entries() {
            [(_, value)] => walk(value, inner, report),
            entries => {
                let found = if matches!(item.tree, Tree::Map(_)) {
                    format!("{} keys", entries.len())
                } else {
                    item.describe().to_owned()
                };
                let message = format!("expected an object with one key, the name; found {found}");
                report
                    .error(code::WRONG_TYPE, item, message)
                    .fix("begin each with `- name:` and indent the rest below it");
            }
        }
    }
}

fn either(node: &Node, shapes: &'static [&'static Shape], report: &mut Report) {
    let fits = shapes.iter().find(|shape| shape.takes(node));
    match fits.or(shapes.first()) {
        Some(shape) => walk(node, shape, report),
        None => expect(node, "something else", false, report),
    }
}

fn length(node: &Node, report: &mut Report) {
    let read = match &node.tree {
        Tree::Text(text) if text.contains("${") => return,
        Tree::Text(text) => duration::parse(text),
        Tree::Map(_) => {
            closed(node, &[tables::UNITS], report);
            fields(node, tables::UNITS, report);
            duration::from_object(node)
        }
        _ => return expect(node, "a duration", false, report),
    };
    if let Err(problem) = read {
        report
            .error(code::DURATION, node, problem)
            .fix("write for example `PT1M30S`, `P1D`, or `{ minutes: 1, seconds: 30 }`");
    }
}

fn task(node: &Node, report: &mut Report) {
    if !object(node, report) {
        return;
    }
    let found: Vec<_> = keywords(node).collect();
    let names = || TASKS.iter().map(|keyword| keyword.name);
    match found.as_slice() {
        [keyword] => {
            closed(node, &[tables::TASK_BASE, keyword.fields], report);
            fields(node, tables::TASK_BASE, report);
            fields(node, keyword.fields, report);
            if keyword.name == "call" {
                arguments(node, report);
            }
        }
        [] => {
            let slip = node.entries().iter().find_map(|(key, _)| Some((key, nearest(&key.text, names())?)));
            let finding =
                report.error(code::TASK_KIND, node, "this task has no keyword that says what it does");
            match slip {
                Some((key, name)) => finding.fix(format!("did you mean `{name}` instead of `{}`?", key.text)),
                None => finding.fix(format!("add one of {}", names().collect::<Vec<_>>().join(", "))),
            }
        }
        several => {
            let several: Vec<_> = several.iter().map(|keyword| keyword.name).collect();
            let message = format!("this task does several things at once: {}", several.join(", "));
            report.error(code::TASK_KIND, node, message).fix("split it into one task each");
        }
    }
}

/// Checks `with` against the function that is called.
fn arguments(node: &Node, report: &mut Report) {
    let Some(function) = node.get("call").and_then(Node::text) else { return };
    let Some((_, shape, required)) = tables::CALLS.iter().find(|(name, ..)| *name == function) else {
        return node.get("with").into_iter().for_each(|with| walk(with, tables::ARGUMENTS, report));
    };
    match node.get("with") {
        Some(with) => walk(with, shape, report),
        None if *required => {
            report
                .error(code::MISSING_KEY, node, format!("`call: {function}` needs `with`"))
                .fix("add `with:` and its arguments");
        }
        None => {}
    }
}

impl Shape {
    /// Says whether this shape is meant for the kind of value written, whatever is inside.
    fn takes(&self, node: &Node) -> bool {
        match self {
            Self::Any => true,
            Self::Text | Self::Pattern(..) | Self::Word(_) => node.text().is_some(),
            Self::Integer => node.integer().is_some(),
            Self::Boolean => node.bool().is_some(),
            Self::List(_) | Self::Named(_) => matches!(node.tree, Tree::List(_)),
            Self::Object(_) | Self::Open(_) | Self::OneOf(_) | Self::Map(_) | Self::Task => {
                matches!(node.tree, Tree::Map(_))
            }
            Self::Duration => matches!(node.tree, Tree::Map(_) | Tree::Text(_)),
            Self::Either(shapes) => shapes.iter().any(|shape| shape.takes(node)),
        }
    }
}
