//! Objects under names, as files have them: found by name, written as their bytes come, read from anywhere in the middle.
//!
//! Every NATS client reads what is written here, and what others wrote is read. A piece written here says where it belongs
//! in its object, so that the middle of a large one is found without reading what stands before it.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64URL, HEXLOWER};
use futures::{Stream, StreamExt, stream::FuturesOrdered};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sinew_wire::Headers;

use super::{AHEAD, Objects, PIECE, STORE};
use crate::{
    Error, Kind,
    bus::{Reader, Stored, api::code, jetstream::RawFound},
};

/// Where a piece belongs, in bytes from the object's start.
const OFFSET: &str = "Sinew-Offset";
/// Longest name, in bytes: its subject has a third more.
const NAME: usize = 512;
/// How often a name is looked at anew that somebody else writes to.
const ATTEMPTS: usize = 8;
/// How often a piece is looked for before all is read from the start.
const PROBES: usize = 32;
/// Bytes that are asked for at once.
const BATCH: u64 = 1024 * 1024;

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as 64 hexadecimal digits; `None` where whoever wrote it did not say.
    pub digest: Option<String>,
    /// The media type it was written with.
    pub content_type: Option<String>,
    /// When it was written, RFC 3339.
    pub stored: String,
    /// Tells this writing from every other one of the name.
    pub revision: u64,
    id: String,
    pieces: u64,
    piece: u64,
}

/// What has to stand under a name for it to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Anything,
    /// Nothing.
    Nothing,
    /// This revision.
    Revision(u64),
}

/// The bytes of an object, piece by piece.
pub struct Pieces {
    reader: Reader,
    waiting: VecDeque<Stored>,
    /// Where the next piece belongs.
    at: u64,
    left: Range<u64>,
}

/// What stands in the bucket about a name.
#[derive(Deserialize)]
struct Info {
    name: String,
    nuid: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    chunks: u64,
    digest: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    options: Option<Options>,
    #[serde(default)]
    headers: Option<Value>,
}

#[derive(Deserialize)]
struct Options {
    max_chunk_size: Option<u64>,
    link: Option<Value>,
}

/// Bytes on their way in, cut into pieces.
struct Cut<S> {
    bytes: S,
    buffer: BytesMut,
    digest: Sha256,
    size: u64,
}

impl Objects {
    /// Finds what stands under a name, by the word of the bucket's leader; links are not followed.
    ///
    /// # Errors
    /// When the bucket cannot be asked. In one that does not stand nothing is found.
    pub async fn find(&self, name: &str) -> Result<Option<Named>, Error> {
        Ok(self.state(name).await?.1)
    }

    /// Writes bytes under a name as they come, in place of what stands there; nothing of it is to be seen before all of it
    /// is stored. Returns what stands then, and whether something stood there before.
    ///
    /// # Errors
    /// What the bytes broke off with; [`Kind::Conflict`] where something else stands there than expected, and
    /// [`Kind::TimedOut`] where it is unknown whether it is stored.
    ///
    /// # Cancel safety
    /// Dropping the future may leave pieces behind that belong to no object.
    pub async fn store<E: From<Error>>(
        &self,
        name: &str,
        content_type: Option<&str>,
        expect: Expect,
        bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(Named, bool), E> {
        if name.is_empty() || name.len() > NAME {
            return Err(Error::new(Kind::Config, format!("an object's name has 1 to {NAME} bytes")).into());
        }
        let id = uuid::Uuid::now_v7().simple().to_string();
        let mut cut = Cut { bytes, buffer: BytesMut::new(), digest: Sha256::new(), size: 0 };
        let written = async {
            let pieces = self.write_pieces(&id, &mut cut).await?;
            let digest = HEXLOWER.encode(&cut.digest.finalize_reset());
            let (name, size, content_type) = (name.to_owned(), cut.size, content_type.map(str::to_owned));
            let (digest, id) = (Some(digest), id.clone());
            let (stored, revision, piece) = (String::new(), 0, PIECE as u64);
            let object = Named { name, size, digest, content_type, stored, revision, id, pieces, piece };
            Ok(self.commit(object, expect).await?)
        };
        let written: Result<_, E> = written.await;
        if written.is_err() {
            // Whether these are an object's may be unknown: pieces without one only take room.
            let found = self.state(name).await;
            if found.is_ok_and(|(_, found)| found.is_none_or(|found| found.id != id)) {
                let _ = self.forget_pieces(&id).await;
            }
        }
        written
    }

    /// Opens a part of an object for reading.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn read(&self, object: &Named, range: Range<u64>) -> Result<Pieces, Error> {
        let reader = self.bus.read_stream(&self.stream(), &self.pieces_of(&object.id), 1).await?;
        let reader = reader.batches_of(usize::try_from(BATCH / object.piece).unwrap_or(1).clamp(1, 64));
        let left = range.start.min(object.size)..range.end.min(object.size);
        let mut pieces = Pieces { reader, waiting: VecDeque::new(), at: 0, left };
        if pieces.left.start >= object.piece && !pieces.left.is_empty() {
            self.seek(object, &mut pieces).await?;
        }
        Ok(pieces)
    }

