//! Reaching a server: which one, over TCP or TLS, and the greeting. Knows addresses, not messages.

use std::{io, pin::Pin, sync::Arc, task, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{
    address::{self, Address},
    auth::{Connect, Credentials},
    protocol::{self, Frame, ServerInfo},
    supported,
};
use crate::{Config, Error, Kind};

/// Longest time one server may take to be reached and to greet, while others stand by.
const PATIENCE: Duration = Duration::from_secs(2);
/// Addresses remembered beside the configured ones, as the servers of a cluster tell each other.
const MAX_TOLD: usize = 64;

/// A connection whose greeting is done.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) info: ServerInfo,
    /// What came behind the greeting.
    pub(super) buffer: BytesMut,
    pub(super) address: Address,
}

/// The socket.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Knows the servers of the cluster, and tries one after the other.
pub(super) struct Dialer {
    config: Config,
    credentials: Option<Credentials>,
    configured: Vec<Address>,
    /// Servers that other servers told us about.
    told: Vec<Address>,
    turn: usize,
}

impl Dialer {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// [`Kind::Config`] for an unusable address or credentials file.
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let configured = address::all(&config.url)?;
        let credentials = Credentials::read(config).await?;
        Ok(Self { config: config.clone(), credentials, configured, told: Vec::new(), turn: 0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Makes the first connection: every server is asked until the configured time is over.
    ///
    /// # Errors
    /// What the last server said, or [`Kind::Disconnected`] when none answered.
    pub(super) async fn first(&mut self) -> Result<Connection, Error> {
        let limit = self.config.connect_timeout();
        let attempts = async {
            let mut last = None;
            for _ in 0..self.configured.len() {
                match self.next().await {
                    Ok(connection) => return Ok(connection),
                    // A server that refuses us counts more than one that is not there.
                    Err(error) if last.is_none() || error.kind() != Kind::Disconnected => last = Some(error),
                    Err(_) => {}
                }
            }
            Err(last)
        };
        let outcome = tokio::time::timeout(limit, attempts).await;
        match outcome {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Some(error))) => Err(error),
            Ok(Err(None)) | Err(_) => Err(self.unreachable()),
        }
    }

    /// Tries the next server.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] when it cannot be reached, [`Kind::Permission`] when it refuses the identity,
    /// [`Kind::Unsupported`] when it is too old.
    pub(super) async fn next(&mut self) -> Result<Connection, Error> {
        let count = self.configured.len() + self.told.len();
        let address = self.configured.iter().chain(&self.told).cycle().nth(self.turn % count.max(1)).cloned();
        self.turn = (self.turn + 1) % count.max(1);
        let Some(address) = address else { return Err(self.unreachable()) };
        // Credentials expire and are written anew. A file that is gone, or half written, leaves those we have.
        if let Ok(Some(fresh)) = Credentials::read(&self.config).await {
            self.credentials = Some(fresh);
        }
        let limit = if count > 1 { PATIENCE } else { self.config.connect_timeout() };
        match tokio::time::timeout(limit, self.dial(address)).await {
            Ok(made) => made,
            Err(_) => Err(self.unreachable()),
        }
    }

    /// Says whether there is somewhere else to go.
    pub(super) fn has_choice(&self) -> bool {
        self.configured.len() + self.told.len() > 1
    }

    /// Remembers the servers a server told about, and forgets those it does not know any more.
    pub(super) fn learn(&mut self, info: &ServerInfo, from: &Address) {
        if info.connect_urls.is_empty() {
            return;
        }
        self.told.clear();
        for text in &info.connect_urls {
            let Ok(told) = text.parse::<Address>() else { continue };
            let told = told.told_by(from);
            let mut known = self.configured.iter().chain(&self.told);
            if self.told.len() < MAX_TOLD && !known.any(|a| a.host == told.host && a.port == told.port) {
                self.told.push(told);
            }
        }
    }

