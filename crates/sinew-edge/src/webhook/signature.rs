//! Signatures as the Standard Webhooks specification has them: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.

use data_encoding::BASE64;
use ring::hmac;

use crate::config::Secret;

/// What requests are signed with; while secrets are changed there are two.
pub(super) struct Keys(Vec<hmac::Key>);

impl Keys {
    /// Reads the secrets: base64 behind `whsec_`, and plain text otherwise.
    ///
    /// # Errors
    /// For one that is not there, or no base64.
    pub(super) fn read(secrets: &[Secret]) -> Result<Self, String> {
        let key = |secret: &Secret| {
            let text =
                secret.value.as_deref().ok_or("a secret was not read: call `Config::resolve_secrets`")?;
            let bytes = match text.strip_prefix("whsec_") {
                Some(encoded) => {
                    BASE64.decode(encoded.as_bytes()).map_err(|_| "a secret has no base64 behind whsec_")?
                }
                None => text.as_bytes().to_vec(),
            };
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        secrets.iter().map(key).collect::<Result<_, &str>>().map(Self).map_err(str::to_owned)
    }

    /// Signs with every key; `None` without any.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let signed =
            self.0.iter().map(|key| format!("v1,{}", BASE64.encode(hmac::sign(key, &message).as_ref())));
        let all = signed.collect::<Vec<_>>().join(" ");
        (!all.is_empty()).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Secret {
        Secret { value: Some(value.to_owned()), ..Secret::default() }
    }

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's reference libraries.
        let keys = Keys::read(&[secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
        let signed = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn while_secrets_change_both_sign() {
        let keys = Keys::read(&[secret("new"), secret("old")]).unwrap();
        let signed = keys.sign("1", 2, b"x").unwrap();
        let only = |text: &str| Keys::read(&[secret(text)]).unwrap().sign("1", 2, b"x").unwrap();
        assert_eq!(signed, format!("{} {}", only("new"), only("old")));
        assert_eq!(Keys::read(&[]).unwrap().sign("1", 2, b"x"), None);
        assert!(Keys::read(&[Secret::default()]).is_err() && Keys::read(&[secret("whsec_!")]).is_err());
    }
}
