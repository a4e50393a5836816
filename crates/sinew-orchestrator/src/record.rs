//! The format of the log. A record is a header followed by items, each a MessagePack value of its own, so that items
//! are encoded once, when they are made, and a record is a concatenation.
//!
//! Versioned: a reader refuses a version it does not know, and every version ever released stays readable.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sinew::wire::{ContentType, encode};
use sinew_workflow::{Entry, State};

use crate::{Error, Kind};

const VERSION: u8 = 1;

/// Who wrote a record. Epoch and number together are unique, so that an owner recognises its own append after a lost
/// acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    v: u8,
    /// Rises with every owner.
    pub(crate) epoch: u64,
    /// Counts the owner's appends.
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
    /// It has ended and its history is stored: the log owes it nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) archived: bool,
}

impl Header {
    pub(crate) fn new(epoch: u64, number: u64) -> Self {
        Self { v: VERSION, epoch, number }
    }
}

impl Item {
    pub(crate) fn entries(id: &str, definition: Option<String>, entries: Vec<Entry>) -> Self {
        Self { id: id.to_owned(), definition, entries, snapshot: None, archived: false }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        encode(ContentType::MessagePack, self).map_err(|error| foreign(&error.to_string()))
    }
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
    if header.v != VERSION {
        return Err(foreign(&format!("record version {} is unknown: run a newer sinew", header.v)));
    }
    let mut items = Vec::new();
    while !rest.is_empty() {
        items.push(next(&mut rest)?);
    }
    Ok((header, items))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_item_by_item() {
        let mut item = Item::entries("i-1", Some("d".into()), Vec::new());
        item.archived = true;
        let record = join(Header::new(3, 4), &[item.encode().unwrap(), item.encode().unwrap()]).unwrap();
        let (read_header, items) = read(&record).unwrap();
        assert_eq!((read_header.epoch, read_header.number, items.len()), (3, 4, 2));
        assert_eq!(header(&record).unwrap(), read_header);
        assert!(items[1].archived && items[1].id == "i-1");
    }

    #[test]
    fn unknown_versions_and_garbage_are_refused() {
        let newer = join(Header { v: 9, epoch: 1, number: 1 }, &[]).unwrap();
        assert_eq!(read(&newer).unwrap_err().kind(), Kind::Foreign);
        assert!(read(b"\xc1").is_err());
        assert!(read(b"").is_err());
    }
}
