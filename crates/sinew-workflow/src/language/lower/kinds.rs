//! The kinds of tasks other than calls.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use super::place::Place;
use crate::code;
use crate::language::plan::{Case, ErrorFilter, For, Kind, Raise, Try};
use crate::language::template::{Compile, Template, bare};
use crate::language::yaml::{Node, Tree};

impl<'a> Lower<'a> {
    pub(super) fn switch(&mut self, node: &'a Node, siblings: &[&str]) -> Kind {
        let cases: Vec<Case> = node
            .items()
            .iter()
            .filter_map(|item| item.entries().first())
            .map(|(name, case)| Case {
                name: name.text.as_str().into(),
                when: self.condition(case.get("when")),
                then: self.then(case.get("then"), siblings),
            })
            .collect();
        if cases.iter().filter(|case| case.when.is_none()).count() > 1 {
            let finding = self.report.error(code::INVALID_VALUE, node, "several cases have no `when`");
            finding.fix("leave one default case and give the others a condition");
        }
        if cases.is_empty() {
            self.report
                .error(code::INVALID_VALUE, node, "a switch has at least one case")
                .fix("add `- name: { when: …, then: … }`");
        }
        Kind::Switch(cases)
    }

    pub(super) fn attempt(
        &mut self,
        node: &'a Node,
        body: &'a Node,
        pointer: &str,
        siblings: &[&str],
    ) -> Kind {
        let body = self.list(body, &format!("{pointer}/try"));
        let Some(catch) = node.get("catch") else { return Kind::Foreign };
        let bind = catch.get("as").and_then(Node::text).unwrap_or("error").trim_start_matches('$').to_owned();
        let then = catch.get("then").map(|then| self.then(Some(then), siblings));
        let caught = self.with_variables(&[&bind], |lower| Try {
            body,
            errors: error_filter(catch.get("errors").and_then(|errors| errors.get("with"))),
            when: lower.condition(catch.get("when")),
            except_when: lower.condition(catch.get("exceptWhen")),
            retry: catch.get("retry").and_then(|retry| lower.retry(retry)),
            handler: catch.get("do").map(|list| lower.list(list, &format!("{pointer}/catch/do"))),
            then,
            bind: bind.clone(),
        });
        Kind::Try(Box::new(caught))
    }

    pub(super) fn raise(&mut self, node: &'a Node) -> Kind {
        let Some(error) = node.get("error") else { return Kind::Foreign };
        let definition = match error.text() {
            Some(name) => self.reuse("errors", "error", error, name),
            None => Some(error),
        };
        definition
            .and_then(|definition| self.raised(definition))
            .map_or(Kind::Foreign, |raise| Kind::Raise(Box::new(raise)))
    }

    pub(super) fn raised(&mut self, node: &Node) -> Option<Raise> {
        let mut read = |key: &str| node.get(key).map(|value| self.template(value));
        let (title, detail, instance) = (read("title"), read("detail"), read("instance"));
        Some(Raise { r#type: read("type")?, status: read("status")?, title, detail, instance })
    }

    pub(super) fn emit(&mut self, node: &Node) -> Kind {
        let with = node.get("event").and_then(|event| event.get("with"));
        with.map_or(Kind::Foreign, |with| Kind::Emit(self.template(with)))
    }

    pub(super) fn repeat(&mut self, node: &'a Node, each: &'a Node, pointer: &str) -> Kind {
        let Some(items) = each.get("in") else { return Kind::Foreign };
        let items = match items.text() {
            Some(text) => self
                .expression(items, bare(text))
                .map_or_else(|| Template::Constant(Arc::new(Value::Null)), Template::Expression),
            None => self.template(items),
        };
        let name = |key: &str, default: &str| {
            each.get(key).and_then(Node::text).unwrap_or(default).trim_start_matches('$').to_owned()
        };
        let (item, at) = (name("each", "item"), name("at", "index"));
        let looped = self.with_variables(&[&item, &at], |lower| {
            let condition = lower.condition(node.get("while"));
            let body =
                node.get("do").map(|list| lower.list(list, &format!("{pointer}/do"))).unwrap_or_default();
            For { each: item.clone(), at: at.clone(), items, condition, body }
        });
        Kind::For(Box::new(looped))
    }

    pub(super) fn fork(&mut self, node: &'a Node, pointer: &str) -> Kind {
        let before = self.plan.tasks.len();
        let branches = node
            .get("branches")
            .map(|list| self.list(list, &format!("{pointer}/fork/branches")))
            .unwrap_or_default();
        let compete = node.get("compete").and_then(Node::bool).unwrap_or(false);
        if compete && self.plan.tasks.iter().skip(before).any(|task| task.compensate.is_some()) {
            // Losers must be undone at once, which the engine does not do yet; leaving them done would be wrong.
            self.not_yet(
                node,
                "competing branches with compensations",
                "let them join, or drop `compensate`",
            );
        }
        Kind::Fork { branches, compete }
    }

    pub(super) fn listen(&mut self, node: &'a Node, listen: &'a Node, pointer: &str) -> Kind {
        self.not_yet(listen, "`listen` tasks", "start a workflow per event instead");
        listen.get("to").into_iter().for_each(|events| self.events(events));
        node.get("foreach").into_iter().for_each(|foreach| self.foreach(foreach, pointer));
        Kind::Foreign
    }

    /// Checks the loop over events or messages that a foreign task receives.
    pub(super) fn foreach(&mut self, node: &'a Node, pointer: &str) {
        let name = |key: &str, default: &'static str| node.get(key).and_then(Node::text).unwrap_or(default);
        self.with_variables(&[name("item", "item"), name("at", "index")], |lower| {
            node.get("do")
                .into_iter()
                .for_each(|list| drop(lower.list(list, &format!("{pointer}/foreach/do"))));
            lower.filter(node.get("output"), "as", Place::Output);
            lower.filter(node.get("export"), "as", Place::Export);
        });
    }

    /// Checks the expressions of a choice of events.
    fn events(&mut self, node: &Node) {
        for (key, value) in node.entries() {
            match (&value.tree, key.text.as_str()) {
                (Tree::List(filters), _) => filters.iter().for_each(|filter| self.event(filter)),
                (Tree::Text(_), "until") => drop(self.condition(Some(value))),
                (_, "one") => self.event(value),
                (Tree::Map(_), "until") => self.events(value),
                _ => {}
            }
        }
    }

    fn event(&mut self, filter: &Node) {
        filter.get("with").into_iter().for_each(|with| drop(self.template(with)));
        for (_, correlation) in filter.get("correlate").map(Node::entries).unwrap_or_default() {
            self.condition(correlation.get("from"));
            correlation.get("expect").into_iter().for_each(|expect| drop(self.template(expect)));
        }
    }
}

fn error_filter(node: Option<&Node>) -> ErrorFilter {
    let Some(node) = node else { return ErrorFilter::default() };
    let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    ErrorFilter {
        r#type: text("type"),
        status: node.get("status").and_then(Node::integer),
        instance: text("instance"),
        title: text("title"),
        detail: text("detail"),
    }
}
