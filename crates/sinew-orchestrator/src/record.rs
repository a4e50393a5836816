//! The format of the log. A record is a header followed by items, each a MessagePack value of its own, so that items
//! are encoded once, when they are made, and a record is a concatenation.
//!
//! Versioned: a reader refuses a version it does not know, and every version ever released stays readable.

mod parked;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::{
    bus::Object,
    wire::{ContentType, encode},
};
use sinew_workflow::{Entry, State};

use crate::{Error, Kind};

pub(crate) use parked::{Parked, ParkedItem, listeners, parked_in, wake};

/// 2 since instances are parked.
const VERSION: u8 = 2;
/// Room a piece of an item leaves for the names around it.
const PIECE_OVERHEAD: usize = 512;

/// Who wrote a record. Owner and number together are unique, so that an owner recognises its own append after a lost
/// acknowledgement; and they are without gaps, so that a reader sees when something was forgotten under its eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    v: u8,
    /// Rises with every owner, as long as the leases are not lost; for people.
    pub(crate) epoch: u64,
    /// Drawn by every owner: unlike the epoch it cannot come again when a server has lost its last writes.
    owner: u64,
    /// Counts the owner's appends, from 0.
    pub(crate) number: u64,
}

/// What a record holds of one instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// The instance.
    pub(crate) id: String,
    /// Digest of the definition it runs, at its start and in snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) definition: Option<String>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) entries: Vec<Entry>,
    /// Its whole state: what stood in the log before is not needed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<Box<State>>,
    /// Its whole state, while it waits: what happens to it next is preceded by a `snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parked: Option<Box<Parked>>,
    /// It has ended and its history is stored: the log owes it nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) archived: bool,
    /// What the shard keeps for itself under this id; null forgets it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(crate) note: Option<Value>,
    /// A part of an item that is too large for one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) piece: Option<Piece>,
    /// Where the item itself is, when it is too large for a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<Object>,
}

/// A part of an encoded item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Its place, from 0.
    pub(crate) index: u32,
    /// Whether it is the last one.
    pub(crate) last: bool,
    /// Its bytes.
    #[serde(with = "binary")]
    pub(crate) bytes: Bytes,
}

impl Header {
    pub(crate) fn new(epoch: u64, owner: u64, number: u64) -> Self {
        Self { v: VERSION, epoch, owner, number }
    }

    /// Says whether this record was appended right behind `before`.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        if self.owner == before.owner { self.number == before.number + 1 } else { self.number == 0 }
    }
}

impl Item {
    pub(crate) fn new(id: &str) -> Self {
        let id = id.to_owned();
        Self {
            id,
            definition: None,
            entries: Vec::new(),
            snapshot: None,
            parked: None,
            archived: false,
            note: None,
            piece: None,
            claim: None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        encode(ContentType::MessagePack, self).map_err(|error| foreign(&error.to_string()))
    }
}

/// Splits an encoded item of instance `id` into items of at most `limit` bytes; one that fits stays as it is.
pub(crate) fn split(id: &str, item: Bytes, limit: usize) -> Result<Vec<Bytes>, Error> {
    if item.len() <= limit {
        return Ok(vec![item]);
    }
    let size = limit.saturating_sub(PIECE_OVERHEAD).max(1);
    let count = item.len().div_ceil(size);
    let piece = |index: usize| {
        let (from, last) = (index * size, index + 1 == count);
        let bytes = item.slice(from..item.len().min(from + size));
        let index = u32::try_from(index).map_err(|_| foreign("an item has too many pieces"))?;
        Item { piece: Some(Piece { index, last, bytes }), ..Item::new(id) }.encode()
    };
    (0..count).map(piece).collect()
}

/// Joins a header and encoded items to a record.
pub(crate) fn join(header: Header, items: &[Bytes]) -> Result<Bytes, Error> {
    let head = encode(ContentType::MessagePack, &header).map_err(|error| foreign(&error.to_string()))?;
    let mut record = BytesMut::with_capacity(head.len() + items.iter().map(Bytes::len).sum::<usize>());
    record.put(head);
    items.iter().for_each(|item| record.put_slice(item));
    Ok(record.freeze())
}

/// Reads a record back.
pub(crate) fn read(record: &[u8]) -> Result<(Header, Vec<Item>), Error> {
    let mut rest = record;
    let header: Header = next(&mut rest)?;
    if !(1..=VERSION).contains(&header.v) {
        return Err(foreign(&format!("record version {} is unknown: run a newer sinew", header.v)));
    }
    let mut items = Vec::new();
    while !rest.is_empty() {
        items.push(next(&mut rest)?);
    }
    Ok((header, items))
}

/// Reads an item that was put together from its pieces.
pub(crate) fn read_item(bytes: &[u8]) -> Result<Item, Error> {
    next(&mut &*bytes)
}

/// Reads only which instance an encoded item is about.
pub(crate) fn id_of(bytes: &[u8]) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    next::<Named>(&mut &*bytes).map(|named| named.id)
}

