//! Compiles expressions where they stand: with the arguments of their place, and with placeholders for secrets.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use super::place::{ARGUMENTS, Place};
use crate::language::jq::Expression;
use crate::language::jq::secrets::{self, Misuse};
use crate::language::template::{Compile, Guard, Template, bare};
use crate::language::yaml::{Node, Tree};
use crate::{Need, code};

impl Lower<'_> {
    /// Reads what stands at a place.
    pub(super) fn at<T>(&mut self, place: Place, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.place, place);
        let result = read(self);
        self.place = before;
        result
    }

    /// Reads what may name secrets, but stays inside the engine.
    pub(super) fn revealing<T>(&mut self, reveals: bool, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.reveals, reveals);
        let result = read(self);
        self.reveals = before;
        result
    }

    /// Reads what leaves the engine for somebody who replaces placeholders.
    pub(super) fn leaving<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.guard.replace(self.granted.clone());
        let result = self.revealing(true, read);
        self.guard = before;
        result
    }

    /// Reads a place where text is an expression, with or without `${ }`, and an object holds expressions.
    pub(super) fn transform(&mut self, node: &Node) -> Template {
        let Tree::Text(text) = &node.tree else { return self.template(node) };
        let literal = || Arc::new(Value::String(text.clone()));
        if self.loose && bare(text) == text {
            let expression = self.loosely(node, text);
            return expression.map_or_else(
                || Template::Constant(literal()),
                |tried| Template::Loose(Box::new(Template::Expression(tried)), literal()),
            );
        }
        match self.expression(node, bare(text)).map(Template::Expression) {
            Some(read) if self.loose => Template::Loose(Box::new(read), literal()),
            Some(read) => read,
            None => Template::Constant(Arc::new(Value::Null)),
        }
    }

    pub(super) fn template(&mut self, node: &Node) -> Template {
        Template::read(node, self)
    }

    pub(super) fn condition(&mut self, node: Option<&Node>) -> Option<Expression> {
        let node = node?;
        let text = node.text()?;
        self.expression(node, bare(text))
    }

    /// Compiles an expression in which secrets are already replaced.
    fn compile(&mut self, source: &str) -> Result<Expression, String> {
        let mut scope: Vec<String> = self.place.arguments().iter().map(|&name| name.to_owned()).collect();
        if self.undoing.is_some() && !scope.iter().any(|name| name == "input") {
            // Everywhere in a compensation it is the input of what is undone, which is known from the start.
            scope.push("input".to_owned());
        }
        scope.extend_from_slice(&self.scope);
        let compiled = self.compiled.entry((source.to_owned(), scope));
        let compile =
            |key: &(String, Vec<String>)| Expression::compile(&key.0, key.1.iter().map(String::as_str));
        compiled.or_insert_with_key(compile).clone()
    }

    /// Replaces the secrets an expression names, or reports why it cannot name them.
    fn inline(&mut self, node: &Node, source: &str) -> Option<String> {
        match secrets::inline(source) {
            Ok((text, names)) => {
                if !names.is_empty() && !self.may_reveal(node) {
                    return None;
                }
                let declared = names.iter().all(|name| self.declared(node, name));
                declared.then_some(text)
            }
            Err(Misuse::Dynamic) => {
                let message = "which secret is meant must be known before the workflow runs";
                self.report.error(code::SECRET, node, message).fix("name the secret: `$secrets.name`");
                None
            }
            Err(Misuse::Name(name)) => {
                let message = format!("`{name}` is not the name of a secret");
                self.report.error(code::SECRET, node, message).fix("write letters, digits, `-` and `_`");
                None
            }
        }
    }

    fn may_reveal(&mut self, node: &Node) -> bool {
        if !self.reveals {
            let finding =
                self.report.error(code::SECRET, node, "a secret cannot be used here: it would be stored");
            finding.fix(
                "name it in the arguments of the call or `run` that needs it, in their `input.from`, or in an authentication policy",
            );
        }
        self.reveals
    }

    /// Checks that a secret is declared, and notes that the host must know it.
    pub(super) fn declared(&mut self, node: &Node, name: &str) -> bool {
        let list = self.root.get("use").and_then(|reusable| reusable.get("secrets"));
        let known: Vec<&str> =
            list.map(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect();
        let declared = known.contains(&name);
        if declared {
            self.secrets.insert(name.to_owned());
            self.need(Need::Secrets, node);
        } else {
            let message = format!("there is no secret `{name}` below `use.secrets`");
            let finding = self.report.error(code::UNKNOWN_NAME, node, message);
            if known.is_empty() {
                finding.fix(format!("add `secrets: [ {name} ]` below `use`"));
            } else {
                finding.suggest(name, known);
            }
        }
        declared
    }

    fn uncompiled(&mut self, node: &Node, problem: &str) {
        let place = self.place;
        let argument = ARGUMENTS.iter().find(|name| problem.contains(&format!("`${name}`")));
        match argument {
            Some(argument) => {
                let message = format!("`${argument}` is not available {}", place.describe());
                let here: Vec<String> = place.arguments().iter().map(|name| format!("${name}")).collect();
                self.report
                    .error(code::EXPRESSION, node, message)
                    .fix(format!("use `.`, or one of {}", here.join(", ")));
            }
            None => {
                let message = format!("the expression does not compile: {problem}");
                self.report.error(code::EXPRESSION, node, message);
            }
        }
    }
}

impl Compile for Lower<'_> {
    fn expression(&mut self, node: &Node, source: &str) -> Option<Expression> {
        let inlined = if secrets::used(source) { Some(self.inline(node, source)?) } else { None };
        match self.compile(inlined.as_deref().unwrap_or(source)) {
            Ok(expression) => Some(expression),
            Err(problem) => {
                self.uncompiled(node, &problem);
                None
            }
        }
    }

    fn loosely(&mut self, node: &Node, source: &str) -> Option<Expression> {
        if !self.loose {
            return None;
        }
        let inlined = if secrets::used(source) { Some(self.inline(node, source)?) } else { None };
        self.compile(inlined.as_deref().unwrap_or(source)).ok()
    }

    fn is_loose(&self) -> bool {
        self.loose
    }

    fn guard(&self) -> Option<Guard> {
        self.guard.clone()
    }

    fn unclosed(&mut self, node: &Node) {
        self.report
            .error(code::EXPRESSION, node, "an expression begins with `${` and never ends")
            .fix("close it with `}`");
    }

    fn reserved(&mut self, node: &Node) {
        self.report
            .error(code::SECRET, node, "the character U+E000 stands for secrets in what a call sends")
            .fix("remove it");
    }
}
