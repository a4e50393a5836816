//! The servers behind the official AsyncAPI examples: notifications over WebSocket, and as server-sent events. Both lose
//! their first connection half way, and both say something the examples filter out.

use std::net::SocketAddr;

use futures::SinkExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_websockets::{Message, ServerBuilder};

/// Where the description of the channel says they are.
pub(super) const SOCKET: &str = "socket.fake.com:80";
pub(super) const FEED: &str = "feed.fake.com:80";

/// How many different notifications there are.
pub(super) const COUNT: u64 = 5;
/// How many of them the first connection brings.
const FIRST: u64 = 3;

/// Both servers; they end when this is dropped.
pub(super) struct Notifications {
    socket: SocketAddr,
    feed: SocketAddr,
    /// How many clients of the feed have heard everything, and how many of these are gone.
    told: watch::Receiver<(usize, usize)>,
    _stop: DropGuard,
}

impl Notifications {
    pub(super) async fn start() -> Self {
        let stop = CancellationToken::new();
        let (socket, feed) = (listener().await, listener().await);
        let addresses = (socket.local_addr().unwrap(), feed.local_addr().unwrap());
        let (sender, told) = watch::channel((0, 0));
        let serving = async move { tokio::join!(speak(socket), send(feed, sender)) };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { socket: addresses.0, feed: addresses.1, told, _stop: stop.drop_guard() }
    }

    pub(super) fn resolve(&self) -> [(String, SocketAddr); 2] {
        [(SOCKET.to_owned(), self.socket), (FEED.to_owned(), self.feed)]
    }

    /// Waits until some client of the feed has heard everything and still listens.
    pub(super) async fn is_heard(&self) {
        self.told.clone().wait_for(|(heard, gone)| heard > gone).await.unwrap();
    }

    /// Waits until nobody listens to the feed any more.
    pub(super) async fn is_left(&self) {
        self.told.clone().wait_for(|(heard, gone)| heard == gone).await.unwrap();
    }
}

/// Writes a notification as the examples hear it.
pub(super) fn notification(n: u64) -> Value {
    json!({ "payload": { "n": n }, "headers": {} })
}

/// The one that is for somebody else.
fn strange() -> Value {
    json!({ "from": { "firstName": "Eve" } })
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// WebSocket: each connection goes on where the one before ended, because the server remembers its client.
async fn speak(listener: TcpListener) {
    let mut n = 1;
    while let Ok((stream, _)) = listener.accept().await {
        let (request, mut socket) = ServerBuilder::new().accept(stream).await.unwrap();
        assert_eq!(request.uri().path(), "/notifications");
        socket.send(Message::text(strange().to_string())).await.unwrap();
        let until = if n == 1 { FIRST } else { COUNT };
        for n in n..=until {
            let text = notification(n)["payload"].to_string();
            socket.send(Message::text(text)).await.unwrap();
        }
        n = until + 1;
        if until == COUNT {
            // The client closes it when it has heard enough.
            while let Some(Ok(_)) = futures::StreamExt::next(&mut socket).await {}
        }
    }
}

/// Server-sent events: the second connection begins with an event the first one had, as servers do that are not sure.
async fn send(listener: TcpListener, told: watch::Sender<(usize, usize)>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let head = head(&mut stream).await;
        assert!(head.starts_with("GET /notifications "), "{head}");
        let last = head.lines().find_map(|line| line.strip_prefix("last-event-id: ")?.parse().ok());
        let numbers = last.map_or(1..=FIRST, |last: u64| last..=COUNT);
        let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 1\n".to_owned();
        text.push_str(&format!("id: strange\ndata: {}\n\n", strange()));
        for n in numbers {
            text.push_str(&format!("id: {n}\ndata: {}\n\n", notification(n)["payload"]));
        }
        stream.write_all(text.as_bytes()).await.unwrap();
        if last.is_none() {
            continue;
        }
        told.send_modify(|(heard, _)| *heard += 1);
        while stream.read_u8().await.is_ok() {}
        told.send_modify(|(_, gone)| *gone += 1);
    }
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase().replacen("get", "GET", 1)
}
