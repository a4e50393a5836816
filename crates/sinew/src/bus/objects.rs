//! Objects: values too large for a message, in pieces on a stream, as every NATS client stores them (ADR-20).
//!
//! Whoever stores one chooses its id and keeps the [`Object`]: reading needs nothing else, and shows whether it is whole.

mod named;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64URL, HEXLOWER};
use futures::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sinew_wire::Headers;

pub use named::{Expect, Named, Pieces};

use super::Bus;
use crate::{Error, Kind};

/// Bytes of a piece.
const PIECE: usize = 128 * 1024;
/// Pieces on their way at once.
const AHEAD: usize = 8;
const STORE: Duration = Duration::from_secs(10);

/// A bucket of objects.
#[derive(Clone)]
pub struct Objects {
    bus: Bus,
    bucket: String,
}

/// What is known of a stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// Tells whoever reads the schema that these are the bytes of a file, which a form may carry in its place.
#[schemars(extend("x-sinew-object" = true))]
pub struct Object {
    /// Its id in the bucket: letters, digits, `-` and `_`.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as 64 hexadecimal digits.
    pub digest: String,
}

impl Object {
    /// Describes a value that is, or will be, stored under `id`.
    pub fn of(id: impl Into<String>, value: &[u8]) -> Self {
        let digest = HEXLOWER.encode(&Sha256::digest(value));
        Self { id: id.into(), size: value.len() as u64, digest }
    }

    /// Says whether the id can be one: whoever sends it may write anything, and in a subject `>` would mean all of them.
    fn is_named(&self) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !self.id.is_empty() && self.id.bytes().all(allowed)
    }

    fn is(&self, value: &[u8]) -> bool {
        value.len() as u64 == self.size && HEXLOWER.encode(&Sha256::digest(value)) == self.digest
    }
}

impl Bus {
    /// Opens a bucket of objects, creating it where it does not stand.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses.
    pub async fn objects(&self, bucket: &str, replicas: usize) -> Result<Objects, Error> {
        self.objects_for(bucket, replicas, Duration::ZERO).await
    }

    /// As [`Bus::objects`], of values that are forgotten at this age; zero keeps them.
    ///
    /// # Errors
    /// As [`Bus::objects`].
    pub async fn objects_for(
        &self,
        bucket: &str,
        replicas: usize,
        max_age: Duration,
    ) -> Result<Objects, Error> {
        let stream = format!("OBJ_{bucket}");
        let config = json!({
            "name": stream,
            "subjects": [format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "num_replicas": replicas.max(1),
            "max_age": u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX),
            "allow_direct": true,
            "allow_rollup_hdrs": true,
        });
        let made = self.ensure_raw_stream(&stream, &config).await;
        made.map_err(|error| error.during(&format!("cannot create object bucket {bucket}")))?;
        Ok(self.known_objects(bucket))
    }

    /// As [`Bus::objects`], of a bucket that stands.
    pub fn known_objects(&self, bucket: &str) -> Objects {
        Objects { bus: self.clone(), bucket: bucket.to_owned() }
    }
}

impl Objects {
    /// Stores a value; returns when all of it is stored. Storing the same again is harmless.
    ///
    /// # Errors
    /// [`Kind::TimedOut`](crate::Kind::TimedOut) or [`Kind::Disconnected`](crate::Kind::Disconnected) when it may be stored in part: storing it again mends that.
    /// [`Kind::Config`](crate::Kind::Config) for an id of other letters.
    pub async fn put(&self, object: &Object, value: &Bytes) -> Result<(), Error> {
        if !object.is_named() {
            return Err(Error::new(Kind::Config, "an object's id has letters, digits, - and _"));
        }
        // What an attempt before left would stand in front of this one.
        self.bus.purge_subject(&self.stream(), &self.pieces(object)).await?;
        let (headers, subject) = (Headers::new(), self.pieces(object));
        let pieces = (0..value.len()).step_by(PIECE).map(|at| value.slice(at..value.len().min(at + PIECE)));
        let count = value.len().div_ceil(PIECE);
        let stored = pieces.map(|piece| self.bus.publish_acked(&subject, &headers, piece, STORE));
        // Begun in their order, on one connection: so they stand in it.
        stream::iter(stored).buffered(AHEAD).try_for_each(|_| async { Ok(()) }).await?;
        let mut rollup = Headers::new();
        rollup.set("Nats-Rollup", "sub")?;
        let info = Bytes::from(self.info(object, count).to_string());
        self.bus.publish_acked(&self.meta(object), &rollup, info, STORE).await.map(drop)
    }

