//! The edge against a hand-written bridge that does the same transcoding.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;

use super::{
    Error,
    load::{self, Figures},
    messages::Echo,
    peer::Peer,
    sample, server,
};

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 32;

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    println!("\nedge: JSON POST of 300 bytes to an operation, against an axum + async-nats bridge");
    let broker = server(false).await?;
    let _service = Peer::start("service", broker.url())?;
    let bridge = Peer::start("bridge", broker.url())?;
    let edge = Peer::start("edge", broker.url())?;
    let (bridge, edge): (SocketAddr, SocketAddr) = (bridge.said.parse()?, edge.said.parse()?);
    for connections in [1, CONNECTIONS] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(post(bridge, connections, time).await?);
            ours.push(post(edge, connections, time).await?);
        }
        load::compare(&format!("{connections} connections"), &ours, &theirs);
    }
    broker.stop().await?;
    Ok(())
}

async fn post(to: SocketAddr, connections: usize, time: Duration) -> Result<Figures, Error> {
    let body = Bytes::from(serde_json::to_vec(&Echo { sample: sample() })?);
    let make = async || Ok((connect(to).await?, body.clone()));
    load::run(connections, time, make, move |(mut connection, body)| async move {
        let request =
            Request::post("/echo").header("host", to.to_string()).header("content-type", "application/json");
        let reply = connection.send_request(request.body(Full::new(body.clone()))?).await?;
        let status = reply.status();
        reply.into_body().collect().await?;
        if status.is_success() { Ok((connection, body)) } else { Err(format!("answered {status}").into()) }
    })
    .await
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = tokio::net::TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
