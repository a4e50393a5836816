//! People and other workflows: `call: human` and `run: workflow`.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use crate::language::plan::{Call, Filter, Id, Kind, Task, Then};
use crate::language::schema::Schema;
use crate::language::template::Template;
use crate::language::yaml::Node;
use crate::{Child, Need, Protocol, Target, Verb, code};

impl<'a> Lower<'a> {
    pub(super) fn human(&mut self, name: &'a Node, with: Option<&'a Node>) -> Kind {
        self.need(Need::Protocol(Protocol::Human), name);
        let body = with.map(|with| self.template(with));
        let schema = with.and_then(|with| with.get("schema")).and_then(|schema| self.decision(schema));
        Kind::Human(Box::new(call(Target::Protocol(Protocol::Human), body)), schema)
    }

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
        Kind::Call(Box::new(call(Target::Workflow(child), input)))
    }

    /// Plans how a task that runs a child is undone, when it does not say so itself: the child undoes what it did.
    pub(super) fn undo_of_child(&mut self, kind: &Kind, name: &str, pointer: &str) -> Option<Id> {
        let Kind::Call(run) = kind else { return None };
        let Target::Workflow(child) = &run.target else { return None };
        if !child.wait || self.undoing.is_some() {
            return None;
        }
        let undo = Child { verb: Verb::Undo, ..child.clone() };
        let null = Template::Constant(Arc::new(Value::Null));
        Some(self.add(Task {
            name: name.into(),
            pointer: format!("{pointer}/compensate").into(),
            keyword: "run",
            definition: Arc::new(Value::Null),
            condition: None,
            input: Filter::default(),
            output: Filter::default(),
            export: Filter::default(),
            timeout: None,
            then: Then::Continue,
            compensate: None,
            pivot: false,
            key: None,
            kind: Kind::Call(Box::new(call(Target::Workflow(undo), Some(null)))),
        }))
    }

    fn decision(&mut self, node: &Node) -> Option<Schema> {
        // As with `input.schema`, the schema may be wrapped with its format.
        let document = node.get("document").unwrap_or(node);
        match Schema::compile(&document.value()) {
            Ok(schema) => Some(schema),
            Err(problem) => {
                let message = format!("the schema does not compile: {problem}");
                self.report.error(code::SCHEMA, document, message);
                None
            }
        }
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

fn call(target: Target, body: Option<Template>) -> Call {
    Call { target, subject: None, body, headers: None, timeout: None, command: false }
}
