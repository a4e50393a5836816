//! A client that asks as it should. By hand, so that nothing but the edge decides what is measured.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::Error;

/// How long an answer, or a description of services, may take.
const SOON: Duration = Duration::from_secs(60);

/// Gets a path over a connection of its own; returns all that is answered.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<String, Error> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(SOON, asked).await.map_err(|_| format!("no answer to GET {path} in time"))?
}

/// Waits until the edge describes these paths.
pub(super) async fn described(address: SocketAddr, paths: &[&str]) -> Result<(), Error> {
    let asked = async {
        loop {
            let document = get(address, "/openapi.json").await?;
            if paths.iter().all(|path| document.contains(path)) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, asked).await.map_err(|_| "the services are not described in time")?
}
