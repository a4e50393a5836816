//! `call: openapi`: an operation of a described API, by its id.
//!
//! Documents of OpenAPI 3.x and Swagger 2.0. The document says how to ask; who asks is said by `authentication`.

use ::http::Method;
use serde_json::Value;
use url::Url;

use self::parameters::Parameters;
use crate::call::Scope;
use crate::document::endpoint_of;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::{self, Output, Template};

mod parameters;
mod reference;
mod server;

pub(crate) use self::reference::resolved;

/// The methods a path can have.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// An operation, where it was found.
#[derive(Clone, Copy, Debug)]
struct Operation<'a> {
    document: &'a Value,
    method: &'static str,
    path: &'a str,
    /// What all operations of the path share.
    item: &'a Value,
    definition: &'a Value,
}

/// Looks whether the document has the operation.
pub(crate) async fn examine(scope: Scope<'_>, arguments: &Value) -> Result<(), Failure> {
    let described = Endpoint::read(endpoint_of(arguments, "document")?, None, scope.revealer())?;
    let document = scope.core.documents.at(scope, &described).await?;
    let known = arguments.get("operationId").and_then(Value::as_str);
    known.map_or(Ok(()), |id| Operation::find(&document, id).map(drop))
}

/// Carries out `call: openapi`.
pub(crate) async fn call(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    let described = Endpoint::read(endpoint_of(arguments, "document")?, None, scope.revealer())?;
    let document = scope.core.documents.at(scope, &described).await?;
    let operation =
        Operation::find(&document, arguments.get("operationId").and_then(Value::as_str).unwrap_or_default())?;
    let template = operation.template(scope, arguments, &described.url)?;
    template.perform(scope).await
}

impl<'a> Operation<'a> {
    /// Finds an operation by its id.
    fn find(document: &'a Value, id: &str) -> Result<Self, Failure> {
        let all = || operations(document);
        if let Some(found) = all().find(|operation| operation.id() == Some(id)) {
            return Ok(found);
        }
        let ids = all().filter_map(|operation| operation.id());
        let nearest =
            ids.map(|other| (strsim::jaro_winkler(id, other), other)).max_by(|a, b| a.0.total_cmp(&b.0));
        let fix = match nearest {
            Some((likeness, nearest)) if likeness > 0.7 => format!("did you mean `{nearest}`?"),
            Some(_) => format!("it has {} others", all().count()),
            None => "it has none: is it an OpenAPI document?".to_owned(),
        };
        Err(Failure::configuration(format!("the document has no operation `{id}`: {fix}")))
    }

    fn id(&self) -> Option<&'a str> {
        self.definition.get("operationId").and_then(Value::as_str)
    }

    /// Writes the request that the operation and the arguments of the task come to.
    fn template(&self, scope: Scope<'_>, arguments: &Value, described_at: &Url) -> Result<Template, Failure> {
        let given = arguments.get("parameters").unwrap_or(&Value::Null);
        let filled = Parameters::of(self)?.fill(given)?;
        let server = server::of(self, described_at)?;
        let path = self.path_with(&filled.path);
        let uri = format!("{}{path}", server.trim_end_matches('/'));
        let endpoint = Endpoint::read(&Value::String(uri), Some(described_at), scope.revealer())?.http()?;
        let policy = arguments.get("authentication").filter(|policy| !policy.is_null()).cloned();
        let authentication = policy.or_else(|| endpoint.authentication.clone());
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes());
        Ok(Template {
            method: method.map_err(|_| Failure::configuration("the operation has no HTTP method"))?,
            endpoint: Endpoint { authentication, ..endpoint },
            query: filled.query,
            headers: filled.headers,
            body: filled.body,
            output: Output::read(arguments.get("output"))?,
            redirect: http::redirect(arguments),
        })
    }

    fn path_with(&self, values: &[(String, String)]) -> String {
        values
            .iter()
            .fold(self.path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value))
    }
}

fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    paths.flat_map(move |(path, item)| {
        let item = resolved(document, item);
        METHODS.into_iter().filter_map(move |method| {
            Some(Operation { document, method, path, item, definition: item.get(method)? })
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_operation_is_met_with_the_nearest() {
        let document = json!({ "paths": { "/pets": { "get": { "operationId": "findPets" }, "post": { "operationId": "addPet" } } } });
        let detail = |id| Operation::find(&document, id).unwrap_err().fault.detail.unwrap();
        assert!(detail("findPet").contains("did you mean `findPets`?"));
        assert!(detail("qqq").contains("2 others"));
        let none = Operation::find(&json!("hello"), "x").unwrap_err().fault;
        assert_eq!(none.kind(), "configuration");
    }
}
