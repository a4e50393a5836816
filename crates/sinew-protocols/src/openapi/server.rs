//! Where the operations of a document are served.

use serde_json::Value;
use url::Url;

use super::Operation;
use crate::failure::Failure;
use crate::http::scalar;

/// Returns the base URI of an operation; it may be relative to the document.
pub(super) fn of(operation: &Operation<'_>, described_at: &Url) -> Result<String, Failure> {
    if operation.document.get("swagger").is_some() {
        return Ok(of_version_2(operation, described_at));
    }
    let levels = [operation.definition, operation.item, operation.document];
    let server = levels.into_iter().find_map(|level| level.get("servers")?.get(0));
    server.map_or_else(|| Ok("/".to_owned()), with_variables)
}

/// Puts the default values of its variables into the URI of a server.
pub(crate) fn with_variables(server: &Value) -> Result<String, Failure> {
    let mut url = server.get("url").and_then(Value::as_str).unwrap_or("/").to_owned();
    let variables = server.get("variables").and_then(Value::as_object).into_iter().flatten();
    for (name, variable) in variables {
        let default = variable.get("default").map(scalar).unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), &default);
    }
    if url.contains('{') {
        return Err(Failure::configuration(format!("the server `{url}` has a variable without a default")));
    }
    Ok(url)
}

/// Swagger 2.0 says it in three parts, each of which may be left out.
fn of_version_2(operation: &Operation<'_>, described_at: &Url) -> String {
    let text = |name: &str| operation.document.get(name).and_then(Value::as_str);
    let schemes: Vec<_> = [operation.definition, operation.document]
        .into_iter()
        .find_map(|level| level.get("schemes")?.as_array())
        .map(|schemes| schemes.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let scheme = match &schemes[..] {
        [] => described_at.scheme(),
        schemes if schemes.contains(&"https") => "https",
        schemes => schemes[0],
    };
    let base = text("basePath").unwrap_or("/");
    match text("host") {
        Some(host) => format!("{scheme}://{host}{base}"),
        None => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base(document: &Value) -> String {
        let operation = Operation::find(document, "x").unwrap();
        of(&operation, &Url::parse("https://described.example/api/openapi.json").unwrap()).unwrap()
    }

    fn described(mut document: Value, operation: Value) -> Value {
        document["paths"] = json!({ "/x": { "get": operation } });
        document["paths"]["/x"]["get"]["operationId"] = json!("x");
        document
    }

    #[test]
    fn the_closest_server_counts_and_variables_have_defaults() {
        let servers =
            json!([{ "url": "https://{zone}.example/v1", "variables": { "zone": { "default": "eu" } } }]);
        let document = json!({ "openapi": "3.1.0", "servers": servers });
        assert_eq!(base(&described(document.clone(), json!({}))), "https://eu.example/v1");
        assert_eq!(base(&described(document, json!({ "servers": [{ "url": "/v2" }] }))), "/v2");
        assert_eq!(base(&described(json!({ "openapi": "3.0.0" }), json!({}))), "/");
    }

    #[test]
    fn swagger_says_it_in_parts() {
        let full = json!({ "swagger": "2.0", "host": "petstore.example", "basePath": "/v2", "schemes": ["http", "https"] });
        assert_eq!(base(&described(full, json!({}))), "https://petstore.example/v2");
        let bare = json!({ "swagger": "2.0", "host": "petstore.example:8080" });
        assert_eq!(base(&described(bare, json!({}))), "https://petstore.example:8080/");
        assert_eq!(base(&described(json!({ "swagger": "2.0" }), json!({}))), "/");
    }
}
