//! Parameters of an operation: where each goes, and how it is written there.
//!
//! Serialization follows `style` and `explode` of OpenAPI 3 and `collectionFormat` of Swagger 2.0, as far as JSON values
//! have a form there.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{Operation, resolved};
use crate::failure::Failure;
use crate::http::{self, scalar};

/// What may stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The name the body goes by, beside the names of its own members.
const BODY: &str = "body";

/// The parameters an operation declares.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    operation: Operation<'a>,
    declared: Vec<&'a Value>,
    /// The content type of the body, if the operation takes one, and whether it must have one.
    body: Option<(String, bool)>,
    /// Names the members of the body, where its schema does.
    members: Vec<&'a str>,
}

/// A request's parts, as the parameters fill them.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Each is written for a path already.
    pub(super) path: Vec<(String, String)>,
    pub(super) query: Vec<(String, Value)>,
    pub(super) headers: Vec<(String, Value)>,
    pub(super) body: Value,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(operation: &Operation<'a>) -> Result<Self, Failure> {
        let document = operation.document;
        let mut declared: Vec<&Value> = Vec::new();
        for level in [operation.item, operation.definition] {
            for parameter in level.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                let parameter = resolved(document, parameter);
                // What the operation says replaces what its path says.
                declared.retain(|other| identity(other) != identity(parameter));
                declared.push(parameter);
            }
        }
        let (body, schema) = body_of(operation, &declared);
        let schema = schema.map(|schema| resolved(document, schema));
        let members = schema.and_then(|schema| schema.get("properties")?.as_object());
        let members = members.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        Ok(Self { operation: *operation, declared, body, members })
    }

    /// Puts the given values where they belong.
    pub(super) fn fill(&self, given: &Value) -> Result<Filled, Failure> {
        let none = Map::new();
        let given = match given {
            Value::Null => &none,
            Value::Object(given) => given,
            _ => return Err(Failure::configuration("`parameters` is not an object: write names and values")),
        };
        let mut filled = Filled::default();
        let mut used = Vec::new();
        let (mut cookies, mut fields) = (Vec::new(), Map::new());
        for parameter in &self.declared {
            let (name, place) = identity(parameter);
            if place == BODY {
                continue;
            }
            used.push(name);
            let Some(value) = given.get(name).filter(|value| !value.is_null()) else {
                self.check_required(parameter, name, place)?;
                continue;
            };
            match place {
                "path" => filled.path.push((name.to_owned(), in_path(parameter, value))),
                "query" => filled.query.extend(in_query(parameter, name, value)),
                "header" => filled.headers.push((name.to_owned(), Value::String(listed(value, ",")))),
                "cookie" => cookies.push(format!("{name}={}", listed(value, ","))),
                "formData" => {
                    fields.insert(name.to_owned(), value.clone());
                }
                _ => {}
            }
        }
        if !cookies.is_empty() {
            filled.headers.push(("cookie".to_owned(), Value::String(cookies.join("; "))));
        }
        let rest = given.iter().filter(|(name, _)| !used.contains(&name.as_str()));
        let rest: Map<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.fill_body(rest, fields, &mut filled)?;
        Ok(filled)
    }

    /// The body is what is called `body`, or else what is left over: the members of an object.
    fn fill_body(
        &self,
        rest: Map<String, Value>,
        fields: Map<String, Value>,
        filled: &mut Filled,
    ) -> Result<(), Failure> {
        let Some((kind, required)) = &self.body else {
            return match rest.keys().next() {
                Some(name) => Err(self.unknown(name)),
                None => Ok(()),
            };
        };
        let named = self
            .body_names()
            .into_iter()
            .find(|&name| rest.contains_key(name) && !self.members.contains(&name));
        let body = match named {
            Some(name) if rest.len() == 1 => rest.get(name).cloned().unwrap_or_default(),
            Some(name) => {
                let other = rest.keys().find(|other| *other != name).cloned().unwrap_or_default();
                return Err(self.unknown(&other));
            }
            None if !fields.is_empty() => Value::Object(fields.into_iter().chain(rest).collect()),
            None if rest.is_empty() && *required => return Err(self.missing(BODY)),
            None if rest.is_empty() => Value::Null,
            None => Value::Object(rest),
        };
        if body.is_null() {
            return Ok(());
        }
        filled.body = body;
        // Without a content type a body is plain JSON; with one, a text is sent as it is, which JSON does not want.
        if kind != "application/json" {
            filled.headers.push(("content-type".to_owned(), Value::String(kind.clone())));
            if let Value::String(text) = &filled.body
                && http::is_json(kind)
            {
                filled.body = Value::String(Value::String(text.clone()).to_string());
            }
        }
        Ok(())
    }

    /// Returns what the body may be called: Swagger 2.0 gives it a name.
    fn body_names(&self) -> Vec<&'a str> {
        let named = self.declared.iter().map(|parameter| identity(parameter));
        let named = named.filter(|&(_, place)| place == BODY).map(|(name, _)| name);
        named.chain([BODY]).collect()
    }

    fn check_required(&self, parameter: &Value, name: &str, place: &str) -> Result<(), Failure> {
        let required =
            place == "path" || parameter.get("required").and_then(Value::as_bool).unwrap_or_default();
        if required { Err(self.missing(name)) } else { Ok(()) }
    }

    fn missing(&self, name: &str) -> Failure {
        let id = self.operation.id().unwrap_or_default();
        Failure::configuration(format!("`{id}` needs the parameter `{name}`: give it in `parameters`"))
    }

    fn unknown(&self, name: &str) -> Failure {
        let id = self.operation.id().unwrap_or_default();
        let names: Vec<_> =
            self.declared.iter().map(|parameter| format!("`{}`", identity(parameter).0)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::configuration(format!("`{id}` has no parameter `{name}`: it takes {names}"))
    }
}

