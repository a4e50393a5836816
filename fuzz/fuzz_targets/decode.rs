//! Payloads from anybody: decoding and transcoding never panic, and what was read can be written and read again.
//!
//! Run it with `cargo +nightly fuzz run decode`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use sinew_wire::{ContentType, Problem, ServiceDescriptor, decode, encode, transcode};

const BOTH: [ContentType; 2] = [ContentType::MessagePack, ContentType::Json];

fuzz_target!(|bytes: &[u8]| {
    for from in BOTH {
        let _ = decode::<ServiceDescriptor>(from, bytes);
        let _ = decode::<Problem>(from, bytes);
        if let Ok(value) = decode::<Value>(from, bytes) {
            survives(&value);
        }
        for to in BOTH {
            if let Ok(rewritten) = transcode(from, to, bytes) {
                assert!(decode::<IgnoredAny>(to, &rewritten).is_ok(), "what transcoding wrote can be read");
            }
        }
    }
});

/// Checks MessagePack to the bit. In JSON a float may come back with another last digit, so there it is only read.
fn survives(value: &Value) {
    assert_eq!(again(ContentType::MessagePack, value).as_ref(), Some(value));
    assert!(again(ContentType::Json, value).is_some(), "what was written as JSON can be read");
}

fn again(codec: ContentType, value: &Value) -> Option<Value> {
    let bytes = encode(codec, value).ok()?;
    decode(codec, &bytes).ok()
}
