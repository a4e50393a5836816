//! `call: http`: one request and its reply.

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT,
    WWW_AUTHENTICATE,
};
use ::http::{HeaderMap, Method, Request, Response, Uri};
use bytes::Bytes;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use sinew_workflow::Fault;
use url::Url;

use crate::authentication::{self, Authorization};
use crate::call::Scope;
use crate::client::{Reply, is_safe};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::secrets::{self, Revealer};

mod body;
mod output;
mod status;

pub(crate) use self::body::{form, is_json, media_type};
pub(crate) use self::output::{Output, content};
pub(crate) use self::status::{refusal, title};

const AGENT: &str = concat!("sinew/", env!("CARGO_PKG_VERSION"));
const ACCEPTED: &str = "application/json, text/plain;q=0.9, */*;q=0.8";
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// A request as a definition describes it: its secrets are placeholders still.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) method: Method,
    pub(crate) endpoint: Endpoint,
    /// Added to what the URI already asks.
    pub(crate) query: Vec<(String, Value)>,
    pub(crate) headers: Vec<(String, Value)>,
    pub(crate) body: Value,
    pub(crate) output: Output,
    /// Whether a redirection is a result rather than an error.
    pub(crate) redirect: bool,
}

/// Carries out `call: http`.
pub(crate) async fn call(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    let endpoint = arguments.get("endpoint").unwrap_or(&Value::Null);
    let template = Template {
        method: method(arguments.get("method"))?,
        endpoint: Endpoint::read(endpoint, None, scope.revealer())?.http()?,
        query: members(arguments, "query")?,
        headers: members(arguments, "headers")?,
        body: arguments.get("body").cloned().unwrap_or_default(),
        output: Output::read(arguments.get("output"))?,
        redirect: redirect(arguments),
    };
    template.perform(scope).await
}

/// Reads whether redirections are results.
pub(crate) fn redirect(arguments: &Value) -> bool {
    arguments.get("redirect").and_then(Value::as_bool).unwrap_or_default()
}

impl Template {
    /// Sends the request and turns its reply into the output of the task.
    pub(crate) async fn perform(&self, scope: Scope<'_>) -> Result<Value, Failure> {
        let reply = self.exchange(scope).await?;
        if let Some(failure) = refusal(&self.method, &reply, self.redirect) {
            return Err(failure);
        }
        self.output.of(self, reply).map_err(|fault| {
            let failure = Failure::unknown(fault);
            if is_safe(&self.method) { failure.of_safe_request() } else { failure }
        })
    }

    async fn exchange(&self, scope: Scope<'_>) -> Result<Reply, Failure> {
        let policy = self.endpoint.authentication.as_ref();
        authorized(scope, policy, |authorization| self.request(scope, authorization)).await
    }

