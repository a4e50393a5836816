//! Payload codecs: MessagePack between Sinew services, JSON for everybody else.
//!
//! MessagePack is written with named maps and in serde's human-readable mode. Positional arrays would break rolling
//! deploys, because an old reader fails on an appended optional field; compact mode would change the shape of types
//! such as `IpAddr` and `Uuid` between the two codecs.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Deeper nesting than this is refused while decoding, so that hostile input cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Bytes a message is first given room for: most fit, and growing copies.
const ROOM: usize = 768;

/// The media type of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// `application/msgpack`.
    MessagePack,
    /// `application/json`, also what an absent header means.
    #[default]
    Json,
}

/// Says which side of a codec failed. The text names the place in the data, never the data.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A value cannot be written, for example a map with compound keys in JSON.
    #[error("cannot encode as {what}: {1}", what = .0.as_str())]
    Encode(ContentType, String),
    /// The bytes are not the expected type, or not the format at all.
    #[error("cannot decode {what}: {1}", what = .0.as_str())]
    Decode(ContentType, String),
    /// The media type is neither MessagePack nor JSON.
    #[error("media type {0:?} is not supported: send application/msgpack or application/json")]
    UnknownType(String),
}

impl ContentType {
    /// Returns the media type as it stands in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessagePack => "application/msgpack",
            Self::Json => "application/json",
        }
    }

    /// Reads a `content-type` header; parameters such as `charset` are ignored.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`] for any other media type.
    pub fn parse(text: &str) -> Result<Self, CodecError> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/msgpack") || is("application/x-msgpack") || is("application/vnd.msgpack") {
            return Ok(Self::MessagePack);
        }
        let suffix = essence.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
        if is("application/json") || is("text/json") || suffix {
            return Ok(Self::Json);
        }
        Err(CodecError::UnknownType(essence.chars().take(80).collect()))
    }

    /// Reads the header's value if there is one; absent means JSON.
    ///
    /// # Errors
    /// As [`ContentType::parse`].
    pub fn of(header: Option<&str>) -> Result<Self, CodecError> {
        header.map_or(Ok(Self::Json), Self::parse)
    }
}

/// Encodes `value`.
///
/// # Errors
/// [`CodecError::Encode`] when the format cannot hold the value.
pub fn encode<T: Serialize + ?Sized>(content_type: ContentType, value: &T) -> Result<Bytes, CodecError> {
    let mut buffer = Vec::with_capacity(ROOM);
    let written = match content_type {
        ContentType::MessagePack => value.serialize(&mut packer(&mut buffer)).map_err(|e| e.to_string()),
        ContentType::Json => serde_json::to_writer(&mut buffer, value).map_err(|e| e.to_string()),
    };
    written.map_err(|reason| CodecError::Encode(content_type, reason))?;
    Ok(buffer.into())
}

/// Decodes the whole of `bytes`; an empty JSON payload reads as `null`, as a NATS client without a body sends it.
///
/// # Errors
/// [`CodecError::Decode`] for malformed input, another shape, or bytes left over.
pub fn decode<T: DeserializeOwned>(content_type: ContentType, bytes: &[u8]) -> Result<T, CodecError> {
    let read = match content_type {
        ContentType::MessagePack => unpack(bytes),
        ContentType::Json if bytes.is_empty() => serde_json::from_slice(b"null").map_err(|e| e.to_string()),
        ContentType::Json => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
    };
    read.map_err(|reason| CodecError::Decode(content_type, reason))
}

/// Rewrites a payload from one format to the other, streaming: no tree is built in between.
///
/// # Errors
/// [`CodecError::Decode`] for malformed input; also when the target cannot hold what was read.
pub fn transcode(from: ContentType, to: ContentType, bytes: &[u8]) -> Result<Bytes, CodecError> {
    let mut buffer = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    let fail = |reason: String| CodecError::Decode(from, reason);
    match from {
        ContentType::MessagePack => {
            let mut rest = bytes;
            let mut reader = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
            reader.set_max_depth(MAX_DEPTH);
            write_from(&mut reader, to, &mut buffer).map_err(fail)?;
            if !rest.is_empty() {
                return Err(fail("unexpected bytes after the value".into()));
            }
        }
        ContentType::Json => {
            let mut reader =
                serde_json::Deserializer::from_slice(if bytes.is_empty() { b"null" } else { bytes });
            write_from(&mut reader, to, &mut buffer).map_err(fail)?;
            reader.end().map_err(|e| fail(e.to_string()))?;
        }
    }
    Ok(buffer.into())
}

fn write_from<'de, D: serde::Deserializer<'de>>(
    reader: D,
    to: ContentType,
    buffer: &mut Vec<u8>,
) -> Result<(), String> {
    match to {
        ContentType::MessagePack => {
            serde_transcode::transcode(reader, &mut packer(buffer)).map_err(|e| e.to_string())
        }
        ContentType::Json => serde_transcode::transcode(reader, &mut serde_json::Serializer::new(buffer))
            .map_err(|e| e.to_string()),
    }
}

type Packer<'a> = rmp_serde::Serializer<
    &'a mut Vec<u8>,
    rmp_serde::config::HumanReadableConfig<
        rmp_serde::config::StructMapConfig<rmp_serde::config::DefaultConfig>,
    >,
>;

fn packer(buffer: &mut Vec<u8>) -> Packer<'_> {
    rmp_serde::Serializer::new(buffer).with_struct_map().with_human_readable()
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // Texts are taken from the slice as they stand; as any other reader it would copy each into a buffer first.
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    reader.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut reader).map_err(|e| e.to_string())?;
    // It does not tell where it stands, but only at the end is there no marker for one more value.
    match <bool as serde::Deserialize>::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err("unexpected bytes after the value".into()),
    }
}

#[cfg(test)]
mod tests;
