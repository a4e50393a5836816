//! JSON Web Tokens: the assertion a client signs with its secret, and the issuer a token names.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

/// How long an assertion is valid, in seconds: long enough for clocks that differ a little.
const LIFE: u64 = 300;

/// Signs an assertion that this is the client, for the one who is asked (RFC 7523).
pub(super) fn assertion(client: &str, secret: &str, audience: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = json!({
        "iss": client, "sub": client, "aud": audience, "iat": now, "exp": now + LIFE,
        "jti": Uuid::new_v4().to_string(),
    });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

/// Returns who issued a token, if it is one that says so.
///
/// The signature is not checked: the token came from the issuer itself, over TLS.
pub(super) fn issuer(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims = BASE64URL_NOPAD.decode(claims.trim_end_matches('=').as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_names_its_client_and_is_signed_with_the_secret() {
        let token = assertion("shop", "pssst", "https://id/token");
        assert_eq!(issuer(&token).as_deref(), Some("shop"));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let verify = |secret: &[u8]| {
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes(), &signature).is_ok()
        };
        assert!(verify(b"pssst") && !verify(b"other"));
    }

    #[test]
    fn a_token_that_names_nobody_has_no_issuer() {
        for token in ["", "opaque", "a.b.c", "e30.e30.x"] {
            assert_eq!(issuer(token), None, "{token}");
        }
    }
}
