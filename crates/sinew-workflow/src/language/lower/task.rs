//! What all tasks have in common, and which kind is which.

use std::sync::Arc;

use super::place::Place;
use super::{Lower, MAX_NESTED, MAX_PLANNED, MAX_TASKS};
use crate::code;
use crate::language::plan::{Id, Kind, Task, Then};
use crate::language::report::nearest;
use crate::language::template::Template;
use crate::language::yaml::{Node, Tree};
use crate::language::{check, grammar};

impl<'a> Lower<'a> {
    /// Plans a task at a pointer; `siblings` are the names its `then` may lead to.
    pub(super) fn task(&mut self, name: &str, node: &'a Node, pointer: String, siblings: &[&str]) -> Id {
        if let Err((what, fix)) = self.fits(node) {
            self.report.error(code::LIMIT, node, what).fix(fix);
            return Id(0);
        }
        self.nested += 1;
        let id = self.planned(name, node, pointer, siblings);
        self.nested -= 1;
        id
    }

    /// Checks that the plan stays within its limits when a task is added.
    fn fits(&mut self, node: &Node) -> Result<(), (String, &'static str)> {
        self.planned = self.planned.saturating_add(node.weight());
        if self.plan.tasks.len() >= MAX_TASKS {
            return Err((
                format!("the workflow has more than {MAX_TASKS} tasks"),
                "split it into several workflows",
            ));
        }
        if self.nested >= MAX_NESTED {
            return Err((
                format!("tasks are more than {MAX_NESTED} levels inside each other, through functions too"),
                "put them behind each other, or run a workflow of their own",
            ));
        }
        if self.planned > MAX_PLANNED {
            return Err((
                format!("the definitions of all tasks come to more than {MAX_PLANNED} bytes"),
                "call functions with large values less often, or give those values as input",
            ));
        }
        Ok(())
    }

    fn planned(&mut self, name: &str, node: &'a Node, pointer: String, siblings: &[&str]) -> Id {
        let keyword = grammar::keyword(node).map_or("task", |keyword| keyword.name);
        let leaves = self.leaves(keyword, node.get(keyword));
        let input = self.revealing(leaves, |lower| lower.filter(node.get("input"), "from", Place::Input));
        let granted = input.transform.as_ref().filter(|_| leaves).map(Template::placeholders);
        let before = std::mem::replace(&mut self.granted, granted.unwrap_or_default());
        let kind = self.kind(keyword, node, &pointer, siblings);
        self.granted = before;
        let compensate = match saga_key(node, "compensate") {
            Some(_) => self.compensation(name, node, &pointer),
            None => self.undo_of_child(&kind, name, node, &pointer),
        };
        let task = Task {
            name: name.into(),
            keyword: keyword.into(),
            definition: Arc::new(node.value()),
            condition: self.at(Place::If, |lower| lower.condition(node.get("if"))),
            input,
            output: self.filter(node.get("output"), "as", Place::Output),
            export: self.filter(node.get("export"), "as", Place::Export),
            timeout: self.timeout(node.get("timeout")),
            then: self.then(node.get("then"), siblings),
            compensate,
            pivot: self.pivot(node),
            key: self.condition(saga_key(node, "idempotencyKey")),
            extends: None,
            kind,
            pointer: pointer.into(),
        };
        self.add_extended(task, node)
    }

    pub(super) fn then(&mut self, node: Option<&Node>, siblings: &[&str]) -> Then {
        let Some((node, target)) = node.and_then(|node| Some((node, node.text()?))) else {
            return Then::Continue;
        };
        match target {
            "continue" => Then::Continue,
            "exit" => Then::Exit,
            "end" => Then::End,
            name => match siblings.iter().position(|sibling| *sibling == name) {
                Some(position) => Then::To(position),
                None => {
                    let message = format!("`then` leads to `{name}`, which is no task of this list");
                    let finding = self.report.error(code::UNKNOWN_TARGET, node, message);
                    finding.suggest(name, siblings.iter().copied().chain(["continue", "exit", "end"]));
                    Then::Continue
                }
            },
        }
    }

    fn kind(&mut self, keyword: &str, node: &'a Node, pointer: &str, siblings: &[&str]) -> Kind {
        let Some(value) = node.get(keyword) else { return Kind::Foreign };
        match keyword {
            "do" => Kind::Do(self.list(value, &format!("{pointer}/do"))),
            "call" => self.call(node, value, pointer),
            "set" => Kind::Set(self.transform(value)),
            "switch" => self.switch(value, siblings),
            "try" => self.attempt(node, value, pointer, siblings),
            "raise" => self.raise(value),
            "wait" => self.length(value).map_or(Kind::Foreign, Kind::Wait),
            "emit" => self.emit(value),
            "for" => self.repeat(node, value, pointer),
            "fork" => self.fork(value, pointer),
            "listen" => self.listen(node, value, pointer),
            _ => self.run(value),
        }
    }

    /// Plans the compensation of a task below it.
    fn compensation(&mut self, name: &str, node: &'a Node, pointer: &str) -> Option<Id> {
        let value = saga_key(node, "compensate")?;
        if value.bool() == Some(true) {
            let finding =
                self.report.error(code::SAGA, value, "`compensate` is a task, or false to inherit none");
            finding.fix("write the task that undoes this one");
        }
        if !matches!(value.tree, Tree::Map(_)) {
            return None;
        }
        if let Some(calling) = self.undoing {
            // A function may bring a compensation along, which does not matter when it is called to undo.
            if calling == self.calling.len() {
                let finding =
                    self.report.error(code::SAGA, value, "a compensation cannot be compensated itself");
                finding.fix("remove it; a compensation that fails is retried");
            }
            return None;
        }
        let around: Vec<&str> =
            self.scope.iter().map(String::as_str).filter(|name| *name != "error").collect();
        check::gone(value, &around, self.report);
        let scope = std::mem::take(&mut self.scope);
        self.undoing = Some(self.calling.len());
        let id = self.with_variables(&["error", "saga"], |lower| {
            lower.task(name, value, format!("{pointer}/compensate"), &[])
        });
        self.undoing = None;
        self.scope = scope;
        Some(id)
    }

    fn pivot(&mut self, node: &'a Node) -> bool {
        let Some(value) = saga_key(node, "pivot") else { return false };
        let pivot = value.bool().unwrap_or(false);
        if pivot && self.undoing == Some(self.calling.len()) {
            self.report.error(code::SAGA, value, "a compensation cannot be a pivot").fix("remove it");
        }
        pivot && self.undoing.is_none()
    }
}

/// Finds a saga key in either spelling: on the task, or below `metadata`, where the official schema has room for it.
pub(crate) fn saga_key<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.get(key).or_else(|| node.get("metadata")?.get(key))
}

/// Says whether a task looks like a name that was meant for one of these.
pub(super) fn looks_like<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> bool {
    nearest(written, known).is_some()
}
