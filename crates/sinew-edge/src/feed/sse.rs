//! A feed as server-sent events. A client that takes nothing is told from which id to go on, and let go.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use sinew::Problem;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    item::{Dress, Item},
    pace::Pace,
    plan::{Settings, Stay},
    tail::{Gap, Next, Tail},
};
use crate::{Edge, config::FeedFormat, observe::Followed, server::Connection, streaming::ending};

/// Pieces that wait for the client.
pub(super) const AHEAD: usize = 8;

/// One client.
pub(super) struct Client {
    pub(super) edge: Arc<Edge>,
    pub(super) tail: Tail,
    pub(super) settings: Settings,
    pub(super) format: FeedFormat,
    pub(super) pieces: mpsc::Sender<io::Result<Bytes>>,
    /// Room for the last word, whatever else waits.
    pub(super) last: mpsc::OwnedPermit<io::Result<Bytes>>,
    pub(super) connection: Option<Connection>,
    /// Behind which sequence the client may go on, as far as it was told.
    pub(super) told: u64,
    pub(super) followed: Followed,
}

/// Why a feed ends.
enum End {
    /// The client is gone.
    Gone,
    /// The edge is ending.
    Closing,
    /// The client takes nothing.
    Slow,
    /// It stayed as long as it may.
    Over,
}

/// What is written to a client.
enum Piece {
    Event(Arc<Item>),
    Gap(Gap),
    Beat,
}

impl Client {
    /// Tells the client everything until one of the two ends.
    pub(super) async fn run(mut self) {
        let end = self.tell().await;
        self.tail.end().await;
        match end {
            // Who stayed long enough comes again by itself, where it was.
            End::Gone | End::Over => {}
            End::Closing => drop(self.farewell(ending())),
            End::Slow => self.cut_off().await,
        }
    }

    async fn tell(&mut self) -> End {
        let (mut pace, stay) = (Pace::new(self.settings.max_rate), Stay::begin(&self.settings));
        let opening = format!("retry: {}\nid: {}\n\n", self.settings.retry_ms, self.told);
        let mut sent = self.send(opening.into()).await;
        while sent.is_ok() {
            sent = match self.next(&mut pace, stay).await {
                Ok(Piece::Event(item)) => {
                    let sent = self.send(item.written(Dress::Event, self.format)).await;
                    if sent.is_ok() {
                        self.followed.event();
                    }
                    self.told = if sent.is_ok() { item.sequence } else { self.told };
                    sent
                }
                Ok(Piece::Gap(gap)) => {
                    self.send(format!("event: gap\ndata: {}\n\n", json!(gap)).into()).await
                }
                Ok(Piece::Beat) => self.beat().await,
                Err(end) => Err(end),
            };
        }
        sent.err().unwrap_or(End::Gone)
    }

    /// Waits for what the client is to be told next, and until it may be.
    async fn next(&mut self, pace: &mut Pace, stay: Stay) -> Result<Piece, End> {
        if stay.is_over() {
            return Err(End::Over);
        }
        let piece = tokio::select! {
            biased;
            () = self.edge.closing.cancelled() => return Err(End::Closing),
            () = self.pieces.closed() => return Err(End::Gone),
            next = self.tail.next() => match next {
                Next::Event(item) => Piece::Event(item),
                Next::Gap(gap) => return Ok(Piece::Gap(gap)),
            },
            () = sleep(stay.within(self.settings.heartbeat)) => {
                return if stay.is_over() { Err(End::Over) } else { Ok(Piece::Beat) };
            }
        };
        let Some(due) = pace.next(Instant::now) else { return Ok(piece) };
        tokio::select! {
            () = self.edge.closing.cancelled() => Err(End::Closing),
            () = self.pieces.closed() => Err(End::Gone),
            () = sleep_until(due) => Ok(piece),
        }
    }

    /// Shows life, and how far the feed is: what was not for this client need not be looked at again.
    async fn beat(&mut self) -> Result<(), End> {
        let position = self.tail.position();
        if position == self.told {
            return self.send(Bytes::from_static(b":\n\n")).await;
        }
        self.send(format!("id: {position}\n\n").into()).await?;
        self.told = position;
        Ok(())
    }

    /// Hands a piece over.
    async fn send(&self, piece: Bytes) -> Result<(), End> {
        let limit = Duration::from_millis(self.edge.config.slow_client_ms);
        tokio::select! {
            sent = timeout(limit, self.pieces.send(Ok(piece))) => match sent {
                Ok(sent) => sent.map_err(|_| End::Gone),
                Err(_) => Err(End::Slow),
            },
            () = self.edge.closing.cancelled() => Err(End::Closing),
        }
    }

    /// Says why there is no more, behind everything that still waits for the client.
    ///
    /// The client's place is free from here on.
    fn farewell(self, problem: Problem) -> (mpsc::Sender<io::Result<Bytes>>, Option<Connection>) {
        let problem = problem.with("last_event_id", self.told.to_string());
        let last = format!("event: error\ndata: {}\n\n", json!(problem));
        (self.last.send(Ok(last.into())), self.connection)
    }

    /// Gives a slow client time to read up to the reason; one that does not even do that holds a connection for nothing.
    async fn cut_off(self) {
        let limit = Duration::from_millis(self.edge.config.slow_client_ms);
        let detail = format!("it takes too long: go on with Last-Event-ID: {}", self.told);
        tracing::debug!(last_event_id = self.told, "a client of a feed is too slow and was cut off");
        self.followed.cut_off();
        let (rest, connection) = self.farewell(too_slow().detail(detail));
        let taken = timeout(limit, rest.reserve_many(rest.max_capacity())).await;
        if let (Err(_), Some(connection)) = (taken, connection) {
            connection.close();
        }
    }
}

pub(super) fn too_slow() -> Problem {
    Problem::new(408, "slow-client", "the client does not take what it asked for").retriable()
}
