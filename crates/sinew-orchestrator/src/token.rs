//! Tokens by which the result of a call is brought later: they name an attempt and cannot be made up.
//!
//! A token is derived, not stored: it is the same whenever the same attempt is asked for again, and every replica can
//! tell whether it gave it out. What it is worth is for the instance to say.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use sinew::Bus;
use sinew_workflow::TaskId;

use crate::{Error, Kind};

const BUCKET: &str = "WORKFLOW_SECRETS";
const KEY: &str = "completion";
/// Bytes of the seal that are sent: 128 bits are beyond guessing.
const SEAL: usize = 16;

/// What makes tokens and recognises them; all replicas have the same.
#[derive(Clone)]
pub(crate) struct Seal(Arc<hmac::Key>);

/// What a token names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) instance: String,
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
}

impl Seal {
    /// Reads the key of this installation, making it where there is none.
    pub(crate) async fn open(bus: &Bus) -> Result<Self, Error> {
        let kv = bus.kv(BUCKET).await?;
        loop {
            if let Some(key) = kv.get(KEY).await?.and_then(|entry| entry.value) {
                return Ok(Self::new(&key));
            }
            let mut fresh = [0; 32];
            SystemRandom::new()
                .fill(&mut fresh)
                .map_err(|_| Error::new(Kind::Config, "the system gives no random numbers"))?;
            match kv.swap(KEY, Bytes::copy_from_slice(&fresh), 0, None).await {
                Ok(_) => return Ok(Self::new(&fresh)),
                // Another replica was faster: its key counts.
                Err(error) if error.kind() == sinew::Kind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn new(key: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// Makes the token of an attempt.
    pub(crate) fn token(&self, instance: &str, task: TaskId, attempt: u32) -> String {
        let name = name(instance, task, attempt);
        let tag = hmac::sign(&self.0, name.as_bytes());
        format!("{name}.{}", BASE64URL_NOPAD.encode(&tag.as_ref()[..SEAL]))
    }

    /// Reads a token; `None` for one that was not given out here.
    pub(crate) fn read(&self, token: &str) -> Option<Ticket> {
        let (named, _) = token.rsplit_once('.')?;
        let mut parts = named.split('.');
        let (instance, task, attempt) = (parts.next()?, parts.next()?, parts.next()?);
        let (task, attempt) = (TaskId::of(task.parse().ok()?), attempt.parse().ok()?);
        let expected = self.token(instance, task, attempt);
        let same = is_same(expected.as_bytes(), token.as_bytes());
        same.then(|| Ticket { instance: instance.to_owned(), task, attempt })
    }
}

fn name(instance: &str, task: TaskId, attempt: u32) -> String {
    format!("{instance}.{task}.{attempt}")
}

/// Compares in a time that does not tell how much is the same.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(key: u8) -> Seal {
        Seal::new(&[key; 32])
    }

    proptest! {
        #[test]
        fn a_token_names_its_attempt_and_is_the_same_each_time(
            instance in "[A-Za-z0-9_-]{1,40}", task: u32, attempt: u32,
        ) {
            let token = seal(1).token(&instance, TaskId::of(task), attempt);
            prop_assert_eq!(&seal(1).token(&instance, TaskId::of(task), attempt), &token);
            let ticket = Ticket { instance, task: TaskId::of(task), attempt };
            prop_assert_eq!(seal(1).read(&token), Some(ticket));
            prop_assert_eq!(seal(2).read(&token), None, "another installation's token is none");
        }

        #[test]
        fn a_token_that_was_changed_is_none(index in 0usize..34, with in "[A-Za-z0-9_.-]") {
            let token = seal(1).token("order-17", TaskId::of(3), 1);
            let mut changed = token.clone();
            changed.replace_range(index..=index, &with);
            prop_assert!(changed == token || seal(1).read(&changed).is_none());
        }

        #[test]
        fn anything_else_is_none(text in ".{0,80}") {
            prop_assert_eq!(seal(1).read(&text), None);
        }
    }
}
