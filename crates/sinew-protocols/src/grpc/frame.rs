//! Frames of gRPC: a byte that says whether a message is compressed, its length, the message.

use bytes::{BufMut as _, Bytes, BytesMut};

const HEAD: usize = 5;

/// Writes a message as a frame.
pub(super) fn encode(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    // A request comes from a definition and its data, which are far smaller.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// Reads the messages of a body.
pub(super) fn decode(mut body: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let Some((&[compressed, a, b, c, d], rest)) = body.split_first_chunk::<HEAD>() else {
            return Err("the reply ends within a frame");
        };
        if compressed != 0 {
            return Err("the reply is compressed, which was not asked for");
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return Err("the reply ends within a message");
        };
        messages.push(message);
        body = rest;
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let body: Vec<u8> = messages.iter().flat_map(|message| encode(message)).collect();
            prop_assert_eq!(decode(&body).unwrap(), messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
            if !body.is_empty() {
                prop_assert!(decode(&body[..body.len() - 1]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&body);
        }
    }
}