/// A parameter's name and place; together they tell it from others.
fn identity(parameter: &Value) -> (&str, &str) {
    let text = |name: &str| parameter.get(name).and_then(Value::as_str).unwrap_or_default();
    (text("name"), text("in"))
}

/// Finds the content type of the body, whether it is required, and the body's schema.
fn body_of<'a>(
    operation: &Operation<'a>,
    declared: &[&'a Value],
) -> (Option<(String, bool)>, Option<&'a Value>) {
    let required = |value: &Value| value.get("required").and_then(Value::as_bool).unwrap_or_default();
    if let Some(body) = operation.definition.get("requestBody") {
        let body = resolved(operation.document, body);
        let content = body.get("content").and_then(Value::as_object);
        let kinds = || content.into_iter().flatten();
        let json = kinds().find(|(kind, _)| http::is_json(&http::media_type(kind)));
        let form = || kinds().find(|(kind, _)| kind.contains("x-www-form-urlencoded"));
        return match json.or_else(form).or_else(|| kinds().next()) {
            Some((kind, content)) => (Some((kind.clone(), required(body))), content.get("schema")),
            None => (None, None),
        };
    }
    let in_body = declared.iter().find(|parameter| identity(parameter).1 == BODY);
    if let Some(parameter) = in_body {
        return (
            Some((consumed(operation, "application/json"), required(parameter))),
            parameter.get("schema"),
        );
    }
    let fields = declared.iter().any(|parameter| identity(parameter).1 == "formData");
    (fields.then(|| ("application/x-www-form-urlencoded".to_owned(), false)), None)
}

/// Returns the content type Swagger 2.0 asks for: the preferred one, if it is among them.
fn consumed(operation: &Operation<'_>, preferred: &str) -> String {
    let levels = [operation.definition, operation.document];
    let kinds = levels.into_iter().find_map(|level| level.get("consumes")?.as_array());
    let kinds: Vec<_> = kinds.into_iter().flatten().filter_map(Value::as_str).collect();
    match kinds.first() {
        Some(first) if !kinds.contains(&preferred) => (*first).to_owned(),
        _ => preferred.to_owned(),
    }
}

fn in_path(parameter: &Value, value: &Value) -> String {
    let style = parameter.get("style").and_then(Value::as_str).unwrap_or("simple");
    let explode = parameter.get("explode").and_then(Value::as_bool).unwrap_or_default();
    let name = identity(parameter).0;
    match (style, explode) {
        ("label", true) => format!(".{}", encoded(value, ".")),
        ("label", false) => format!(".{}", encoded(value, ",")),
        ("matrix", true) if value.is_array() => {
            let items = value.as_array().into_iter().flatten();
            items.map(|item| format!(";{name}={}", encoded(item, ","))).collect()
        }
        ("matrix", _) => format!(";{name}={}", encoded(value, ",")),
        _ => encoded(value, ","),
    }
}

fn in_query(parameter: &Value, name: &str, value: &Value) -> Vec<(String, Value)> {
    let text = |key: &str| parameter.get(key).and_then(Value::as_str);
    let style = text("style").unwrap_or("form");
    // Swagger 2.0 lists with commas unless it says `multi`; OpenAPI 3 repeats unless it says otherwise.
    let is_version_2 = parameter.get("schema").is_none() && parameter.get("type").is_some();
    let repeated = match text("collectionFormat") {
        Some(format) => format == "multi",
        None => parameter.get("explode").and_then(Value::as_bool).unwrap_or(style == "form" && !is_version_2),
    };
    let separator = match (text("collectionFormat"), style) {
        (Some("ssv"), _) | (_, "spaceDelimited") => " ",
        (Some("tsv"), _) => "\t",
        (Some("pipes"), _) | (_, "pipeDelimited") => "|",
        _ => ",",
    };
    match value {
        Value::Array(_) if repeated => vec![(name.to_owned(), value.clone())],
        Value::Object(members) if style == "deepObject" => {
            members.iter().map(|(key, value)| (format!("{name}[{key}]"), value.clone())).collect()
        }
        Value::Object(members) if repeated => members.clone().into_iter().collect(),
        value => vec![(name.to_owned(), Value::String(listed(value, separator)))],
    }
}

/// Writes a value as a text; lists and objects with a separator between their parts.
fn listed(value: &Value, separator: &str) -> String {
    match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(separator),
        Value::Object(members) => {
            let parts = members.iter().flat_map(|(name, value)| [name.clone(), scalar(value)]);
            parts.collect::<Vec<_>>().join(separator)
        }
        value => scalar(value),
    }
}

/// Like [`listed`], for a path: what a value holds never changes the path's structure.
///
/// Placeholders of secrets are left for the one who reveals them, who encodes their values alike.
fn encoded(value: &Value, separator: &str) -> String {
    let encode = |text: &str| {
        if text.contains('\u{E000}') {
            text.to_owned()
        } else {
            utf8_percent_encode(text, SEGMENT).to_string()
        }
    };
    match value {
        Value::Array(items) => {
            items.iter().map(|item| encode(&scalar(item))).collect::<Vec<_>>().join(separator)
        }
        Value::Object(members) => {
            let parts = members.iter().flat_map(|(name, value)| [encode(name), encode(&scalar(value))]);
            parts.collect::<Vec<_>>().join(separator)
        }
        value => encode(&scalar(value)),
    }
}
