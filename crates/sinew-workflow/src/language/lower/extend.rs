//! Extensions: tasks woven around others of a kind, each time with pointers of their own.
//!
//! What an extension's tasks put out is dropped, so that writing a log line changes no data, unless they are left by
//! `then: exit`: before a task that takes its place, after it that replaces its output. The first extension is the
//! outermost. None applies to tasks of extensions, or to compensations.

use std::sync::Arc;

use super::Lower;
use super::place::Place;
use crate::code;
use crate::language::plan::{Extended, Extends, Extension, Id, Kind, Task};
use crate::language::yaml::{Key, Node, join};

/// The most extensions of a workflow: every task looks at all of them.
const MAX_EXTENSIONS: usize = 100;
/// What `extend: composite` means.
const COMPOSITE: &[&str] = &["do", "fork"];

impl<'a> Lower<'a> {
    /// Adds a task to the plan, with the extensions for its kind around it.
    pub(super) fn add_extended(&mut self, task: Task, node: &'a Node) -> Id {
        let extensions = self.extensions(&task.keyword);
        if extensions.is_empty() || self.extending || self.undoing.is_some() {
            return self.add(task, node);
        }
        let (name, pointer) = (Arc::clone(&task.name), Arc::clone(&task.pointer));
        let around: Arc<str> = format!("{pointer}/@extended").into();
        let (then, condition) = (task.then, task.condition.clone());
        let body = self.add(Task { condition: None, ..task }, node);
        let list = |lower: &mut Self, (name, node): (&'a str, &'a Node), after: bool| {
            let extends = Extends { task: body, around: Arc::clone(&around), after };
            lower.extension(name, node, &pointer, extends)
        };
        let mut parts: Vec<Id> =
            extensions.iter().filter_map(|extension| list(self, *extension, false)).collect();
        parts.push(body);
        parts.extend(extensions.iter().rev().filter_map(|extension| list(self, *extension, true)));
        let kind = Kind::Extended(Box::new(Extended { parts, body, then }));
        self.add(Task { condition, then, ..Task::plain(name, around, "extended", kind) }, node)
    }

    /// Checks the extensions on their own, to report mistakes in those that apply to nothing.
    pub(super) fn check_extensions(&mut self) {
        let mut names: Vec<&str> = Vec::new();
        for (name, node) in self.declared_extensions() {
            if names.len() >= MAX_EXTENSIONS {
                let message = format!("the workflow has more than {MAX_EXTENSIONS} extensions");
                self.report.error(code::LIMIT, node, message).fix("bring some of them together");
                break;
            }
            if names.contains(&name.text.as_str()) {
                let message = format!("two extensions are called `{}`", name.text);
                self.report.error(code::DUPLICATE_TASK, node, message).fix("rename one of them");
            }
            names.push(&name.text);
            self.woven(|lower| {
                lower.at(Place::If, |lower| lower.condition(node.get("when")));
                let lists = ["before", "after"].into_iter().filter_map(|key| node.get(key));
                lists.for_each(|list| drop(lower.list(list, &list.pointer)));
            });
        }
    }

    /// Finds the extensions for a kind of task.
    fn extensions(&self, keyword: &str) -> Vec<(&'a str, &'a Node)> {
        let all = self.declared_extensions().take(MAX_EXTENSIONS);
        let fits = |node: &Node| match node.get("extend").and_then(Node::text) {
            Some("all") => true,
            Some("composite") => COMPOSITE.contains(&keyword),
            Some(kind) => kind == keyword,
            None => false,
        };
        all.filter(|(_, node)| fits(node)).map(|(name, node)| (name.text.as_str(), node)).collect()
    }

    fn declared_extensions(&self) -> impl Iterator<Item = &'a (Key, Node)> + use<'a> {
        let list = self.root.get("use").and_then(|reusable| reusable.get("extensions"));
        list.map(Node::items).unwrap_or_default().iter().flat_map(Node::entries)
    }

    /// Plans the tasks an extension has before or after a task.
    fn extension(&mut self, name: &str, node: &'a Node, pointer: &str, extends: Extends) -> Option<Id> {
        let key = if extends.after { "after" } else { "before" };
        let list = node.get(key).filter(|list| !list.items().is_empty())?;
        let pointer = format!("{}/{key}", join(pointer, &format!("@{name}")));
        let first = self.plan.tasks.len();
        let (condition, body) = self.woven(|lower| {
            let condition = lower.at(Place::If, |lower| lower.condition(node.get("when")));
            (condition, lower.list(list, &pointer))
        });
        let kind = Kind::Extension(Extension { body });
        let task = Task { condition, ..Task::plain(name.into(), pointer.into(), "extension", kind) };
        let id = self.add(task, node);
        self.plan.tasks.iter_mut().skip(first).for_each(|task| task.extends = Some(extends.clone()));
        Some(id)
    }

    /// Reads what belongs to an extension: without the variables around the task, and without extensions.
    fn woven<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let (scope, before) = (std::mem::take(&mut self.scope), self.extending);
        self.extending = true;
        let result = read(self);
        (self.scope, self.extending) = (scope, before);
        result
    }
}