    /// Forgets what stands under a name, if that is still this; says whether it was.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when it is unknown whether it is forgotten.
    pub async fn remove(&self, object: &Named) -> Result<bool, Error> {
        let info = json!({
            "name": object.name, "bucket": self.bucket, "nuid": object.id, "size": 0, "chunks": 0, "deleted": true,
        });
        match self.write_info(&object.name, &info, object.revision).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Conflict => return Ok(false),
            Err(error) => return Err(error),
        }
        self.forget_pieces(&object.id).await?;
        Ok(true)
    }

    /// Returns the revision of a name, 0 where it never stood, and what stands there.
    async fn state(&self, name: &str) -> Result<(u64, Option<Named>), Error> {
        let body = json!({ "last_by_subj": self.meta_of(name) });
        let found = match self.bus.api::<RawFound>(&format!("STREAM.MSG.GET.{}", self.stream()), &body).await
        {
            Ok(found) => found.message,
            Err(error)
                if [code::NO_MESSAGE, code::STREAM_NOT_FOUND].into_iter().any(|code| error.is(code)) =>
            {
                return Ok((0, None));
            }
            Err(error) => return Err(error.during(&format!("cannot read object bucket {}", self.bucket))),
        };
        let time = found.time.clone();
        let Stored { sequence: revision, payload, .. } = found.read()?;
        Ok((revision, Info::read(&payload).and_then(|info| info.named(revision, time))))
    }

    async fn write_pieces<E, S>(&self, id: &str, cut: &mut Cut<S>) -> Result<u64, E>
    where
        E: From<Error>,
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let (subject, mut count) = (self.pieces_of(id), 0);
        let mut under_way = FuturesOrdered::new();
        loop {
            let offset = cut.size;
            let Some(piece) = cut.next().await? else { break };
            let mut headers = Headers::new();
            headers.set(OFFSET, offset.to_string()).map_err(Error::from)?;
            let (bus, subject) = (&self.bus, &subject);
            under_way.push_back(async move { bus.publish_acked(subject, &headers, piece, STORE).await });
            count += 1;
            while under_way.len() >= AHEAD
                && let Some(stored) = under_way.next().await
            {
                stored?;
            }
        }
        while let Some(stored) = under_way.next().await {
            stored?;
        }
        Ok(count)
    }

    /// Puts a name on pieces that are stored.
    async fn commit(&self, object: Named, expect: Expect) -> Result<(Named, bool), Error> {
        let other = || Error::new(Kind::Conflict, format!("something else stands under {}", object.name));
        for _ in 0..ATTEMPTS {
            let (revision, standing) = self.state(&object.name).await?;
            let expected = match expect {
                Expect::Anything => true,
                Expect::Nothing => standing.is_none(),
                Expect::Revision(own) => standing.is_some() && own == revision,
            };
            if !expected {
                return Err(other());
            }
            match self.write_info(&object.name, &self.described(&object), revision).await {
                Ok(revision) => {
                    if let Some(standing) = &standing {
                        self.forget_pieces(&standing.id).await?;
                    }
                    return Ok((Named { revision, ..object }, standing.is_some()));
                }
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(other())
    }

    async fn write_info(&self, name: &str, info: &Value, expected: u64) -> Result<u64, Error> {
        let mut headers = Headers::new();
        headers.set("Nats-Rollup", "sub")?;
        headers.set("Nats-Expected-Last-Subject-Sequence", expected.to_string())?;
        let info = Bytes::from(info.to_string());
        self.bus.publish_acked(&self.meta_of(name), &headers, info, STORE).await.map(|ack| ack.sequence)
    }

    fn described(&self, object: &Named) -> Value {
        let digest = object.digest.as_ref().and_then(|digest| HEXLOWER.decode(digest.as_bytes()).ok());
        let mut info = json!({
            "name": object.name,
            "bucket": self.bucket,
            "nuid": object.id,
            "size": object.size,
            "chunks": object.pieces,
            "digest": format!("SHA-256={}", BASE64URL.encode(&digest.unwrap_or_default())),
            "options": { "max_chunk_size": object.piece },
        });
        if let Some(content_type) = &object.content_type {
            info["headers"] = json!({ "Content-Type": [content_type] });
        }
        info
    }

    /// Goes to the piece that holds the first byte wanted. One that was stored alone stands where it is guessed; of others
    /// each look skips what certainly lies between. Pieces that do not say where they belong are read from the first one.
    async fn seek(&self, object: &Named, pieces: &mut Pieces) -> Result<(), Error> {
        let start = pieces.left.start;
        let mut at = object.revision.saturating_sub(object.pieces) + start / object.piece;
        for _ in 0..PROBES {
            let mut probe =
                self.bus.read_stream(&self.stream(), &self.pieces_of(&object.id), at).await?.batches_of(1);
            let found = probe.batch().await?.pop();
            match found.and_then(|found| Some((offset(&found)?, found))) {
                Some((offset, found)) if offset <= start => {
                    let ahead = (start - offset) / object.piece;
                    if ahead == 0 {
                        pieces.reader.go_to(found.sequence + 1);
                        (pieces.at, pieces.waiting) = (offset, VecDeque::from([found]));
                        return Ok(());
                    }
                    at = found.sequence + ahead;
                }
                _ if at > 1 => at = 1,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn forget_pieces(&self, id: &str) -> Result<(), Error> {
        self.bus.purge_subject(&self.stream(), &self.pieces_of(id)).await.map(drop)
    }

    fn pieces_of(&self, id: &str) -> String {
        format!("$O.{}.C.{id}", self.bucket)
    }

    fn meta_of(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, BASE64URL.encode(name.as_bytes()))
    }
}

impl Pieces {
    /// Returns the next bytes; `None` at the end of the part.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the object went away meanwhile; otherwise why the bucket could not be asked.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.left.is_empty() {
            let Some(piece) = self.waiting.pop_front() else {
                self.waiting = self.reader.batch().await?.into();
                if self.waiting.is_empty() {
                    return Err(Error::new(Kind::JetStream, "the object went away while it was read"));
                }
                continue;
            };
            let (from, to) = (self.at, self.at + piece.payload.len() as u64);
            if offset(&piece).is_some_and(|offset| offset != from) {
                return Err(Error::new(Kind::JetStream, "a piece of the object is missing"));
            }
            self.at = to;
            let (first, last) = (self.left.start.max(from), self.left.end.min(to));
            if first < last {
                self.left.start = last;
                // Both lie within the piece, which is in memory.
                return Ok(Some(piece.payload.slice((first - from) as usize..(last - from) as usize)));
            }
        }
        Ok(None)
    }
}

impl Info {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    fn named(self, revision: u64, stored: String) -> Option<Named> {
        let options = self.options.as_ref();
        if self.deleted || options.is_some_and(|options| options.link.is_some()) || !is_subject(&self.nuid) {
            return None;
        }
        let piece = options.and_then(|options| options.max_chunk_size).filter(|size| *size > 0);
        let digest = self.digest.as_deref().and_then(|digest| digest.strip_prefix("SHA-256="));
        let digest = digest.and_then(|digest| BASE64URL.decode(digest.as_bytes()).ok());
        let headers = self.headers.as_ref().and_then(Value::as_object).into_iter().flatten();
        let mut typed = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = typed.next().and_then(|(_, values)| values.get(0)?.as_str());
        Some(Named {
            content_type: content_type.map(str::to_owned),
            name: self.name,
            size: self.size,
            digest: digest.map(|digest| HEXLOWER.encode(&digest)),
            stored,
            revision,
            id: self.nuid,
            pieces: self.chunks,
            piece: piece.unwrap_or(PIECE as u64),
        })
    }
}

impl<S> Cut<S> {
    async fn next<E>(&mut self) -> Result<Option<Bytes>, E>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        while self.buffer.len() < PIECE
            && let Some(bytes) = self.bytes.next().await
        {
            self.buffer.extend_from_slice(&bytes?);
        }
        let piece = self.buffer.split_to(self.buffer.len().min(PIECE)).freeze();
        self.digest.update(&piece);
        self.size += piece.len() as u64;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

fn offset(piece: &Stored) -> Option<u64> {
    piece.headers.get(OFFSET)?.parse().ok()
}

/// Whoever writes to the bucket may write anything: in a subject `>` would mean every object.
fn is_subject(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, stream};

    use super::*;

    #[test]
    fn what_others_say_of_an_object_is_read_and_what_is_none_is_not() {
        let read = |text: &str| Info::read(text.as_bytes())?.named(7, "then".into());
        let digest = BASE64URL.encode(&Sha256::digest(b"whole"));
        let found = read(&format!(
            r#"{{"name":"a/b","nuid":"X1","size":5,"chunks":1,"digest":"SHA-256={digest}","mtime":"0001-01-01T00:00:00Z",
                "headers":{{"content-type":["text/plain"]}},"options":{{"max_chunk_size":4}}}}"#
        ));
        let found = found.unwrap();
        assert_eq!((found.size, found.piece, found.revision), (5, 4, 7));
        assert_eq!(found.digest, Some(HEXLOWER.encode(&Sha256::digest(b"whole"))));
        assert_eq!(found.content_type.as_deref(), Some("text/plain"));
        assert_eq!(read(r#"{"name":"a","nuid":"X1"}"#).unwrap().piece, PIECE as u64);
        for none in [
            r#"{"name":"a","nuid":">"}"#,
            r#"{"name":"a","nuid":"X","deleted":true}"#,
            r#"{"name":"a","nuid":"X","options":{"link":{"bucket":"b"}}}"#,
            "{}",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn bytes_are_cut_into_whole_pieces_however_they_come() {
        let given: Vec<usize> = vec![1, PIECE, 3 * PIECE, 0, 5];
        let bytes = stream::iter(given.iter().map(|size| Ok::<_, Error>(Bytes::from(vec![7; *size]))));
        let mut cut = Cut { bytes, buffer: BytesMut::new(), digest: Sha256::new(), size: 0 };
        let mut sizes = Vec::new();
        while let Some(piece) = cut.next().now_or_never().unwrap().unwrap() {
            sizes.push(piece.len());
        }
        assert_eq!(sizes, [PIECE, PIECE, PIECE, PIECE, 6]);
        assert_eq!(cut.size, given.iter().sum::<usize>() as u64);
    }
}
