//! What stands elsewhere: functions of catalogues and at a URI, and schemas of their own.

use serde_json::Value;

use super::Lower;
use super::place::Place;
use crate::language::grammar;
use crate::language::jq::Nothing;
use crate::language::library::{Catalogued, DEFAULT, MAX_DOCUMENTS, raw};
use crate::language::plan::Kind;
use crate::language::yaml::Node;
use crate::{Resource, code};

impl<'a> Lower<'a> {
    /// Plans a call of a function that another document holds.
    pub(super) fn external(
        &mut self,
        node: &'a Node,
        name: &'a Node,
        function: &'a str,
        pointer: &str,
    ) -> Kind {
        let catalogued = Catalogued::read(function);
        let found = match &catalogued {
            Some(catalogued) => self.catalog(name, catalogued),
            None => Some((raw(function), Value::String(raw(function)))),
        };
        let Some((uri, endpoint)) = found else { return Kind::Foreign };
        let label = catalogued.map_or(function, |catalogued| catalogued.name);
        let what =
            if function == uri { "the function".to_owned() } else { format!("the function `{function}`") };
        match self.document(name, uri.clone(), endpoint, &what) {
            Some(body) => self.function(node, name, label, body, pointer, Some(&uri)),
            None => Kind::Foreign,
        }
    }

    /// Finds a schema that stands elsewhere.
    pub(super) fn schema_document(&mut self, resource: &'a Node) -> Option<&'a Node> {
        let endpoint = resource.get("endpoint")?;
        let (uri, endpoint) = self.constant_endpoint(endpoint)?;
        let (uri, what) = (raw(&uri), "the schema");
        self.document(resource, uri, endpoint, what)
    }

    /// Reads a function as the language writes it in a file of its own.
    pub(super) fn check_function(&mut self, body: &'a Node) {
        grammar::check_task(body, self.report);
    }

    fn catalog(&mut self, name: &Node, function: &Catalogued<'_>) -> Option<(String, Value)> {
        let catalogs = self.root.get("use").and_then(|reusable| reusable.get("catalogs"));
        let declared = catalogs.is_some_and(|catalogs| catalogs.get(function.catalog).is_some());
        if !declared && function.catalog == DEFAULT {
            let uri = function.uri(None);
            return Some((uri.clone(), Value::String(uri)));
        }
        let catalog = self.reuse("catalogs", "catalog", name, function.catalog)?;
        let (root, mut endpoint) = self.constant_endpoint(catalog.get("endpoint")?)?;
        let uri = function.uri(Some(&root));
        match &mut endpoint {
            Value::Object(endpoint) => drop(endpoint.insert("uri".to_owned(), Value::String(uri.clone()))),
            other => *other = Value::String(uri.clone()),
        }
        Some((uri, endpoint))
    }

    /// Reads an endpoint that is asked before any instance starts, so that only constants and secrets can be in it.
    fn constant_endpoint(&mut self, node: &'a Node) -> Option<(String, Value)> {
        let endpoint = self.at(Place::Load, |lower| lower.leaving(|lower| lower.endpoint(node)));
        let endpoint =
            endpoint.evaluate(&Value::Null, &Nothing).ok().map(|endpoint| Value::clone(&endpoint))?;
        let uri = endpoint.get("uri").unwrap_or(&endpoint).as_str().map(str::to_owned);
        let written = node.get("uri").unwrap_or(node).text();
        if uri.is_none() || written.is_none_or(|written| written.contains("${")) {
            self.report
                .error(
                    code::RESOURCE,
                    node,
                    "the address of a document must be known before the workflow runs",
                )
                .fix("write the URI itself");
            return None;
        }
        Some((uri?, endpoint))
    }

    /// Finds a document, or notes that it is missing.
    fn document(&mut self, node: &Node, uri: String, endpoint: Value, what: &str) -> Option<&'a Node> {
        match self.library.get(&uri) {
            Some(Ok(root)) => return Some(root),
            Some(Err(problem)) => {
                self.report.unreadable(problem);
                return None;
            }
            None => {}
        }
        if !self.missing.iter().any(|missing| missing.uri == uri) {
            if self.missing.len() + self.library.uris().count() >= MAX_DOCUMENTS {
                let message = format!("the workflow refers to more than {MAX_DOCUMENTS} documents");
                self.report.error(code::LIMIT, node, message).fix("copy some of them into the workflow");
                return None;
            }
            let (file, pointer) = (self.report.file(node.mark).to_owned(), node.pointer.clone());
            self.missing.push(Resource { uri: uri.clone(), endpoint, file, pointer, why: what.to_owned() });
        }
        self.foreign
            .error(code::RESOURCE, node, format!("{what} at `{uri}` was not fetched"))
            .fix("check that it can be reached, and give it along with the workflow");
        None
    }
}
