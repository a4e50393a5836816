//! OAuth 2.0 and OpenID Connect: asks the authority for a token, with the grants that need no browser.

use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{Method, Request};
use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::tokens::Token;
use super::{jwt, text, unauthenticated};
use crate::call::Scope;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// How long a token is used that does not say how long it is valid.
const UNSAID: Duration = Duration::from_secs(60);

/// The fields of a request for a token.
type Fields = Map<String, Value>;

/// Fetches a token. `refresh` replaces the refresh token of the policy, once the authority gave a newer one.
pub(super) async fn fetch(
    scope: Scope<'_>,
    oidc: bool,
    policy: &Value,
    refresh: Option<&str>,
) -> Result<Token, Failure> {
    let endpoint = token_endpoint(scope, oidc, policy).await?;
    let mut fields = grant(policy, refresh)?;
    let authorization = authenticate(policy, &endpoint, &mut fields)?;
    let request = request(policy, &endpoint, &fields, authorization)?;
    let reply = scope.core.client.send(request, scope.deadline).await;
    let asking = format!("asking {} for a token", endpoint.host_str().unwrap_or("the authority"));
    // The other side of the call was not asked yet, whatever became of the token.
    let reply = reply.map_err(|failure| {
        let detail = failure.fault.detail.unwrap_or_default();
        unauthenticated(format!("{asking}: {detail}"))
    })?;
    let said = http::content(&reply).unwrap_or_default();
    if !reply.status.is_success() {
        return Err(unauthenticated(format!("{asking}: {}", refused(&said, reply.status))));
    }
    token(policy, &said).map_err(|failure| failure.during(&asking))
}

/// Finds where tokens are given: said by the policy, or by the authority itself.
async fn token_endpoint(scope: Scope<'_>, oidc: bool, policy: &Value) -> Result<Url, Failure> {
    let authority = text(policy, "oauth2", "authority")?;
    let given = policy.pointer("/endpoints/token").and_then(Value::as_str);
    if let Some(given) = given.filter(|given| given.contains("://")) {
        return parse(given);
    }
    if oidc || given.is_none() && authority.ends_with(DISCOVERY) {
        return discover(scope, authority).await;
    }
    let base = authority.trim_end_matches('/').trim_end_matches(DISCOVERY);
    let path = given.unwrap_or("/oauth2/token");
    parse(&format!("{base}/{}", path.trim_start_matches('/')))
}

/// Asks an OpenID provider about itself.
async fn discover(scope: Scope<'_>, authority: &str) -> Result<Url, Failure> {
    let base = authority.trim_end_matches('/').trim_end_matches(DISCOVERY);
    let url = parse(&format!("{base}{DISCOVERY}"))?;
    let endpoint = Endpoint { url: url.clone(), shown: url.to_string(), authentication: None };
    let known = scope.core.documents.at(scope, &endpoint);
    let known = known.await.map_err(|failure| {
        unauthenticated(format!(
            "discovering the OpenID provider: {}",
            failure.fault.detail.unwrap_or_default()
        ))
    })?;
    match known.get("token_endpoint").and_then(Value::as_str) {
        Some(endpoint) => parse(endpoint),
        None => Err(unauthenticated(format!("{url} names no `token_endpoint`: check the `authority`"))),
    }
}

/// Writes what is asked for.
fn grant(policy: &Value, refresh: Option<&str>) -> Result<Fields, Failure> {
    let grant = text(policy, "oauth2", "grant")?;
    let mut fields = Fields::new();
    let mut set = |name: &str, value: &str| fields.insert(name.to_owned(), Value::String(value.to_owned()));
    set("grant_type", grant);
    match grant {
        "client_credentials" => {}
        "password" => {
            set("username", text(policy, grant, "username")?);
            set("password", text(policy, grant, "password")?);
        }
        "refresh_token" => {
            let given = policy.pointer("/subject/token").and_then(Value::as_str);
            let missing =
                || Failure::configuration("the grant `refresh_token` takes the token from `subject.token`");
            set("refresh_token", refresh.or(given).ok_or_else(missing)?);
        }
        EXCHANGE => {
            let missing =
                || Failure::configuration("a token exchange needs `subject`, with its `token` and `type`");
            let subject = policy.get("subject").ok_or_else(missing)?;
            set("subject_token", text(subject, "subject", "token")?);
            set("subject_token_type", text(subject, "subject", "type")?);
            if let Some(actor) = policy.get("actor") {
                set("actor_token", text(actor, "actor", "token")?);
                set("actor_token_type", text(actor, "actor", "type")?);
            }
        }
        "authorization_code" => {
            return Err(Failure::configuration(
                "`authorization_code` needs a person with a browser: use `client_credentials`, or `refresh_token` with a token \
                 a person once got",
            ));
        }
        other => return Err(Failure::configuration(format!("there is no grant `{other}`"))),
    }
    let scopes = texts(policy, "scopes");
    if !scopes.is_empty() {
        set("scope", &scopes.join(" "));
    }
    match texts(policy, "audiences")[..] {
        [] => {}
        [one] => {
            set("audience", one);
        }
        ref several => {
            fields.insert("audience".to_owned(), several.iter().copied().collect());
        }
    }
    Ok(fields)
}

