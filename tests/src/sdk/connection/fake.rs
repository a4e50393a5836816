//! A server that says whatever a test wants it to.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Listens, and greets as it is told.
pub(crate) struct Fake(TcpListener);

/// One client, after its greeting.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
    /// How it introduced itself.
    pub(crate) connect: String,
    /// Every line it has sent since.
    pub(crate) heard: Vec<String>,
}

/// Returns the line in which a server presents itself, with `more` fields.
pub(crate) fn info(more: &str) -> String {
    let limit = if more.contains("max_payload") { "" } else { r#","max_payload":1048576"# };
    format!(
        "INFO {{\"server_id\":\"FAKE\",\"version\":\"2.12.0\",\"headers\":true,\"nonce\":\"n\"{limit}{more}}}\r\n"
    )
}

impl Fake {
    pub(crate) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Takes a client in.
    pub(crate) async fn accept(&self) -> Peer {
        self.accept_with(&info("")).await
    }

    pub(crate) async fn accept_with(&self, info: &str) -> Peer {
        let mut peer = Peer {
            stream: BufReader::new(self.accept_mute(info).await),
            connect: String::new(),
            heard: Vec::new(),
        };
        peer.connect = peer.line().await.expect("a greeting");
        assert_eq!(peer.line().await.as_deref(), Some("PING"));
        peer.say("PONG\r\n").await;
        peer.heard.clear();
        peer
    }

    /// Takes a client in, and serves it until it takes itself for connected.
    pub(crate) async fn accept_served(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.until(|line| line.starts_with("PUB ")).await;
        peer
    }

    /// Says one thing and then nothing.
    pub(crate) async fn accept_mute(&self, greeting: &str) -> TcpStream {
        let (mut socket, _) = self.0.accept().await.unwrap();
        socket.write_all(greeting.as_bytes()).await.unwrap();
        socket
    }
}

impl Peer {
    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Returns the next line, payloads passed over; `None` when the client is gone.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.starts_with("PUB ") || line.starts_with("HPUB ") {
            let length: usize = line.rsplit(' ').next()?.parse().unwrap();
            self.stream.read_exact(&mut vec![0; length + 2]).await.ok()?;
        }
        self.heard.push(line.clone());
        Some(line)
    }

    /// Serves as a server does, as far as the client's own affairs go, until it has served a line that fits.
    pub(crate) async fn until(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let line = super::soon(self.line()).await.expect("the client is there");
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("PING"), _) => self.say("PONG\r\n").await,
                // Its word to itself, which tells that all before it is done.
                (Some("PUB"), Some(subject)) if subject.contains(".r.") => {
                    let echo = format!("MSG {subject} 1 0\r\n\r\n");
                    self.say(&echo).await;
                }
                _ => {}
            }
            if fits(&line) {
                return line;
            }
        }
    }
}
