//! HTTP bindings: `METHOD /path/{field}`. Knows how a template looks, not which fields there are.

use syn::LitStr;

/// A method and a path template whose `{field}`s are whole segments.
#[derive(Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Vec<String>,
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

impl Route {
    /// Reads `METHOD /path`.
    pub(crate) fn read(literal: &LitStr) -> syn::Result<Self> {
        let text = literal.value();
        route(&text).map_err(|reason| syn::Error::new(literal.span(), reason))
    }

    /// Says whether requests of this method carry a body.
    pub(crate) fn has_body(&self) -> bool {
        self.method != "GET"
    }
}

fn route(text: &str) -> Result<Route, String> {
    let Some((method, path)) = text.split_once(' ') else {
        return Err(format!(
            "{text:?} is no HTTP binding: write a method and a path, such as \"POST /orders\""
        ));
    };
    if !METHODS.contains(&method) {
        return Err(format!("unknown HTTP method {method:?}: use one of {}", METHODS.join(", ")));
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Err(format!("the path {path:?} has to start with '/'"));
    };
    let plain =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\' | b'"' | b'<' | b'>');
    if !path.bytes().all(plain) {
        return Err(
            "a path holds no spaces, query or fragment: other fields are taken from query and body".into()
        );
    }
    let mut fields = Vec::new();
    for segment in segments.split('/') {
        let Some(field) = field_of(segment)? else { continue };
        if fields.iter().any(|other| other == field) {
            return Err(format!("`{{{field}}}` stands twice in the path: name each field once"));
        }
        fields.push(field.to_owned());
    }
    Ok(Route { method: method.to_owned(), path: path.to_owned(), fields })
}

fn field_of(segment: &str) -> Result<Option<&str>, String> {
    let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(field) if !field.is_empty() && !field.contains(['{', '}', '*']) => Ok(Some(field)),
        None if !segment.contains(['{', '}']) => Ok(None),
        _ => Err(format!(
            "{segment:?} is no path segment: write plain text or one `{{field}}` between slashes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_template_are_found_in_order() {
        let read = route("PUT /orders/{order}/lines/{line}").unwrap();
        assert_eq!((read.method.as_str(), read.fields.join(",")), ("PUT", "order,line".into()));
        assert!(route("GET /").unwrap().fields.is_empty());
    }

    #[test]
    fn every_mistake_in_a_binding_is_named() {
        for (text, expected) in [
            ("/orders", "write a method and a path"),
            ("post /orders", "use one of GET, POST"),
            ("POST orders", "has to start with '/'"),
            ("GET  /orders", "has to start with '/'"),
            ("GET /orders?id={id}", "no spaces, query"),
            ("GET /a b", "no spaces"),
            ("GET /{id", "no path segment"),
            ("GET /{}", "no path segment"),
            ("GET /{*rest}", "no path segment"),
            ("GET /{id}.json", "no path segment"),
            ("GET /{id}/{id}", "stands twice"),
        ] {
            let message = route(text).unwrap_err();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
    }
}
