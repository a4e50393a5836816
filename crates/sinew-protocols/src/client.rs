//! The HTTP client under every protocol: pooled connections, bounded replies, and honest failures.
//!
//! It knows whether a request reached a connection, which is what tells "not sent" from "unknown".

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sinew_workflow::Fault;
use tokio::time::{Instant, timeout_at};

use self::connect::Connector;
pub(crate) use self::connect::Stream;
use crate::failure::Failure;
use crate::{Error, Settings};

mod connect;
mod gzip;

/// How long a connection is kept for the next request: shorter than what servers usually keep, because a request on one
/// that the server just closed has an unknown outcome.
const KEEP: Duration = Duration::from_secs(30);

/// Sends requests and reads their replies; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    connector: Connector,
    any: legacy::Client<Connector, Full<Bytes>>,
    /// Speaks HTTP/2 from the first byte, as gRPC wants it.
    h2: legacy::Client<Connector, Full<Bytes>>,
    max_body: usize,
}

/// A reply that came completely.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// Sets the client up.
    ///
    /// # Errors
    /// [`Error::Setting`] for certificates that cannot be read.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let connector = Connector::new(settings)?;
        let builder = |h2| {
            let mut builder = legacy::Client::builder(TokioExecutor::new());
            builder
                .pool_idle_timeout(KEEP)
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .http2_only(h2);
            builder
        };
        Ok(Self {
            any: builder(false).build(connector.clone()),
            h2: builder(true).build(connector.clone()),
            connector,
            max_body: settings.max_body,
        })
    }

    /// Returns what opens bare connections, for protocols that are not HTTP.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Returns the most bytes of a reply that are read.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// Sends a request and reads the whole reply, whatever its status.
    pub(crate) async fn send(
        &self,
        mut request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        let request_method = request.method().clone();
        let response = self.open(request, deadline).await?;
        let read = self.read(response, deadline).await;
        read.map_err(|failure| of_method(failure, &request_method))
    }

    /// Sends a request and returns once the head of its reply came.
    pub(crate) async fn open(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        open(&self.any, request, deadline).await
    }

    /// Like [`open`](Self::open), over HTTP/2 without asking.
    pub(crate) async fn open_h2(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        open(&self.h2, request, deadline).await
    }

    /// Reads the rest of a reply.
    pub(crate) async fn read(
        &self,
        response: Response<Incoming>,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let (head, body) = response.into_parts();
        let body = timeout_at(deadline, Limited::new(body, self.max_body).collect());
        let body = match body.await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(self.too_large()),
            Ok(Err(error)) => {
                return Err(Failure::unknown(Fault::communication(format!("the reply broke off: {error}"))));
            }
            Err(_) => return Err(Failure::unknown(Fault::timeout("the reply did not end in time"))),
        };
        let zipped = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let body = if zipped {
            gzip::decode(&body, self.max_body).map_err(|broken| self.undecoded(broken))?
        } else {
            body
        };
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    fn undecoded(&self, broken: gzip::Broken) -> Failure {
        match broken {
            gzip::Broken::TooLarge => self.too_large(),
            gzip::Broken::Data => {
                Failure::unknown(Fault::communication("the reply is not the gzip it claims to be"))
            }
        }
    }

    fn too_large(&self) -> Failure {
        let detail =
            format!("the reply is larger than {} bytes: ask for less, or raise `max_body`", self.max_body);
        Failure::unknown(Fault::communication(detail))
    }
}

/// Tells whether a method changes nothing on the other side.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

async fn open(
    client: &legacy::Client<Connector, Full<Bytes>>,
    request: Request<Bytes>,
    deadline: Instant,
) -> Result<Response<Incoming>, Failure> {
    let mut request = request.map(Full::new);
    let (method, host) = (request.method().clone(), host(&request));
    let connection = capture_connection(&mut request);
    let sent = || connection.connection_metadata().is_some();
    match timeout_at(deadline, client.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(of_method(lost(&error, &host), &method)),
        Err(_) if sent() => Err(of_method(
            Failure::unknown(Fault::timeout(format!("{host} did not answer in time"))),
            &method,
        )),
        Err(_) => Err(Failure::not_sent(Fault::timeout(format!("no connection to {host} in time")))),
    }
}

fn of_method(failure: Failure, method: &Method) -> Failure {
    if is_safe(method) { failure.of_safe_request() } else { failure }
}

/// Says what became of a request whose reply did not come.
fn lost(error: &ClientError, host: &str) -> Failure {
    let cause = root_cause(error);
    let mut sources = std::iter::successors(std::error::Error::source(error), |&error| error.source());
    // Taken back before a connection wrote it.
    let canceled =
        sources.any(|error| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled));
    if error.is_connect() || canceled {
        return Failure::not_sent(Fault::communication(format!("{host} cannot be reached: {cause}")));
    }
    Failure::unknown(Fault::communication(format!(
        "the connection to {host} was lost before it answered: {cause}"
    )))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Names the host of a request without what a URI may hide in front of it.
fn host<B>(request: &Request<B>) -> String {
    let uri = request.uri();
    let host = uri.host().unwrap_or("the host");
    uri.port().map_or_else(|| format!("`{host}`"), |port| format!("`{host}:{port}`"))
}
