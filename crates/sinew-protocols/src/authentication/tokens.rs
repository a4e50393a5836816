//! Tokens that were fetched: kept until shortly before they expire, and fetched once for all who want the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::oauth;
use crate::call::Scope;
use crate::failure::Failure;

/// A token this close to its end is not used any more, so that it does not end on its way.
const MARGIN: Duration = Duration::from_secs(30);
/// The most policies whose tokens are kept: a policy with computed parts is a new one each time.
const KEPT: usize = 1_000;

/// Tells policies apart without holding what they say.
pub(crate) type TokenKey = [u8; 32];

/// A token, ready to be sent.
#[derive(Clone)]
pub(crate) struct Token {
    /// Usually `Bearer`.
    pub(crate) scheme: String,
    pub(crate) value: String,
    /// When it may not be used any more.
    pub(super) expires: Instant,
    /// What a refresh is asked with the next time, where servers replace it at each use.
    pub(super) refresh: Option<String>,
}

/// What is known about one policy.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of all policies.
///
/// A lock finds the slot of a policy and is held for that only; the lock of a slot is held while its token is fetched, so
/// that everybody else who needs it waits for that one fetch. A fetch that is dropped leaves the next in line to do it.
#[derive(Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<TokenKey, Slot>>,
}

impl Tokens {
    /// Returns a valid token for a policy whose secrets are revealed, and under which key it is kept.
    pub(super) async fn get(
        &self,
        scope: Scope<'_>,
        oidc: bool,
        policy: &Value,
    ) -> Result<(TokenKey, Token), Failure> {
        let key = key(oidc, policy);
        let slot = self.slot(key);
        let mut kept = slot.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.expires) {
            return Ok((key, token.clone()));
        }
        let refresh = kept.as_ref().and_then(|token| token.refresh.clone());
        let token = oauth::fetch(scope, oidc, policy, refresh.as_deref()).await?;
        *kept = Some(token.clone());
        Ok((key, token))
    }

    /// Gives up a token that was not accepted, unless somebody replaced it already.
    pub(crate) async fn forget(&self, key: &TokenKey, refused: &str) {
        let slot = self.slot(*key);
        if let Some(token) = slot.lock().await.as_mut().filter(|token| token.value == refused) {
            token.expires = Instant::now();
        }
    }

    fn slot(&self, key: TokenKey) -> Slot {
        // Nothing is done under this lock that could panic half way.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT && !slots.contains_key(&key) {
            slots.retain(|_, slot| {
                slot.try_lock().is_ok_and(|kept| kept.as_ref().is_some_and(Token::is_valid))
            });
            if slots.len() >= KEPT {
                slots.clear();
            }
        }
        slots.entry(key).or_default().clone()
    }
}

impl Token {
    /// Returns how long a token of the given life is used.
    pub(super) fn usable(life: Duration) -> Duration {
        life.saturating_sub(MARGIN.min(life / 2))
    }

    fn is_valid(&self) -> bool {
        Instant::now() < self.expires
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

fn key(oidc: bool, policy: &Value) -> TokenKey {
    let mut hash = Sha256::new();
    hash.update([u8::from(oidc)]);
    hash.update(policy.to_string());
    hash.finalize().into()
}