/// Reads only who wrote a record.
pub(crate) fn header(record: &[u8]) -> Result<Header, Error> {
    next(&mut &*record)
}

fn next<T: serde::de::DeserializeOwned>(rest: &mut &[u8]) -> Result<T, Error> {
    let mut reader = rmp_serde::Deserializer::new(&mut *rest).with_human_readable();
    T::deserialize(&mut reader).map_err(|error| foreign(&error.to_string()))
}

fn foreign(reason: &str) -> Error {
    Error::new(Kind::Foreign, format!("a record of the workflow log cannot be read: {reason}"))
}

/// Reads a value that is there, null included, as present.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Bytes as one value; by itself serde writes each of them as a number.
pub(crate) mod binary {
    use std::fmt;

    use bytes::Bytes;
    use serde::{Deserializer, Serializer, de::Visitor};

    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_item_by_item() {
        let item = Item { definition: Some("d".into()), archived: true, ..Item::new("i-1") };
        let record = join(Header::new(3, 7, 4), &[item.encode().unwrap(), item.encode().unwrap()]).unwrap();
        let (read_header, items) = read(&record).unwrap();
        assert_eq!((read_header.epoch, read_header.number, items.len()), (3, 4, 2));
        assert_eq!(header(&record).unwrap(), read_header);
        assert!(items[1].archived && items[1].id == "i-1");
    }

    #[test]
    fn a_large_item_is_put_together_from_its_pieces() {
        let item = Item { definition: Some("d".repeat(5_000)), ..Item::new("i-1") }.encode().unwrap();
        let pieces = split("i-1", item.clone(), 1_024).unwrap();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= 1_024));
        let record = join(Header::new(1, 1, 0), &pieces).unwrap();
        let pieces: Vec<Piece> = read(&record).unwrap().1.into_iter().filter_map(|item| item.piece).collect();
        assert!(pieces.iter().rev().skip(1).all(|piece| !piece.last) && pieces.last().unwrap().last);
        let whole: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        assert_eq!(whole, item);
        assert_eq!(read_item(&whole).unwrap().definition.unwrap().len(), 5_000);
        assert_eq!(split("i-1", item.clone(), item.len()).unwrap(), [item]);
    }

    #[test]
    fn a_gap_between_records_is_seen() {
        let at = |owner, number| Header::new(1, owner, number);
        assert!(at(7, 5).follows(&at(7, 4)) && at(8, 0).follows(&at(7, 4)));
        assert!(!at(7, 6).follows(&at(7, 4)) && !at(8, 1).follows(&at(7, 4)));
    }

    #[test]
    fn unknown_versions_and_garbage_are_refused() {
        let newer = join(Header { v: 9, epoch: 1, owner: 1, number: 1 }, &[]).unwrap();
        assert_eq!(read(&newer).unwrap_err().kind(), Kind::Foreign);
        assert!(read(b"\xc1").is_err());
        assert!(read(b"").is_err());
    }
}