    /// Writes the request out, secrets and all.
    fn request(
        &self,
        scope: Scope<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Request<Bytes>, Failure> {
        let parameter = authorization.and_then(Authorization::parameter);
        let revealer = scope.revealer().with_authorization(parameter);
        let mut headers = headers(&self.headers, revealer)?;
        let body = revealer.value(&self.body).map_err(Failure::refused)?;
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let (body, kind) = body::encode(&body, kind)?;
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        add_context(scope, &self.method, &mut headers);
        let url = self.url(|value| revealer.value(value))?;
        plain(self.method.clone(), &url, headers, body)
    }

    /// Returns the URL with its query, in which values are written by `show`.
    fn url(&self, show: impl Fn(&Value) -> Result<Value, Fault>) -> Result<Url, Failure> {
        let mut url = self.endpoint.url.clone();
        url.set_fragment(None);
        for (name, value) in &self.query {
            let value = show(value).map_err(Failure::refused)?;
            append_with(&mut url, name, &value, scalar);
        }
        Ok(url)
    }

    /// Returns the address and the headers as a person may see them, without what secrets stand for.
    fn shown(&self) -> (String, Map<String, Value>) {
        let masked = |value: &Value| secrets::mask(&scalar(value)).into_owned();
        let uri = match Url::parse(&self.endpoint.shown) {
            Ok(mut shown) => {
                for (name, value) in &self.query {
                    append_with(&mut shown, name, value, masked);
                }
                shown.to_string()
            }
            // What a secret hides altogether has no parts to show.
            Err(_) => self.endpoint.shown.clone(),
        };
        let public = self
            .headers
            .iter()
            .filter(|(name, value)| !value.is_null() && !name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
        let public = public.map(|(name, value)| (name.to_ascii_lowercase(), Value::String(masked(value))));
        (uri, public.collect())
    }
}

/// Makes a request with what every request has.
pub(crate) fn plain(
    method: Method,
    url: &Url,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Bytes>, Failure> {
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static(ACCEPTED));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri(url)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends a request with what a policy wants it to carry, and reads the whole reply.
pub(crate) async fn authorized(
    scope: Scope<'_>,
    policy: Option<&Value>,
    build: impl Fn(Option<&Authorization>) -> Result<Request<Bytes>, Failure>,
) -> Result<Reply, Failure> {
    let packed = |authorization: Option<&Authorization>| {
        let mut request = build(authorization)?;
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        Ok(request)
    };
    let response = opened(scope, policy, packed).await?;
    let safe = response.extensions().get::<Safe>().is_some();
    let read = scope.core.client.read(response, scope.deadline).await;
    read.map_err(|failure| if safe { failure.of_safe_request() } else { failure })
}

/// Sends a request with what a policy wants it to carry, and returns once the head of the reply came.
///
/// Whoever says 401 did nothing, so the request is repeated once with an answer to the challenge, or with a newer token.
pub(crate) async fn opened(
    scope: Scope<'_>,
    policy: Option<&Value>,
    build: impl Fn(Option<&Authorization>) -> Result<Request<Bytes>, Failure>,
) -> Result<Response<Incoming>, Failure> {
    let client = &scope.core.client;
    let authorization = authentication::resolve(scope, policy).await?;
    let request = signed(build(authorization.as_ref())?, authorization.as_ref())?;
    let (method, target) = (request.method().clone(), request.uri().path_and_query().cloned());
    let response = client.open(request, scope.deadline).await?;
    let mut response = match &authorization {
        Some(Authorization::Digest(credentials)) if response.status() == 401 => {
            let challenges = response.headers().get_all(WWW_AUTHENTICATE);
            let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
            let target = target.as_ref().map_or("/", |target| target.as_str());
            match credentials.answer(challenges, &method, target) {
                Some(answer) => {
                    let mut request = build(authorization.as_ref())?;
                    request.headers_mut().insert(AUTHORIZATION, sensitive(&answer)?);
                    client.open(request, scope.deadline).await?
                }
                None => response,
            }
        }
        Some(Authorization::Header { cached: Some(key), parameter, .. }) if response.status() == 401 => {
            scope.core.tokens.forget(key, parameter).await;
            let authorization = authentication::resolve(scope, policy).await?;
            let request = signed(build(authorization.as_ref())?, authorization.as_ref())?;
            client.open(request, scope.deadline).await?
        }
        _ => response,
    };
    if is_safe(&method) {
        response.extensions_mut().insert(Safe);
    }
    Ok(response)
}

/// Marks the reply to a request that changed nothing.
#[derive(Clone, Copy, Debug)]
struct Safe;

/// Adds the authorization to a request, if it is one to add.
pub(crate) fn signed(
    mut request: Request<Bytes>,
    authorization: Option<&Authorization>,
) -> Result<Request<Bytes>, Failure> {
    if let Some(Authorization::Header { scheme, parameter, .. }) = authorization {
        request.headers_mut().insert(AUTHORIZATION, sensitive(&format!("{scheme} {parameter}"))?);
    }
    Ok(request)
}

/// Reads the method, in any case.
fn method(value: Option<&Value>) -> Result<Method, Failure> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| {
        Failure::configuration(format!("`{text}` is not an HTTP method: write one such as `get` or `post`"))
    })
}

/// Reads an object of the arguments as pairs.
pub(crate) fn members(arguments: &Value, name: &str) -> Result<Vec<(String, Value)>, Failure> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(members)) => Ok(members.clone().into_iter().collect()),
        Some(_) => Err(Failure::configuration(format!("`{name}` is not an object: write names and values"))),
    }
}

/// Adds a parameter to a query; a list repeats it, and null leaves it out.
fn append_with(url: &mut Url, name: &str, value: &Value, write: impl Fn(&Value) -> String + Copy) {
    match value {
        Value::Null => {}
        Value::Array(values) => values.iter().for_each(|value| append_with(url, name, value, write)),
        value => {
            url.query_pairs_mut().append_pair(name, &write(value));
        }
    }
}

/// Writes a value as a text: a text as it is, anything else as JSON.
pub(crate) fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reveals and checks headers.
pub(crate) fn headers(given: &[(String, Value)], revealer: Revealer<'_>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let value = revealer.value(value).map_err(Failure::refused)?;
        if value.is_null() {
            continue;
        }
        let unusable = || {
            let detail =
                format!("the header `{name}` cannot be sent: it has characters headers may not have");
            Failure::configuration(detail)
        };
        let key = HeaderName::try_from(name.as_str()).map_err(|_| unusable())?;
        let mut value = HeaderValue::try_from(scalar(&value)).map_err(|_| unusable())?;
        value.set_sensitive(key == AUTHORIZATION);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Adds what the other side needs to recognise a repetition and to continue the trace.
pub(crate) fn add_context(scope: Scope<'_>, method: &Method, headers: &mut HeaderMap) {
    if !is_safe(method) && !scope.key.is_empty() {
        add(headers, KEY, scope.key);
    }
    if let Some(traceparent) = scope.traceparent {
        add(headers, TRACE, traceparent);
    }
}

/// Adds a header the author did not give, if its value can be one.
fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.entry(name).or_insert(value);
    }
}

pub(crate) fn sensitive(value: &str) -> Result<HeaderValue, Failure> {
    let unusable = "the credentials have characters a header may not have: check the secret for line ends";
    let mut value = HeaderValue::try_from(value).map_err(|_| Failure::configuration(unusable))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn uri(url: &Url) -> Result<Uri, Failure> {
    let unusable =
        |_| Failure::configuration("the endpoint cannot be written as an HTTP target: check its characters");
    url.as_str().parse().map_err(unusable)
}
