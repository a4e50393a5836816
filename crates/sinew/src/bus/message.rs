//! A message as it came, and the way out for one. Turns our checked headers into the library's and back.

use std::sync::Arc;

use async_nats::{
    Client,
    client::PublishErrorKind,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use bytes::Bytes;
use sinew_wire::{CodecError, ContentType, Headers, TraceContext, header};

use crate::{Error, Kind};

/// A message from the bus; clones share it.
#[derive(Clone, Debug)]
pub struct Message(Arc<async_nats::Message>);

impl Message {
    pub(super) fn new(inner: async_nats::Message) -> Self {
        Self(Arc::new(inner))
    }

    /// Returns the subject it came on.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns where an answer is expected.
    pub fn reply_to(&self) -> Option<&str> {
        self.0.reply.as_deref()
    }

    /// Returns the payload as it came.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// Returns the value of a header; case is ignored, as other senders spell names their own way.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.0.headers.as_ref()?;
        let same = |own: &HeaderName| AsRef::<str>::as_ref(own).eq_ignore_ascii_case(name);
        let (_, values) = headers.iter().find(|(own, _)| same(own))?;
        values.first().map(HeaderValue::as_str)
    }

    /// Returns all headers that can be sent on; what cannot is left out.
    pub fn headers(&self) -> Headers {
        self.0.headers.as_ref().map(checked).unwrap_or_default()
    }

    /// Returns the codec of the payload.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`] for a media type Sinew does not read.
    pub fn content_type(&self) -> Result<ContentType, CodecError> {
        ContentType::of(self.header(header::CONTENT_TYPE))
    }

    /// Returns the sender's trace context, if it sent a valid one.
    pub fn trace(&self) -> Option<TraceContext> {
        self.header(header::TRACEPARENT)?.parse().ok()
    }

    /// Returns the server's inline status, such as 503 where nobody serves a subject.
    pub fn status(&self) -> Option<u16> {
        self.0.status.map(|status| status.as_u16())
    }

    /// Returns the length of the payload.
    pub fn len(&self) -> usize {
        self.0.payload.len()
    }

    /// Says whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.0.payload.is_empty()
    }
}

/// Hands one message to the library's connection task.
///
/// [`Kind::Closed`] means that the task is gone.
pub(super) async fn send(
    client: &Client,
    subject: &str,
    reply: Option<String>,
    headers: &Headers,
    payload: Bytes,
) -> Result<(), Error> {
    let headers = if headers.is_empty() { None } else { Some(convert(headers)?) };
    let subject = subject.to_owned();
    let sent = match (reply, headers) {
        (Some(reply), Some(headers)) => {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        }
        (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
        (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
        (None, None) => client.publish(subject, payload).await,
    };
    sent.map_err(|error| match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => {
            let limit = client.max_payload();
            Error::new(
                Kind::TooLarge,
                format!("the message is larger than the server's limit of {limit} bytes"),
            )
        }
        PublishErrorKind::InvalidSubject => Error::new(Kind::Config, "the subject cannot be published to"),
        PublishErrorKind::Send => Error::closed(),
    })
}

pub(super) fn checked(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, values) in map.iter() {
        if let Some(value) = values.first() {
            let _ = headers.set(AsRef::<str>::as_ref(name).to_owned(), value.as_str());
        }
    }
    headers
}

fn convert(headers: &Headers) -> Result<HeaderMap, Error> {
    let refused = |name: &str| Error::new(Kind::Codec, format!("header {name} cannot be sent"));
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let key: HeaderName = name.parse().map_err(|_| refused(name))?;
        let value: HeaderValue = value.parse().map_err(|_| refused(name))?;
        // Both are parsed already, so this is the fallible way and cannot panic.
        #[expect(clippy::disallowed_methods, reason = "typed values, checked above")]
        map.insert(key, value);
    }
    Ok(map)
}
