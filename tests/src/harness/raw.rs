//! A NATS client that speaks the protocol by hand, for messages that no decent client would send.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A connection to a server. It publishes whatever it is given.
pub(crate) struct RawClient {
    stream: BufReader<TcpStream>,
}

impl RawClient {
    /// Connects to `nats://host:port`.
    pub(crate) async fn connect(url: &str) -> Self {
        let stream =
            TcpStream::connect(url.trim_start_matches("nats://")).await.expect("connect to the server");
        let mut client = Self { stream: BufReader::new(stream) };
        assert!(client.line().await.starts_with("INFO "));
        client.write(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n").await;
        client.settle().await;
        client
    }

    /// Publishes with a header block as it is, version line and end included, and returns when the server took it.
    pub(crate) async fn publish(&mut self, subject: &str, block: &[u8], payload: &[u8]) {
        let (head, total) = (block.len(), block.len() + payload.len());
        self.write(format!("HPUB {subject} {head} {total}\r\n").as_bytes()).await;
        self.write(block).await;
        self.write(payload).await;
        self.write(b"\r\n").await;
        self.settle().await;
    }

    /// Waits until the server has processed what was written.
    async fn settle(&mut self) {
        self.write(b"PING\r\n").await;
        loop {
            match self.line().await.as_str() {
                "PONG" => return,
                "PING" => self.write(b"PONG\r\n").await,
                other => panic!("the server does not take the message: {other}"),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("write to the server");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("read from the server");
        line.trim_end().to_owned()
    }
}