    async fn dial(&self, address: Address) -> Result<Connection, Error> {
        let lost = |error: io::Error| self.unreachable().because(error);
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(lost)?;
        tcp.set_nodelay(true).map_err(lost)?;
        let mut stream = Stream::Plain(tcp);
        let mut buffer = BytesMut::with_capacity(16 << 10);
        let Frame::Info(info) = heard(&mut stream, &mut buffer).await.map_err(lost)? else {
            return Err(self.unreachable());
        };
        supported(&info)?;
        let encrypted = address.tls || info.tls_required || self.config.tls_ca.is_some();
        if encrypted {
            if !buffer.is_empty() {
                // Anybody on the way may have written it; behind the handshake it would pass for the server's.
                return Err(self.unreachable().because("more than a greeting came before the encryption"));
            }
            stream = self.encrypt(stream, &address).await?;
        }
        let connect = Connect::new(&self.config, &address, self.credentials.as_ref(), &info, encrypted)?;
        let text = serde_json::to_string(&connect).map_err(|error| {
            Error::new(Kind::Config, "the connection's settings cannot be written").because(error)
        })?;
        stream.write_all(format!("CONNECT {text}\r\nPING\r\n").as_bytes()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let mut info = *info;
        loop {
            match heard(&mut stream, &mut buffer).await.map_err(lost)? {
                Frame::Pong => return Ok(Connection { stream, info, buffer, address }),
                // A second one comes when the server has seen who we are.
                Frame::Info(later) => info = *later,
                Frame::Err(text) => return Err(self.refused(&text)),
                _ => {}
            }
        }
    }

    async fn encrypt(&self, stream: Stream, address: &Address) -> Result<Stream, Error> {
        let Stream::Plain(tcp) = stream else { return Ok(stream) };
        let name = ServerName::try_from(address.certified().to_owned()).map_err(|error| {
            let text = format!("{} is no name a certificate could be for", address.certified());
            Error::new(Kind::Config, text).because(error)
        })?;
        let connector = TlsConnector::from(Arc::new(tls(&self.config)?));
        let encrypted = connector.connect(name, tcp).await.map_err(|error| {
            Error::new(
                Kind::Disconnected,
                format!("no encrypted connection to {address}: check its certificate and tls_ca"),
            )
            .because(error)
        })?;
        Ok(Stream::Tls(Box::new(encrypted)))
    }

    fn refused(&self, text: &str) -> Error {
        let lower = text.to_ascii_lowercase();
        if lower.contains("authorization") || lower.contains("authentication") {
            return Error::new(Kind::Permission, "the nats server refused these credentials")
                .because(text.to_owned());
        }
        self.unreachable().because(text.to_owned())
    }

    fn unreachable(&self) -> Error {
        let hint = "start one with `sinew dev`, or name another with --nats-url or NATS_URL";
        let url = address::redacted(&self.config.url);
        Error::new(Kind::Disconnected, format!("no nats server answers at {url}: {hint}"))
    }
}

async fn heard(stream: &mut Stream, buffer: &mut BytesMut) -> io::Result<Frame> {
    loop {
        if let Some(frame) = protocol::next(buffer).map_err(io::Error::other)? {
            return Ok(frame);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn tls(config: &Config) -> Result<rustls::ClientConfig, Error> {
    let wrong = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Config, format!("{what} cannot be used")).because(error)
    };
    let mut roots = RootCertStore::empty();
    match &config.tls_ca {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certificates = read.map_err(|error| wrong("tls_ca", error.into()))?;
            roots.add_parsable_certificates(certificates);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("tls", error.into()))?
        .with_root_certificates(roots);
    match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            let read = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let chain = read.map_err(|error| wrong("tls_cert", error.into()))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("tls_key", error.into()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong("tls_cert", error.into()))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::new(Kind::Config, "tls_cert and tls_key belong together: set both or neither")),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
