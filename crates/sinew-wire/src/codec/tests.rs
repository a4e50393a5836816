//! Round trips, evolution between schema versions, hostile bytes.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

const BOTH: [ContentType; 2] = [ContentType::MessagePack, ContentType::Json];

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e15..1e15f64).prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_survives_both_codecs(value in json()) {
        for codec in BOTH {
            let bytes = encode(codec, &value).unwrap();
            prop_assert_eq!(&decode::<serde_json::Value>(codec, &bytes).unwrap(), &value);
        }
    }

    #[test]
    fn transcoding_there_and_back_changes_nothing(value in json()) {
        let text = encode(ContentType::Json, &value).unwrap();
        let packed = transcode(ContentType::Json, ContentType::MessagePack, &text).unwrap();
        let back = transcode(ContentType::MessagePack, ContentType::Json, &packed).unwrap();
        prop_assert_eq!(decode::<serde_json::Value>(ContentType::Json, &back).unwrap(), value);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for from in BOTH {
            let _ = decode::<serde_json::Value>(from, &bytes);
            let _ = decode::<BTreeMap<String, Option<Vec<u32>>>>(from, &bytes);
            for to in BOTH {
                let _ = transcode(from, to, &bytes);
            }
        }
    }
}

#[test]
fn an_old_reader_takes_an_appended_field_and_a_new_one_a_missing_field() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Old {
        id: u32,
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct New {
        id: u32,
        #[serde(default)]
        note: Option<String>,
    }
    for codec in BOTH {
        let new = encode(codec, &New { id: 7, note: Some("x".into()) }).unwrap();
        assert_eq!(decode::<Old>(codec, &new).unwrap(), Old { id: 7 });
        let old = encode(codec, &Old { id: 7 }).unwrap();
        assert_eq!(decode::<New>(codec, &old).unwrap(), New { id: 7, note: None });
    }
}

#[test]
fn types_with_a_compact_form_look_the_same_in_both_codecs() {
    let address: IpAddr = "10.1.2.3".parse().unwrap();
    let packed = encode(ContentType::MessagePack, &address).unwrap();
    assert_eq!(decode::<String>(ContentType::MessagePack, &packed).unwrap(), "10.1.2.3");
}

#[test]
fn deep_nesting_and_trailing_bytes_are_errors() {
    let deep = vec![0x91u8; 100_000];
    assert!(decode::<serde_json::Value>(ContentType::MessagePack, &deep).is_err());
    assert!(transcode(ContentType::MessagePack, ContentType::Json, &deep).is_err());
    assert!(decode::<serde_json::Value>(ContentType::Json, "[".repeat(100_000).as_bytes()).is_err());
    assert!(decode::<u8>(ContentType::MessagePack, &[1, 2]).is_err());
    assert!(transcode(ContentType::Json, ContentType::MessagePack, b"1 2").is_err());
}

#[test]
fn numbers_stay_numbers() {
    // With `serde_json/arbitrary_precision` switched on by any dependency, this number would become a map.
    let packed = transcode(ContentType::Json, ContentType::MessagePack, b"1.5").unwrap();
    assert_eq!(packed.as_ref(), rmp_serde::to_vec(&1.5f64).unwrap());
}

#[test]
fn media_types_are_read_without_their_parameters() {
    assert_eq!(ContentType::parse("Application/JSON; charset=utf-8").unwrap(), ContentType::Json);
    assert_eq!(ContentType::parse("application/problem+json").unwrap(), ContentType::Json);
    assert_eq!(ContentType::parse("application/x-msgpack").unwrap(), ContentType::MessagePack);
    assert_eq!(ContentType::of(None).unwrap(), ContentType::Json);
    assert!(ContentType::parse("text/html").is_err());
    assert!(ContentType::parse("äöüäöü").is_err());
}
