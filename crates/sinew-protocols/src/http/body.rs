//! Bodies of requests: which bytes stand for a value, and which media type says so.
//!
//! Without a content type of the author's, the body is JSON. With one, a text is sent as it is, and anything else as the
//! type wants it; for types that are not text, the text is base64, the same that `output: raw` gives.

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::Value;
use url::form_urlencoded;

use super::scalar;
use crate::failure::Failure;

const JSON: &str = "application/json";

/// Writes a body, and names the content type to add if the author gave none.
pub(super) fn encode(body: &Value, given: Option<&str>) -> Result<(Bytes, Option<&'static str>), Failure> {
    if body.is_null() {
        return Ok((Bytes::new(), None));
    }
    let Some(given) = given else { return Ok((body.to_string().into(), Some(JSON))) };
    let kind = media_type(given);
    let written = match body {
        Value::String(text) if is_text(&kind) => text.clone().into_bytes(),
        Value::String(text) => BASE64.decode(text.as_bytes()).map_err(|_| {
            Failure::configuration(format!(
                "a body of type `{kind}` is written in base64, and this one is not"
            ))
        })?,
        Value::Object(fields) if kind == "application/x-www-form-urlencoded" => {
            form(fields.iter().map(|(name, value)| (name.as_str(), value))).into_bytes()
        }
        _ if is_text(&kind) && !kind.starts_with("multipart/") => body.to_string().into_bytes(),
        _ => {
            let detail =
                format!("an object cannot be sent as `{kind}`: write the body as a text, or send JSON");
            return Err(Failure::configuration(detail));
        }
    };
    Ok((written.into(), None))
}

/// Writes fields as a form; a list repeats its field.
pub(crate) fn form<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(values) => values.iter().for_each(|value| {
                form.append_pair(name, &scalar(value));
            }),
            value => {
                form.append_pair(name, &scalar(value));
            }
        }
    }
    form.finish()
}

/// Returns a content type without its parameters, in lower case.
pub(crate) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Tells whether a media type is JSON.
pub(crate) fn is_json(kind: &str) -> bool {
    kind == JSON || kind.ends_with("+json") || kind == "text/json"
}

/// Tells whether what has a media type is text.
pub(crate) fn is_text(kind: &str) -> bool {
    const SUBTYPES: [&str; 8] =
        ["xml", "yaml", "x-yaml", "javascript", "x-www-form-urlencoded", "graphql", "sql", "toml"];
    let (family, subtype) = kind.split_once('/').unwrap_or((kind, ""));
    let suffix = subtype.rsplit_once('+').map_or("", |(_, suffix)| suffix);
    is_json(kind)
        || matches!(family, "text" | "multipart")
        || matches!(suffix, "xml" | "yaml")
        || subtype.ends_with("ndjson")
        || family == "application" && SUBTYPES.contains(&subtype)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoded(body: Value, kind: Option<&str>) -> (String, Option<&'static str>) {
        let (bytes, added) = encode(&body, kind).unwrap();
        (String::from_utf8(bytes.to_vec()).unwrap(), added)
    }

    #[test]
    fn without_a_type_everything_is_json() {
        assert_eq!(encoded(json!({ "a": 1 }), None), (r#"{"a":1}"#.to_owned(), Some(JSON)));
        assert_eq!(encoded(json!("text"), None), (r#""text""#.to_owned(), Some(JSON)));
        assert_eq!(encoded(Value::Null, None), (String::new(), None));
    }

    #[test]
    fn with_a_type_a_text_is_itself_and_the_rest_follows_the_type() {
        assert_eq!(encoded(json!("<a/>"), Some("application/xml")).0, "<a/>");
        assert_eq!(encoded(json!(r#"{"a":1}"#), Some("application/json")).0, r#"{"a":1}"#);
        assert_eq!(
            encoded(json!({ "a": [1, "b c"] }), Some("application/x-www-form-urlencoded; charset=utf-8")).0,
            "a=1&a=b+c"
        );
        assert_eq!(encoded(json!("aGk="), Some("application/octet-stream")).0, "hi");
    }

    #[test]
    fn what_a_type_cannot_hold_is_refused() {
        for (body, kind) in
            [(json!("hi!"), "image/png"), (json!({}), "image/png"), (json!({}), "multipart/form-data")]
        {
            assert_eq!(encode(&body, Some(kind)).unwrap_err().fault.kind(), "configuration", "{body} {kind}");
        }
    }
}
