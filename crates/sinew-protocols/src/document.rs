//! Documents a call needs: fetched with their authentication, kept for a while, read as JSON or YAML.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::Method;
use ::http::header::{ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use bytes::Bytes;
use serde_json::Value;
use sinew_workflow::Fault;
use tokio::time::Instant;
use url::Url;

use crate::call::Scope;
use crate::client::Reply;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http;

/// How long a document is used before its server is asked whether it changed.
const FRESH: Duration = Duration::from_secs(60);
/// The most documents that are kept.
const KEPT: usize = 200;
/// How often a document may have moved.
const MOVES: usize = 5;

/// Documents that were read, by address.
///
/// The lock is held to look up and to put in, never while something is fetched.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    value: Arc<Value>,
    tag: Option<HeaderValue>,
    checked: Instant,
}

/// A document as it came, and where it really was.
#[derive(Debug)]
struct Fetched {
    body: Bytes,
    tag: Option<HeaderValue>,
    /// Whether it is the one that is kept.
    unchanged: bool,
}

/// Fetches an endpoint's content.
pub(crate) async fn fetch(scope: Scope<'_>, endpoint: &Value) -> Result<Bytes, Failure> {
    let endpoint = Endpoint::read(endpoint, None, scope.revealer())?;
    Ok(get(scope, &endpoint, None).await?.body)
}

/// Returns the endpoint of an external resource.
pub(crate) fn endpoint_of<'a>(arguments: &'a Value, name: &str) -> Result<&'a Value, Failure> {
    let missing = || Failure::configuration(format!("`{name}` has no `endpoint`: say where the document is"));
    arguments.get(name).and_then(|resource| resource.get("endpoint")).ok_or_else(missing)
}

impl Documents {
    /// Returns the document at an endpoint, the kept one while it is fresh or unchanged.
    pub(crate) async fn at(&self, scope: Scope<'_>, endpoint: &Endpoint) -> Result<Arc<Value>, Failure> {
        self.kept(scope, endpoint, "data", read).await
    }

    /// Like [`at`](Self::at), for a document that is a text in a language of its own.
    pub(crate) async fn text(&self, scope: Scope<'_>, endpoint: &Endpoint) -> Result<Arc<Value>, Failure> {
        self.kept(scope, endpoint, "text", |body| Ok(Value::String(text(body)?.to_owned()))).await
    }

    async fn kept(
        &self,
        scope: Scope<'_>,
        endpoint: &Endpoint,
        kind: &str,
        read: fn(&[u8]) -> Result<Value, Failure>,
    ) -> Result<Arc<Value>, Failure> {
        // Who may see it is part of which document it is.
        let policy = endpoint.authentication.as_ref().map(Value::to_string).unwrap_or_default();
        let key = format!("{kind} {} {policy}", endpoint.url);
        let kept = self.lock().get(&key).cloned();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.checked.elapsed() < FRESH) {
            return Ok(kept.value.clone());
        }
        let fetched = get(scope, endpoint, kept.as_ref().and_then(|kept| kept.tag.clone())).await;
        let doing = || format!("fetching {}", endpoint.shown);
        let fetched = fetched.map_err(|failure| failure.of_safe_request().during(&doing()))?;
        let value = match kept {
            Some(kept) if fetched.unchanged => kept.value,
            _ => Arc::new(read(&fetched.body).map_err(|failure| failure.during(&doing()))?),
        };
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, kept| kept.checked.elapsed() < FRESH);
            if kept.len() >= KEPT {
                kept.clear();
            }
        }
        kept.insert(key, Kept { value: value.clone(), tag: fetched.tag, checked: Instant::now() });
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        // Nothing is done under this lock that could panic half way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a document: JSON, or else YAML.
pub(crate) fn read(body: &[u8]) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    serde_saphyr::from_str(text(body)?).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        Failure::configuration(format!("the document is neither JSON nor YAML: {first}"))
    })
}

fn text(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|_| Failure::configuration("the document is not text"))
}

/// Fetches what is at an endpoint, wherever it moved.
async fn get(scope: Scope<'_>, endpoint: &Endpoint, tag: Option<HeaderValue>) -> Result<Fetched, Failure> {
    if endpoint.url.scheme() == "file" {
        return file(scope, &endpoint.url).await;
    }
    let endpoint = endpoint.clone().http()?;
    let mut url = endpoint.url.clone();
    for _ in 0..MOVES {
        // Credentials are for the origin they were given for.
        let policy = endpoint.authentication.as_ref().filter(|_| url.origin() == endpoint.url.origin());
        let reply = ask(scope, &url, policy, tag.clone()).await?;
        if tag.is_some() && reply.status == 304 {
            return Ok(Fetched { body: Bytes::new(), tag, unchanged: true });
        }
        let location = reply.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|_| reply.status.is_redirection()).and_then(|location| url.join(location).ok())
        {
            Some(next) if matches!(next.scheme(), "http" | "https") => url = next,
            _ => return fetched(reply),
        }
    }
    Err(Failure::refused(Fault::communication(format!("{} moved more than {MOVES} times", endpoint.shown))))
}

fn fetched(reply: Reply) -> Result<Fetched, Failure> {
    match http::refusal(&Method::GET, &reply, false) {
        Some(failure) => Err(failure),
        None => Ok(Fetched { tag: reply.headers.get(ETAG).cloned(), body: reply.body, unchanged: false }),
    }
}

async fn ask(
    scope: Scope<'_>,
    url: &Url,
    policy: Option<&Value>,
    tag: Option<HeaderValue>,
) -> Result<Reply, Failure> {
    http::authorized(scope, policy, |_| {
        let headers = tag.iter().map(|tag| (IF_NONE_MATCH, tag.clone())).collect();
        http::plain(Method::GET, url, headers, Bytes::new())
    })
    .await
}

/// Reads a file, if it is below a directory whose files may be read.
async fn file(scope: Scope<'_>, url: &Url) -> Result<Fetched, Failure> {
    let allowed = &scope.core.settings.allow.file;
    // `file://app/greet.proto` names no host in practice, but a path relative to an allowed directory.
    let relative = url.host_str().map(|host| format!("{host}{}", url.path()));
    let wanted = |directory: &Path| match &relative {
        Some(path) => Some(directory.join(path)),
        None => url.to_file_path().ok(),
    };
    for directory in allowed {
        let Ok(directory) = tokio::fs::canonicalize(directory).await else { continue };
        let Some(Ok(path)) = resolved(wanted(&directory)).await else { continue };
        if path.starts_with(&directory) {
            return read_file(scope, &path).await;
        }
    }
    Err(Failure::configuration(format!(
        "`{url}` may not be read, or does not exist: `allow.file` names the directories it may be in"
    )))
}

async fn resolved(path: Option<PathBuf>) -> Option<std::io::Result<PathBuf>> {
    Some(tokio::fs::canonicalize(path?).await)
}

async fn read_file(scope: Scope<'_>, path: &Path) -> Result<Fetched, Failure> {
    use tokio::io::AsyncReadExt as _;

    let limit = scope.core.settings.max_body;
    let unreadable =
        |error: std::io::Error| Failure::configuration(format!("the file cannot be read: {error}"));
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut body = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut body).await.map_err(unreadable)?;
    if body.len() > limit {
        return Err(Failure::configuration(format!(
            "the file is larger than {limit} bytes: raise `max_body`"
        )));
    }
    Ok(Fetched { body: body.into(), tag: None, unchanged: false })
}
