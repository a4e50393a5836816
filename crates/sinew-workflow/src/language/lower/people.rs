//! People: `call: human`.

use super::Lower;
use super::children::call;
use crate::language::plan::Kind;
use crate::language::schema::Schema;
use crate::language::yaml::Node;
use crate::{Need, Protocol, Target, code};

impl<'a> Lower<'a> {
    pub(super) fn human(&mut self, name: &'a Node, with: Option<&'a Node>) -> Kind {
        self.need(Need::Protocol(Protocol::Human), name);
        let body = with.map(|with| self.template(with));
        let schema = with.and_then(|with| with.get("schema")).and_then(|schema| self.decision(schema));
        Kind::Human(Box::new(call(Target::Protocol(Protocol::Human), body)), schema)
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
}
