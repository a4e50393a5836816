//! Endpoints as the specification writes them: a URI, or a URI with an authentication policy.

use std::borrow::Cow;

use serde_json::Value;
use sinew_workflow::Fault;
use url::Url;

use crate::failure::Failure;
use crate::secrets::{self, Revealer};

/// An endpoint whose secrets are revealed.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Where it is, without a user.
    pub(crate) url: Url,
    /// The same for people: secrets are masked.
    pub(crate) shown: String,
    /// The policy as it was written, placeholders and all. A user in the URI is a `basic` one.
    pub(crate) authentication: Option<Value>,
}

impl Endpoint {
    /// Reads an endpoint, resolved against `base` when it is relative.
    pub(crate) fn read(value: &Value, base: Option<&Url>, revealer: Revealer<'_>) -> Result<Self, Failure> {
        let uri = match value {
            Value::String(uri) => uri,
            Value::Object(endpoint) => match endpoint.get("uri") {
                Some(Value::String(uri)) => uri,
                _ => return Err(Failure::configuration("the endpoint has no `uri`: give it one, as a text")),
            },
            _ => {
                return Err(Failure::configuration(
                    "the endpoint is neither a URI nor an object with a `uri`",
                ));
            }
        };
        let authentication = value.get("authentication").filter(|policy| !policy.is_null()).cloned();
        let masked = secrets::mask(uri);
        let mut url = parse(&revealer.uri(uri).map_err(Failure::refused)?, &masked, base)?;
        let user = take_user(&mut url);
        let shown = match &masked {
            Cow::Borrowed(_) => url.to_string(),
            Cow::Owned(masked) => shown(masked, base),
        };
        Ok(Self { url, shown, authentication: authentication.or(user) })
    }

    /// Requires HTTP or HTTPS.
    pub(crate) fn http(self) -> Result<Self, Failure> {
        let scheme = self.url.scheme();
        if matches!(scheme, "http" | "https") {
            return Ok(self);
        }
        Err(Failure::configuration(format!(
            "`{}` is not HTTP: begin it with `https://` or `http://`",
            self.shown
        )))
    }
}

fn parse(uri: &str, shown: &str, base: Option<&Url>) -> Result<Url, Failure> {
    let parsed = base.map_or_else(|| Url::parse(uri), |base| base.join(uri));
    parsed.map_err(|error| {
        Failure::refused(Fault::configuration(format!(
            "`{shown}` is not a URI: {error}; write it as `https://host/path`"
        )))
    })
}

/// Takes the user out of a URI, as the policy it stands for.
fn take_user(url: &mut Url) -> Option<Value> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (username, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    // These fail for URIs that cannot have a user, which this one had.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(serde_json::json!({ "basic": { "username": username, "password": password } }))
}

/// Writes a masked URI in full, without its user.
fn shown(masked: &str, base: Option<&Url>) -> String {
    match base.map_or_else(|| Url::parse(masked), |base| base.join(masked)) {
        Ok(mut url) => {
            take_user(&mut url);
            url.to_string()
        }
        Err(_) => secrets::MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Secrets;

    fn read(value: Value) -> Result<Endpoint, Failure> {
        let secrets = Secrets::from([("pw".to_owned(), json!("p@ss"))]);
        Endpoint::read(&value, None, Revealer::new(&secrets))
    }

    #[test]
    fn a_user_in_the_uri_is_a_policy_and_never_shown() {
        let endpoint = read(json!("https://ann:p%40ss@host/x")).unwrap();
        assert_eq!((endpoint.url.as_str(), endpoint.shown.as_str()), ("https://host/x", "https://host/x"));
        let basic = json!({ "basic": { "username": "ann", "password": "p@ss" } });
        assert_eq!(endpoint.authentication, Some(basic.clone()));

        let endpoint = read(json!("https://ann:\u{E000}secret:pw\u{E001}@host/x")).unwrap();
        assert_eq!((endpoint.shown.as_str(), endpoint.authentication), ("https://host/x", Some(basic)));
    }

    #[test]
    fn a_secret_is_not_shown_whatever_part_of_the_uri_it_is() {
        let secrets =
            Secrets::from([("id".to_owned(), json!("s3cr3t")), ("all".to_owned(), json!("https://s3cr3t/"))]);
        let base = Url::parse("https://host/api/").unwrap();
        for (uri, shown) in [
            ("/v1/\u{E000}secret:id\u{E001}?x=1", "https://host/v1/***?x=1"),
            ("https://\u{E000}secret:id\u{E001}/x", "https://***/x"),
            ("\u{E000}secret:all\u{E001}", "https://host/api/***"),
        ] {
            let endpoint = Endpoint::read(&json!(uri), Some(&base), Revealer::new(&secrets)).unwrap();
            assert!(endpoint.url.as_str().contains("s3cr3t"));
            assert_eq!(endpoint.shown, shown);
        }
    }

    #[test]
    fn what_is_no_endpoint_says_how_to_write_one() {
        for value in [json!(7), json!({}), json!("petstore"), json!({ "uri": "https://" })] {
            let failure = read(value.clone()).unwrap_err();
            assert_eq!(failure.fault.kind(), "configuration", "{value}");
        }
        assert_eq!(read(json!("ftp://host/x")).unwrap().http().unwrap_err().fault.kind(), "configuration");
    }
}
