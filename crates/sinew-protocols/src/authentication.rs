//! Authentication policies: what a request carries so that the other side knows who asks.

use data_encoding::BASE64;
use futures::future::BoxFuture;
use serde_json::Value;
use sinew_workflow::Fault;

use crate::call::Scope;
use crate::failure::Failure;

mod digest;
mod jwt;
mod oauth;
mod tokens;

pub(crate) use self::digest::Credentials;
pub(crate) use self::tokens::{TokenKey, Tokens};

/// What a policy comes to.
#[derive(Clone, Debug)]
pub(crate) enum Authorization {
    /// A value of the `authorization` header.
    Header {
        scheme: String,
        parameter: String,
        /// Where the token is kept, if it was fetched: to forget it when it is not accepted.
        cached: Option<TokenKey>,
    },
    /// An answer to what the other side asks first.
    Digest(Credentials),
}

impl Authorization {
    /// Returns `$authorization.parameter`, which digests do not have before they are asked.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match self {
            Self::Header { parameter, .. } => Some(parameter),
            Self::Digest(_) => None,
        }
    }
}

/// Finds out what a policy comes to, and fetches a token if it takes one.
///
/// Boxed, because a token may take a document of its authority, and a document a token.
pub(crate) fn resolve<'a>(
    scope: Scope<'a>,
    policy: Option<&'a Value>,
) -> BoxFuture<'a, Result<Option<Authorization>, Failure>> {
    match policy {
        Some(policy) => Box::pin(resolve_policy(scope, policy)),
        None => Box::pin(std::future::ready(Ok(None))),
    }
}

async fn resolve_policy(scope: Scope<'_>, policy: &Value) -> Result<Option<Authorization>, Failure> {
    let Some((scheme, body)) = policy.as_object().and_then(|policy| policy.iter().next()) else {
        return Err(Failure::configuration(
            "the authentication policy is not an object with a scheme such as `basic`",
        ));
    };
    if scheme == "use" {
        let detail = format!("there is no authentication policy {body}: define it in `use.authentications`");
        return Err(Failure::configuration(detail));
    }
    let body = policy_body(scope, body).map_err(Failure::refused)?;
    let header = |scheme: &str, parameter| {
        Ok(Some(Authorization::Header { scheme: scheme.to_owned(), parameter, cached: None }))
    };
    match scheme.as_str() {
        "basic" => {
            let user = format!("{}:{}", text(&body, "basic", "username")?, text(&body, "basic", "password")?);
            header("Basic", BASE64.encode(user.as_bytes()))
        }
        "bearer" => header("Bearer", text(&body, "bearer", "token")?.to_owned()),
        "digest" => {
            let (user, password) = (text(&body, "digest", "username")?, text(&body, "digest", "password")?);
            Ok(Some(Authorization::Digest(Credentials::new(user, password))))
        }
        "oauth2" | "oidc" => {
            let (key, token) = scope.core.tokens.get(scope, scheme == "oidc", &body).await?;
            Ok(Some(Authorization::Header {
                scheme: token.scheme,
                parameter: token.value,
                cached: Some(key),
            }))
        }
        "certificate" => Err(Failure::configuration(
            "`certificate` authentication is not part of DSL 1.0: use `oauth2`, `bearer`, `basic` or `digest`",
        )),
        other => Err(Failure::configuration(format!(
            "there is no authentication scheme `{other}`: write `basic`, `bearer`, `digest`, `oauth2` or `oidc`"
        ))),
    }
}

/// Reads the properties of a policy: its own, or those of the secret it uses.
pub(crate) fn policy_body(scope: Scope<'_>, body: &Value) -> Result<Value, Fault> {
    let Some(name) = body.get("use").and_then(Value::as_str) else { return scope.revealer().value(body) };
    scope.core.settings.secrets.get(name).cloned().ok_or_else(|| {
        Fault::authorization(format!(
            "there is no secret `{name}`: give it to whoever runs this workflow, under that name"
        ))
    })
}

/// Reads a text a policy must have.
fn text<'a>(body: &'a Value, scheme: &str, name: &str) -> Result<&'a str, Failure> {
    body.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::configuration(format!("the `{scheme}` policy needs `{name}`, a text")))
}

/// Says that nobody could be authenticated, so that nothing was sent.
fn unauthenticated(detail: impl Into<String>) -> Failure {
    Failure::not_sent(Fault::authentication(detail))
}