    /// Reads a value; `None` where it does not stand, or not whole.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn get(&self, object: &Object) -> Result<Option<Bytes>, Error> {
        if !object.is_named() {
            return Ok(None);
        }
        let mut reader = self.bus.read_stream(&self.stream(), &self.pieces(object), 1).await?;
        let mut value = BytesMut::new();
        loop {
            let batch = reader.batch().await?;
            if batch.is_empty() {
                return Ok(Some(value.freeze()).filter(|value| object.is(value)));
            }
            batch.iter().for_each(|piece| value.extend_from_slice(&piece.payload));
        }
    }

    /// Forgets a value. What cannot be one's id is nobody's, so there is nothing to forget.
    ///
    /// # Errors
    /// [`Kind::JetStream`](crate::Kind::JetStream) when the server refuses, [`Kind::TimedOut`](crate::Kind::TimedOut) when
    /// it is unknown whether it is forgotten.
    pub async fn delete(&self, object: &Object) -> Result<(), Error> {
        if !object.is_named() {
            return Ok(());
        }
        for subject in [self.meta(object), self.pieces(object)] {
            self.bus.purge_subject(&self.stream(), &subject).await?;
        }
        Ok(())
    }

    /// Lists what stands here.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn list(&self) -> Result<Vec<Object>, Error> {
        let filter = format!("$O.{}.M.>", self.bucket);
        let mut reader = self.bus.read_stream(&self.stream(), &filter, 1).await?;
        let mut found = Vec::new();
        loop {
            let batch = reader.batch().await?;
            if batch.is_empty() {
                return Ok(found);
            }
            // What others stored in their own way is not ours to read.
            found.extend(batch.iter().filter_map(|one| described(&one.payload)));
        }
    }

    fn info(&self, object: &Object, pieces: usize) -> serde_json::Value {
        let digest = HEXLOWER.decode(object.digest.as_bytes()).unwrap_or_default();
        json!({
            "name": object.id,
            "bucket": self.bucket,
            "nuid": object.id,
            "size": object.size,
            "chunks": pieces,
            "digest": format!("SHA-256={}", BASE64URL.encode(&digest)),
            "options": { "max_chunk_size": PIECE },
        })
    }

    fn stream(&self) -> String {
        format!("OBJ_{}", self.bucket)
    }

    fn pieces(&self, object: &Object) -> String {
        format!("$O.{}.C.{}", self.bucket, object.id)
    }

    fn meta(&self, object: &Object) -> String {
        format!("$O.{}.M.{}", self.bucket, BASE64URL.encode(object.id.as_bytes()))
    }
}

/// Reads what stands about an object.
fn described(info: &[u8]) -> Option<Object> {
    #[derive(Deserialize)]
    struct Info {
        nuid: String,
        size: u64,
        digest: String,
    }
    let Info { nuid, size, digest } = serde_json::from_slice(info).ok()?;
    let digest = BASE64URL.decode(digest.strip_prefix("SHA-256=")?.as_bytes()).ok()?;
    Some(Object { id: nuid, size, digest: HEXLOWER.encode(&digest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_recognised_by_its_size_and_digest() {
        let object = Object::of("a-1", b"whole");
        assert!(object.is(b"whole"));
        assert!(!object.is(b"whale") && !object.is(b"whol") && !object.is(b""));
    }

    #[test]
    fn what_is_said_of_an_object_is_read_back() {
        let object = Object::of("a-1", b"whole");
        let digest = BASE64URL.encode(&Sha256::digest(b"whole"));
        let info = json!({ "nuid": "a-1", "size": 5, "digest": format!("SHA-256={digest}"), "bucket": "B" });
        assert_eq!(described(info.to_string().as_bytes()), Some(object));
        assert_eq!(described(b"{}"), None);
    }
}
