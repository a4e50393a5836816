//! A stand-in for servers of the internet: answers HTTPS for any host names, with certificates of an authority of its own.
//!
//! Whoever is to reach it trusts [`HttpsStub::authority`] and finds the hosts by [`HttpsStub::resolve`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring::default_provider, pki_types::PrivatePkcs8KeyDer};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as the stub got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// The name the client asked for, without a port.
    pub(crate) host: String,
    pub(crate) path: String,
    /// As written, without the question mark; empty for none.
    pub(crate) query: String,
    /// By lower case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

/// An HTTPS server on a port of its own; it is gone when it is dropped.
pub(crate) struct HttpsStub {
    address: SocketAddr,
    hosts: Vec<String>,
    authority: String,
    seen: watch::Receiver<Vec<Seen>>,
    _stop: DropGuard,
}

impl Seen {
    /// Returns the body as JSON; null when it is none.
    #[allow(dead_code, reason = "for tests that look at bodies")]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl HttpsStub {
    /// Starts to answer for the hosts.
    pub(crate) async fn start(
        hosts: &[&str],
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let (authority, tls) = certificates(&hosts);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port for the stub");
        let address = listener.local_addr().expect("a bound port");
        let (sender, seen) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let accept = accept(listener, tls, Arc::new(answer), Arc::new(sender));
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { address, hosts, authority, seen, _stop: stop.drop_guard() }
    }

    /// Returns the certificate to trust, in PEM: an entry of `Settings::extra_roots`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns where the hosts are, on their usual port: `Settings::resolve`.
    pub(crate) fn resolve(&self) -> BTreeMap<String, SocketAddr> {
        self.hosts.iter().map(|host| (format!("{host}:443"), self.address)).collect()
    }

    /// Returns the requests so far, in the order they came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

/// Makes an answer of a status and a JSON body.
pub(crate) fn json(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::from(body.to_string())).expect("a status between 100 and 999")
}

/// Returns the authority's certificate in PEM, and how the stub proves that it is every host.
fn certificates(hosts: &[String]) -> (String, TlsAcceptor) {
    let mut authority = CertificateParams::new([]).expect("no names are valid names");
    authority.distinguished_name.push(DnType::CommonName, "authority of the tests");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("make a key");
    let pem = authority.self_signed(&authority_key).expect("sign the authority").pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().expect("make a key");
    let server = CertificateParams::new(hosts).expect("the hosts are names");
    let certificate = server.signed_by(&key, &issuer).expect("sign the server");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("the key fits the certificate");
    (pem, TlsAcceptor::from(Arc::new(config)))
}

async fn accept<A>(
    listener: TcpListener,
    tls: TlsAcceptor,
    answer: Arc<A>,
    seen: Arc<watch::Sender<Vec<Seen>>>,
) where
    A: Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, answer, seen) = (tls.clone(), answer.clone(), seen.clone());
        connections.spawn(async move {
            // Clients that do not trust the stub end here, and say so themselves.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| respond(request, &*answer, &seen));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: &impl Fn(&Seen) -> Response<Full<Bytes>>,
    seen: &watch::Sender<Vec<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<_, _> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let host = headers.get("host").and_then(|host| host.split(':').next()).unwrap_or_default().to_owned();
    let request = Seen {
        method: head.method.to_string(),
        host,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    };
    seen.send_modify(|seen| seen.push(request.clone()));
    Ok(answer(&request))
}
