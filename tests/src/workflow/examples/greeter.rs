//! The gRPC service of the official example, with its description in a file.

use std::{convert::Infallible, net::SocketAddr, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

const PROTO: &str = r#"
syntax = "proto3";
package GreeterApi;
service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); }
message HelloRequest { string name = 1; }
message HelloReply { string message = 1; }
"#;

/// A server that greets; it ends when this is dropped.
pub(super) struct Greeter {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Greeter {
    /// Starts it, and describes it in `app/greet.proto` below a folder.
    pub(super) async fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("app")).unwrap();
        std::fs::write(folder.join("app/greet.proto"), PROTO).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve(listener)));
        Self { address, _stop: stop.drop_guard() }
    }

    pub(super) fn resolve(&self) -> (String, SocketAddr) {
        ("localhost:5011".to_owned(), self.address)
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(greet)).await;
        });
    }
}

/// Reads a frame with a message whose only field is a short text, and answers with such a frame.
async fn greet(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/GreeterApi.Greeter/SayHello");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((body[0], body[5]), (0, 0x0a), "a plain frame, with field 1 as a text");
    let name = std::str::from_utf8(&body[7..]).unwrap();
    let said = format!("Hello {name}");
    let length = u8::try_from(said.len()).unwrap();
    let frame = [&[0, 0, 0, 0, length + 2, 0x0a, length], said.as_bytes()].concat();
    let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(frame.into()), Frame::trailers(status)].map(Ok);
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
