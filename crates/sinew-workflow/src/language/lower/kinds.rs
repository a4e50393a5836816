//! The kinds of tasks other than calls.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use crate::code;
use crate::language::plan::{Case, ErrorFilter, For, Kind, Raise, Try};
use crate::language::template::{Compile, Template, bare};
use crate::language::yaml::Node;

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
        let status = read("status")?;
        let r#type = Template::read_uri(node.get("type")?, self);
        Some(Raise { r#type, status, title, detail, instance })
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
        let branches = node
            .get("branches")
            .map(|list| self.list(list, &format!("{pointer}/fork/branches")))
            .unwrap_or_default();
        let compete = node.get("compete").and_then(Node::bool).unwrap_or(false);
        Kind::Fork { branches, compete }
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