/// Adds what proves who asks, and returns the header if it is one.
fn authenticate(policy: &Value, endpoint: &Url, fields: &mut Fields) -> Result<Option<String>, Failure> {
    let Some(client) = policy.get("client") else { return Ok(None) };
    let of = |name: &str| client.get(name).and_then(Value::as_str);
    let needed = |name: &str| text(client, "client", name);
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), Value::String(value));
    match of("authentication").unwrap_or("client_secret_post") {
        "client_secret_post" => {
            set("client_id", needed("id")?.to_owned());
            // Public clients have no secret.
            if let Some(secret) = of("secret") {
                set("client_secret", secret.to_owned());
            }
        }
        "client_secret_basic" => {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let user = format!("{}:{}", encode(needed("id")?), encode(needed("secret")?));
            return Ok(Some(format!("Basic {}", BASE64.encode(user.as_bytes()))));
        }
        "client_secret_jwt" => {
            let assertion = jwt::assertion(needed("id")?, needed("secret")?, endpoint.as_str());
            set("client_assertion_type", ASSERTION.to_owned());
            set("client_assertion", assertion);
        }
        "private_key_jwt" => {
            set("client_assertion_type", ASSERTION.to_owned());
            set("client_assertion", needed("assertion")?.to_owned());
        }
        "none" => {
            if let Some(id) = of("id") {
                set("client_id", id.to_owned());
            }
        }
        other => return Err(Failure::configuration(format!("there is no client authentication `{other}`"))),
    }
    Ok(None)
}

fn request(
    policy: &Value,
    endpoint: &Url,
    fields: &Fields,
    authorization: Option<String>,
) -> Result<Request<Bytes>, Failure> {
    let form = "application/x-www-form-urlencoded";
    let encoding = policy.pointer("/request/encoding").and_then(Value::as_str).unwrap_or(form);
    let (kind, body) = match encoding {
        "application/json" => ("application/json", Value::Object(fields.clone()).to_string()),
        encoding if encoding == form => {
            (form, http::form(fields.iter().map(|(name, value)| (name.as_str(), value))))
        }
        other => return Err(Failure::configuration(format!("tokens cannot be asked for in `{other}`"))),
    };
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::uri(endpoint)?;
    let mut set = |name: HeaderName, value| request.headers_mut().insert(name, value);
    set(CONTENT_TYPE, HeaderValue::from_static(kind));
    set(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = authorization {
        set(AUTHORIZATION, http::sensitive(&authorization)?);
    }
    Ok(request)
}

/// Reads the token out of what the authority said.
fn token(policy: &Value, said: &Value) -> Result<Token, Failure> {
    let of = |name: &str| said.get(name).and_then(Value::as_str);
    let Some(value) = of("access_token") else {
        return Err(unauthenticated(
            "the answer has no `access_token`: check the path of the token endpoint",
        ));
    };
    let issuers = texts(policy, "issuers");
    if !issuers.is_empty() {
        let issuer = jwt::issuer(value);
        if !issuer.as_deref().is_some_and(|issuer| issuers.contains(&issuer)) {
            let issuer = issuer.map_or_else(|| "nobody it names".to_owned(), |issuer| format!("`{issuer}`"));
            return Err(unauthenticated(format!(
                "the token is issued by {issuer}, which is not one of `issuers`"
            )));
        }
    }
    // Servers differ in how they write a life: as a number, or as a text that is one.
    let life = said.get("expires_in").and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
    let life = life.map_or(UNSAID, |life| Token::usable(Duration::from_secs(life.min(86_400))));
    let scheme = match of("token_type") {
        Some(kind) if !kind.eq_ignore_ascii_case("bearer") => kind.to_owned(),
        _ => "Bearer".to_owned(),
    };
    let refresh = of("refresh_token").map(str::to_owned);
    Ok(Token { scheme, value: value.to_owned(), expires: Instant::now() + life, refresh })
}

fn refused(said: &Value, status: ::http::StatusCode) -> String {
    let of = |name: &str| said.get(name).and_then(Value::as_str);
    match (of("error"), of("error_description")) {
        (Some(error), Some(description)) => format!("{error}: {description}"),
        (Some(error), None) => error.to_owned(),
        _ => http::title(status),
    }
}

fn texts<'a>(policy: &'a Value, name: &str) -> Vec<&'a str> {
    policy.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn parse(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|error| Failure::configuration(format!("the authority is not a URI: {error}")))
}
