//! The HTTP client of webhooks: pooled connections, TLS, and only to addresses that may be reached.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use sinew::Problem;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::either::Either;
use tower::Service;

use super::{failed, guard};

/// How long a connection is kept for the next event.
const KEEP: Duration = Duration::from_secs(30);
/// Most of an answer's body that is read, so that its connection can be used again; nobody looks at it.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends requests; cheap to clone.
#[derive(Clone)]
pub(super) struct Client(legacy::Client<Connector, Full<Bytes>>);

/// Opens connections.
#[derive(Clone)]
struct Connector {
    tls: Arc<ClientConfig>,
    allow_private: bool,
}

/// A connection, encrypted or not.
struct Link {
    io: TokioIo<Either<TcpStream, TlsStream<TcpStream>>>,
    h2: bool,
}

impl Client {
    /// Sets the client up, trusting whom this machine trusts.
    ///
    /// # Errors
    /// Says what is wrong with the machine's TLS.
    pub(super) fn new(allow_private: bool) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(KEEP).pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        Ok(Self(builder.build(Connector { tls: Arc::new(tls), allow_private })))
    }

    /// Sends a request and returns how it was answered. Redirects are not followed: they are answers like others.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<(StatusCode, HeaderMap), Problem> {
        let answered = self.0.request(request.map(Full::new)).await;
        let response = answered.map_err(|error| {
            let cause = root_cause(&error);
            match cause.contains(PRIVATE) {
                true => failed("private-address", cause),
                false => failed("unreachable", cause),
            }
        })?;
        let (head, mut body) = response.into_parts();
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MAX_ANSWER {
                break;
            }
        }
        Ok((head.status, head.headers))
    }
}

/// What is said of an address that may not be reached.
const PRIVATE: &str = "leads into a private network";

impl Connector {
    /// Every address of the name is checked, and the one connected to is one that was: a name that changes its mind in
    /// between changes nothing.
    async fn open(&self, uri: &Uri) -> io::Result<Link> {
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let host = uri.host().ok_or_else(|| io::Error::other("the address names no host"))?;
        // An IPv6 address is written in brackets in a URI, and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .filter(|address| self.allow_private || guard::is_public(address.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(io::Error::other(format!(
                "{host} {PRIVATE}: say `allow_private: true` if that is meant"
            )));
        }
        let stream = TcpStream::connect(allowed.as_slice()).await?;
        stream.set_nodelay(true)?;
        if !encrypted {
            return Ok(Link { io: TokioIo::new(Either::Left(stream)), h2: false });
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link { io: TokioIo::new(Either::Right(stream)), h2 })
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open(&uri).await })
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        if self.h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
