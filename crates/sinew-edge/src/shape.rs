//! How a reply becomes a response: status, header fields from its members, and which part of it is the body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use sinew::wire::{ContentType, decode, encode};

use crate::{
    Body, Response,
    config::{Mistake, Reply, below},
    operation::success,
    problem::{self, Refusal},
};

/// What a route does to replies. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) status: Option<StatusCode>,
    headers: Vec<(HeaderName, Vec<Piece>)>,
    body: Option<String>,
}

/// A piece of a header field's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Pointer(String),
}

impl Shape {
    /// Reads what a route says.
    pub(crate) fn read(reply: &Reply, at: &str, mistakes: &mut Vec<Mistake>) -> Self {
        let status = reply.status.and_then(success);
        if reply.status.is_some() && status.is_none() {
            let message = "is no status of a success: use 200 to 399; failures have statuses of their own";
            mistakes.push(Mistake::new(below(at, "status"), message));
        }
        let mut headers = Vec::new();
        for (name, text) in &reply.headers {
            match (HeaderName::try_from(name.as_str()), pieces(text)) {
                (Ok(name), Some(pieces)) => headers.push((name, pieces)),
                (Ok(_), None) => {
                    let message = "write text, with {/pointer} where a member of the reply belongs";
                    mistakes.push(Mistake::new(below(&below(at, "headers"), name), message));
                }
                (Err(_), _) => {
                    let message = "is no name of a header field";
                    mistakes.push(Mistake::new(below(&below(at, "headers"), name), message));
                }
            }
        }
        if reply.body.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            mistakes.push(Mistake::new(below(at, "body"), "is no JSON pointer: it begins with a slash"));
        }
        Self { status, headers, body: reply.body.clone() }
    }

    /// Says whether replies pass as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.status.is_none() && self.headers.is_empty() && self.body.is_none()
    }

    /// Writes what it does as a person would.
    pub(crate) fn lines(&self) -> Vec<String> {
        let status = self.status.iter().map(|status| format!("status {}", status.as_u16()));
        let headers = self.headers.iter().map(|(name, _)| format!("header {name} of the reply"));
        let body = self.body.iter().map(|pointer| format!("body is {pointer} of the reply"));
        status.chain(headers).chain(body).collect()
    }

    /// Applies it to a response whose body is in `codec`.
    ///
    /// # Errors
    /// 502 when the reply has no such part.
    pub(crate) fn apply(
        &self,
        mut response: Response,
        bytes: &Bytes,
        codec: ContentType,
    ) -> Result<Response, Refusal> {
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        if self.headers.is_empty() && self.body.is_none() {
            return Ok(response);
        }
        let unreadable = |_| Refusal::from(problem::malformed_reply());
        let reply: Value = decode(codec, bytes).map_err(unreadable)?;
        for (name, pieces) in &self.headers {
            if let Some(value) = written(pieces, &reply) {
                response.headers_mut().insert(name.clone(), value);
            }
        }
        if let Some(pointer) = &self.body {
            let part = reply.pointer(pointer).unwrap_or(&Value::Null);
            *response.body_mut() = Body::from(encode(codec, part).map_err(unreadable)?);
        }
        Ok(response)
    }
}

/// A field whose member the reply does not have is left out, and so is one that no header field can hold.
fn written(pieces: &[Piece], reply: &Value) -> Option<HeaderValue> {
    HeaderValue::try_from(filled(pieces, reply)?).ok()
}

/// Writes a text with members of a document; `None` where it does not have one of them.
pub(crate) fn text(text: &str, document: &Value) -> Option<String> {
    filled(&pieces(text)?, document)
}

fn filled(pieces: &[Piece], reply: &Value) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(own) => text.push_str(own),
            Piece::Pointer(pointer) => match reply.pointer(pointer)? {
                Value::Null => return None,
                Value::String(own) => text.push_str(own),
                other => text.push_str(&other.to_string()),
            },
        }
    }
    Some(text)
}

pub(crate) fn pieces(text: &str) -> Option<Vec<Piece>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (pointer, behind) = after.split_once('}')?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return None;
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Pointer(pointer.to_owned()));
        rest = behind;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    let ends = rest.contains('}') || HeaderValue::try_from(text).is_err();
    (!ends).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_of_a_reply_become_header_fields() {
        let reply = json!({ "id": "o-1", "total": 3, "note": null });
        let value = |text: &str| written(&pieces(text).unwrap(), &reply);
        assert_eq!(value("/orders/{/id}").unwrap(), "/orders/o-1");
        assert_eq!(value("{/total}").unwrap(), "3");
        assert_eq!(value("no-store").unwrap(), "no-store");
        assert_eq!((value("{/note}"), value("{/nothing}")), (None, None));
        for wrong in ["{id}", "{/id", "}", "a\nb"] {
            assert_eq!(pieces(wrong), None, "{wrong:?}");
        }
    }
}
