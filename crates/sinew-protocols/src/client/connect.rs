//! Opens connections: names to addresses, TCP, TLS.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_util::either::Either;
use tower::Service;

use crate::{Error, Settings};

/// How long a host may take to accept a connection, TLS included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, encrypted or not.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    resolve: Arc<BTreeMap<String, SocketAddr>>,
    tls: Arc<ClientConfig>,
    /// The same without offering HTTP.
    raw_tls: Arc<ClientConfig>,
}

/// A connection as the HTTP client wants it.
#[derive(Debug)]
pub(crate) struct Link {
    io: TokioIo<Stream>,
    h2: bool,
}

impl Connector {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Setting { name: "extra_roots", reason: error.to_string() })?
            .with_root_certificates(roots(&settings.extra_roots)?)
            .with_no_client_auth();
        let raw_tls = Arc::new(tls.clone());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { resolve: Arc::new(settings.resolve.clone()), tls: Arc::new(tls), raw_tls })
    }

    /// Opens a connection to a host, for protocols other than HTTP.
    ///
    /// # Errors
    /// Whatever the network says; nothing was sent then.
    pub(crate) async fn open_raw(&self, host: &str, port: u16, encrypted: bool) -> io::Result<Stream> {
        let tls = encrypted.then_some(&self.raw_tls);
        patiently(self.open(host, port, tls)).await
    }

    /// Encrypts a connection that began without.
    ///
    /// # Errors
    /// Whatever the network or the certificate of the host says.
    pub(crate) async fn encrypt(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        match stream {
            Either::Left(stream) => patiently(secure(host, stream, &self.raw_tls)).await,
            encrypted @ Either::Right(_) => Ok(encrypted),
        }
    }

    async fn open(&self, host: &str, port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
        // An IPv6 address is written in brackets in a URI, and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = match self.resolve.get(&format!("{host}:{port}")) {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((host, port)).await?,
        };
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) => secure(host, stream, tls).await,
            None => Ok(Either::Left(stream)),
        }
    }
}

async fn secure(host: &str, stream: TcpStream, tls: &Arc<ClientConfig>) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Either::Right(TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

async fn patiently(opening: impl Future<Output = io::Result<Stream>>) -> io::Result<Stream> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect");
    tokio::time::timeout(PATIENCE, opening).await.map_err(late)?
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("resolve", &self.resolve).finish_non_exhaustive()
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
        Box::pin(async move {
            let encrypted = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
            let host = uri.host().ok_or_else(|| io::Error::other("the URI names no host"))?;
            let tls = encrypted.then_some(&connector.tls);
            let stream = patiently(connector.open(host, port, tls)).await?;
            let h2 = matches!(&stream, Either::Right(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"));
            Ok(Link { io: TokioIo::new(stream), h2 })
        })
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

/// Collects whom to trust: the system's authorities and the given ones.
fn roots(extra: &[String]) -> Result<RootCertStore, Error> {
    let unusable = |reason| Error::Setting { name: "extra_roots", reason };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for pem in extra {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(unusable(
                "it holds no certificate: give the PEM text, not the path of a file".to_owned(),
            ));
        }
    }
    Ok(roots)
}
