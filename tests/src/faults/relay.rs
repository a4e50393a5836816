//! A relay between clients and a server that understands as much NATS as it takes to meddle with appends.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What an append to a workflow log is published to.
const LOG: &str = "wf.log.";
/// What it expects to be the last record.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence:";

/// How the relay treats appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    /// Passes everything on at once.
    Honest,
    /// Passes appends on after a while; what is held back when the client dies is lost, as in a socket's buffer.
    Slow(Duration),
    /// As `Slow`, but acknowledges an append the moment it comes. Right for a log of one shard.
    Liar(Duration),
    /// Gives the client every reply twice, in whatever order, and one of many so much later.
    Echo(Duration),
}

/// A running relay; it ends, with all its connections, when it is dropped.
pub(super) struct Relay {
    url: String,
    temper: watch::Sender<Temper>,
    _stop: DropGuard,
}

/// Frames, and when each is due.
type Sender = mpsc::UnboundedSender<(Instant, Frame)>;

/// One message or command: its line, and the payload behind it.
#[derive(Clone)]
struct Frame {
    line: String,
    payload: Vec<u8>,
}

/// Reads what a client sends, and decides about it.
struct Meddler {
    temper: watch::Receiver<Temper>,
    /// To the server: when, and what.
    onward: Sender,
    /// To the client.
    back: Sender,
    /// Subjects the client has subscribed to, without their last token, and the number of each.
    inboxes: Vec<(String, String)>,
}

impl Relay {
    /// Starts one in front of a server, honest at first.
    pub(super) async fn start(server: &str) -> Self {
        let server: SocketAddr = server.trim_start_matches("nats://").parse().expect("the server's address");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (temper, told) = watch::channel(Temper::Honest);
        let stop = CancellationToken::new();
        let accept = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, server, told.clone()));
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { url, temper, _stop: stop.drop_guard() }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Changes how appends are treated from now on.
    pub(super) fn turn(&self, temper: Temper) {
        self.temper.send_replace(temper);
    }
}

/// Carries one connection until either side ends it; what is held back then is lost with it.
async fn relay(client: TcpStream, server: SocketAddr, temper: watch::Receiver<Temper>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let ((onward, due), (back, answers)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let meddler = Meddler { temper: temper.clone(), onward, back: back.clone(), inboxes: Vec::new() };
    tokio::select! {
        _ = meddler.run(from_client) => {}
        _ = carry(from_server, temper, back) => {}
        _ = deliver(due, to_server) => {}
        _ = deliver(answers, to_client) => {}
    }
}

impl Meddler {
    async fn run(mut self, client: OwnedReadHalf) -> Option<()> {
        let mut client = BufReader::new(client);
        loop {
            let frame = Frame::read(&mut client).await?;
            self.notice(&frame);
            let (now, temper) = (Instant::now(), *self.temper.borrow());
            let at = match temper {
                Temper::Slow(held) | Temper::Liar(held) if frame.is_append() => now + held,
                _ => now,
            };
            let lie = matches!(temper, Temper::Liar(_)).then(|| self.lie(&frame)).flatten();
            self.onward.send((at, frame)).ok()?;
            if let Some(lie) = lie {
                self.back.send((now, lie)).ok()?;
            }
        }
    }

    fn notice(&mut self, frame: &Frame) {
        let words: Vec<&str> = frame.line.split_whitespace().collect();
        if let ["SUB", subject, .., sid] = words[..]
            && let Some(prefix) = subject.strip_suffix('*')
        {
            self.inboxes.push((prefix.to_owned(), sid.to_owned()));
        }
    }

    /// Says of an append what the server would say if it had stored it.
    fn lie(&self, frame: &Frame) -> Option<Frame> {
        let words: Vec<&str> = frame.line.split_whitespace().collect();
        let ["HPUB", subject, reply, _, _] = words[..] else { return None };
        subject.strip_prefix(LOG)?;
        let head = String::from_utf8_lossy(&frame.payload);
        let expected = head.lines().find_map(|line| line.strip_prefix(EXPECTED))?;
        let sequence = expected.trim().parse::<u64>().ok()? + 1;
        let (_, sid) = self.inboxes.iter().find(|(prefix, _)| reply.starts_with(prefix))?;
        let ack = format!("{{\"stream\":\"WORKFLOW_LOG\",\"seq\":{sequence}}}");
        let line = format!("MSG {reply} {sid} {}\r\n", ack.len());
        Some(Frame { line, payload: format!("{ack}\r\n").into_bytes() })
    }
}

impl Frame {
    /// Reads one; `None` at the end of the stream.
    async fn read(from: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Self> {
        let mut line = String::new();
        from.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
        let carries = ["PUB ", "HPUB ", "MSG ", "HMSG "].iter().any(|verb| line.starts_with(verb));
        let mut payload = Vec::new();
        if carries {
            let length: usize = line.split_whitespace().last()?.parse().ok()?;
            payload.resize(length + "\r\n".len(), 0);
            from.read_exact(&mut payload).await.ok()?;
        }
        Some(Self { line, payload })
    }

    fn is_append(&self) -> bool {
        self.line.split_whitespace().nth(1).is_some_and(|subject| subject.starts_with(LOG))
            && self.line.starts_with("HPUB ")
    }

    /// Says whether it answers a request of a service or to one; what the server itself answers is another matter.
    fn is_reply(&self) -> bool {
        let subject = self.line.split_whitespace().nth(1).unwrap_or_default();
        subject.starts_with("_INBOX") && !self.payload.starts_with(b"{\"")
    }

    async fn write(self, to: &mut OwnedWriteHalf) -> Option<()> {
        to.write_all(self.line.as_bytes()).await.ok()?;
        to.write_all(&self.payload).await.ok()
    }
}

/// Passes on what the server says.
async fn carry(server: OwnedReadHalf, temper: watch::Receiver<Temper>, back: Sender) -> Option<()> {
    let mut server = BufReader::new(server);
    loop {
        let frame = Frame::read(&mut server).await?;
        let now = Instant::now();
        match *temper.borrow() {
            Temper::Echo(late) if frame.is_reply() => {
                let soon = || now + Duration::from_millis(fastrand::u64(0..30));
                let first = if fastrand::u8(0..40) == 0 { now + late } else { soon() };
                back.send((soon().max(first), frame.clone())).ok()?;
                back.send((first, frame)).ok()?;
            }
            _ => back.send((now, frame)).ok()?,
        }
    }
}

/// Writes what is due, in the order in which it is.
async fn deliver(
    mut frames: mpsc::UnboundedReceiver<(Instant, Frame)>,
    mut to: OwnedWriteHalf,
) -> Option<()> {
    let mut held = BTreeMap::<(Instant, u64), Frame>::new();
    for number in 0.. {
        let next = held.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            frame = frames.recv() => {
                let (at, frame) = frame?;
                held.insert((at, number), frame);
            }
            // why: holding back is what this is for.
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                held.pop_first()?.1.write(&mut to).await?;
            }
        }
    }
    None
}
