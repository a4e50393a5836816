//! Other workflows: `run: workflow`, and how a child is undone.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use crate::language::plan::{Call, Id, Kind, Task};
use crate::language::template::Template;
use crate::language::yaml::Node;
use crate::{Child, Need, Target, Verb, code};

impl<'a> Lower<'a> {
    /// Plans `run: { workflow }`.
    pub(super) fn child(&mut self, run: &'a Node, workflow: &'a Node) -> Kind {
        self.need(Need::Children, workflow);
        let wait = run.get("await").and_then(Node::bool).unwrap_or(true);
        let input = workflow.get("input").map(|input| self.template(input));
        let namespace = self.constant(workflow.get("namespace"));
        let name = self.constant(workflow.get("name"));
        let version = self.constant(workflow.get("version")).unwrap_or_else(|| "latest".to_owned());
        let (Some(namespace), Some(name)) = (namespace, name) else { return Kind::Foreign };
        let child = Child { namespace, name, version, wait, verb: Verb::Run };
        Kind::Call(Box::new(Call { wait, ..call(Target::Workflow(child), input) }))
    }

    /// Plans how a task that runs a child is undone, when it does not say so itself: the child undoes what it did.
    pub(super) fn undo_of_child(
        &mut self,
        kind: &Kind,
        name: &str,
        node: &'a Node,
        pointer: &str,
    ) -> Option<Id> {
        let Kind::Call(run) = kind else { return None };
        let Target::Workflow(child) = &run.target else { return None };
        if !child.wait || self.undoing.is_some() {
            return None;
        }
        let undo = Child { verb: Verb::Undo, ..child.clone() };
        let null = Template::Constant(Arc::new(Value::Null));
        let kind = Kind::Call(Box::new(call(Target::Workflow(undo), Some(null))));
        let task = Task::plain(name.into(), format!("{pointer}/compensate").into(), "run", kind);
        Some(self.add(task, node))
    }

    fn constant(&mut self, node: Option<&Node>) -> Option<String> {
        let (node, text) = node.and_then(|node| Some((node, node.text()?)))?;
        if text.contains("${") {
            let message = "which workflow runs must be known before it does";
            self.report
                .error(code::INVALID_VALUE, node, message)
                .fix("write its name, without an expression");
            return None;
        }
        Some(text.to_owned())
    }
}

/// Makes a call of something that takes as long as it takes.
pub(super) fn call(target: Target, body: Option<Template>) -> Call {
    Call { body, limit: u64::MAX, ..Call::to(target) }
}
