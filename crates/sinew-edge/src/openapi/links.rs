//! What a client can do with a reply: operations below the path it asked, whose path wants a member of the reply.
//!
//! Source: OpenAPI 3.1, link objects and runtime expressions.

use serde_json::{Map, Value, json};

use crate::matcher::Template;

/// Where a link may lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'w> {
    pub(super) id: &'w str,
    pub(super) path: &'w str,
}

/// Returns the links of an operation at `path` whose reply has these members.
pub(super) fn links(path: &str, members: &[String], ways: &[Way<'_>]) -> Map<String, Value> {
    let mut links = Map::new();
    for way in ways {
        if let Some(parameters) = parameters(path, members, way.path) {
            links.insert(way.id.to_owned(), json!({ "operationId": way.id, "parameters": parameters }));
        }
    }
    links
}

/// Returns what the fields of a path below are, where the request and its reply say that; none where a path is no further
/// down, or wants something else.
fn parameters(path: &str, members: &[String], below: &str) -> Option<Map<String, Value>> {
    let rest = below.strip_prefix(path.trim_end_matches('/'))?.strip_prefix('/')?;
    let (own, further) = (Template::parse(path)?, Template::parse(&format!("/{rest}"))?);
    let known = own.fields().map(|field| (field.to_owned(), format!("$request.path.{field}").into()));
    let mut parameters: Map<String, Value> = known.collect();
    let before = parameters.len();
    for field in further.fields() {
        let member = members.iter().find(|member| *member == field)?;
        parameters.insert(member.clone(), format!("$response.body#/{member}").into());
    }
    (parameters.len() > before).then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(path: &str, members: &[&str], below: &str) -> Option<String> {
        let members: Vec<String> = members.iter().map(|member| (*member).to_owned()).collect();
        parameters(path, &members, below).map(|parameters| Value::Object(parameters).to_string())
    }

    #[test]
    fn a_link_leads_to_what_the_reply_names() {
        let member = r#"{"id":"$response.body#/id"}"#;
        assert_eq!(led("/orders", &["id", "sku"], "/orders/{id}").as_deref(), Some(member));
        assert_eq!(led("/orders", &["id"], "/orders/{id}/cancel").as_deref(), Some(member));
        let both = r#"{"name":"$request.path.name","id":"$response.body#/id"}"#;
        assert_eq!(led("/workflows/{name}", &["id"], "/workflows/{name}/{id}").as_deref(), Some(both));
    }

    #[test]
    fn nothing_is_guessed() {
        for (members, below) in
            [("id", "/orders"), ("id", "/orders/all"), ("id", "/ordersets/{id}"), ("sku", "/orders/{id}")]
        {
            assert_eq!(led("/orders", &[members], below), None, "{below}");
        }
    }
}
