//! What a task gets of a reply: its content, its bytes, or all of it.

use ::http::HeaderMap;
use ::http::header::CONTENT_TYPE;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use sinew_workflow::Fault;

use super::Template;
use super::body::{is_json, is_text, media_type};
use crate::client::Reply;
use crate::failure::Failure;

/// What the output of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The bytes, in base64.
    Raw,
    /// The content, as its media type reads.
    Content,
    /// The request, the status, the headers and the content.
    Response,
}

impl Output {
    /// Reads the word for it.
    pub(crate) fn read(value: Option<&Value>) -> Result<Self, Failure> {
        match value.and_then(Value::as_str) {
            None | Some("content") => Ok(Self::Content),
            Some("raw") => Ok(Self::Raw),
            Some("response") => Ok(Self::Response),
            Some(other) => Err(Failure::configuration(format!(
                "there is no output `{other}`: write `raw`, `content` or `response`"
            ))),
        }
    }

    pub(super) fn of(self, template: &Template, reply: Reply) -> Result<Value, Fault> {
        match self {
            Self::Raw => Ok(Value::String(BASE64.encode(&reply.body))),
            Self::Content => content(&reply),
            Self::Response => {
                let content = content(&reply)?;
                let (uri, headers) = template.shown();
                let request = json!({ "method": template.method.as_str(), "uri": uri, "headers": headers });
                let status = reply.status.as_u16();
                Ok(json!({
                    "request": request, "statusCode": status, "headers": named(&reply.headers), "content": content,
                }))
            }
        }
    }
}

/// Reads the content of a reply by its media type: JSON as what it says, text as text, anything else in base64.
pub(crate) fn content(reply: &Reply) -> Result<Value, Fault> {
    if reply.body.is_empty() {
        return Ok(Value::Null);
    }
    let given = reply.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = given.map(media_type);
    match kind.as_deref() {
        Some(kind) if is_json(kind) => serde_json::from_slice(&reply.body).map_err(|error| {
            Fault::communication(format!("the reply is not the JSON it claims to be: {error}"))
        }),
        Some(kind) if is_text(kind) => Ok(Value::String(text(reply, given))),
        // Whoever says nothing usually means JSON or text.
        None => Ok(serde_json::from_slice(&reply.body).unwrap_or_else(|_| untyped(reply))),
        Some(_) => Ok(Value::String(BASE64.encode(&reply.body))),
    }
}

fn untyped(reply: &Reply) -> Value {
    let text = std::str::from_utf8(&reply.body).map(str::to_owned);
    Value::String(text.unwrap_or_else(|_| BASE64.encode(&reply.body)))
}

fn text(reply: &Reply, content_type: Option<&str>) -> String {
    let parameters = content_type.unwrap_or_default().to_ascii_lowercase();
    let latin = ["charset=iso-8859-1", "charset=\"iso-8859-1\"", "charset=us-ascii"];
    if latin.iter().any(|charset| parameters.contains(charset)) {
        return reply.body.iter().map(|&byte| char::from(byte)).collect();
    }
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// Returns headers by lower case name; what came more than once is joined, as HTTP allows.
fn named(headers: &HeaderMap) -> Map<String, Value> {
    let values = |name| {
        let texts = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        Value::String(texts.collect::<Vec<_>>().join(", "))
    };
    headers.keys().map(|name| (name.to_string(), values(name))).collect()
}
