//! A feed as WebSocket messages, subprotocol `sinew.events.v1`: `{"id", "type", "data"}` for every event.
//!
//! The client may begin with `{"resume": "<id>"}`; whatever else it says is against the rules.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_websockets::{CloseCode, Error, Message};

use super::{
    item::Dress,
    pace::Pace,
    plan::{Settings, Stay},
    sse::too_slow,
    tail::{Next, Tail},
};
use crate::{
    Edge,
    config::FeedFormat,
    observe::Followed,
    streaming::{
        ending,
        websocket::{self, FRAMES, Socket},
    },
};

/// What the messages are agreed to look like.
pub(super) const PROTOCOL: &str = "sinew.events.v1";
/// How long a client may take to say where it goes on, before it is told what is new.
const FIRST_WORD: Duration = Duration::from_secs(2);
const TRY_LATER: u16 = 1013;

/// One client.
pub(super) struct Client {
    pub(super) edge: Arc<Edge>,
    pub(super) tail: Tail,
    pub(super) settings: Settings,
    pub(super) format: FeedFormat,
    /// Whether it said in the request where it begins.
    pub(super) placed: bool,
    pub(super) told: u64,
    /// Frames it may still send.
    pub(super) frames: u32,
    pub(super) followed: Followed,
}

/// What a client may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstWord {
    resume: Option<Id>,
}

/// A sequence, as a number or as it was told.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

/// Why a feed ends.
enum End {
    Gone,
    Close(CloseCode, &'static str),
    Slow,
}

impl End {
    fn of((code, reason): (CloseCode, &'static str)) -> Self {
        Self::Close(code, reason)
    }
}

const OVER: End = End::Close(CloseCode::NORMAL_CLOSURE, "come again where you are");
const CLOSING: End = End::Close(CloseCode::GOING_AWAY, "the edge is ending");

impl Client {
    pub(super) fn new(
        edge: &Arc<Edge>,
        tail: Tail,
        settings: Settings,
        format: FeedFormat,
        (placed, followed): (bool, Followed),
    ) -> Self {
        let told = tail.position();
        Self { edge: edge.clone(), tail, settings, format, placed, told, frames: FRAMES, followed }
    }

    /// Tells the client everything until one of the two ends.
    pub(super) async fn run(mut self, upgrade: OnUpgrade) {
        let Some(mut socket) = websocket::open(upgrade).await else { return };
        let limit = Duration::from_millis(self.edge.config.slow_client_ms);
        let end = match self.first_word(&mut socket).await {
            Ok(()) => self.tell(&mut socket).await,
            Err(end) => end,
        };
        self.tail.end().await;
        match end {
            End::Gone => websocket::close(socket, None, limit).await,
            End::Close(code, reason) => {
                if code == CloseCode::GOING_AWAY {
                    let problem = ending().with("last_event_id", self.told.to_string());
                    let told = socket.send(Message::text(json!({ "problem": problem }).to_string()));
                    let _ = timeout(limit, told).await;
                }
                websocket::close(socket, Some((code, reason)), limit).await;
            }
            End::Slow => self.cut_off(socket, limit).await,
        }
    }

    /// Hears where the client goes on.
    async fn first_word(&mut self, socket: &mut Socket) -> Result<(), End> {
        if self.placed {
            return Ok(());
        }
        let patience = sleep(FIRST_WORD);
        tokio::pin!(patience);
        loop {
            let heard = tokio::select! {
                biased;
                () = self.edge.closing.cancelled() => return Err(CLOSING),
                heard = socket.next() => self.heard(heard)?,
                () = &mut patience => return Ok(()),
            };
            let Some(word) = heard else { continue };
            let word: FirstWord =
                word.as_text().and_then(|text| serde_json::from_str(text).ok()).ok_or(RULES)?;
            let sequence = match word.resume {
                None => return Ok(()),
                Some(Id::Number(sequence)) => sequence,
                Some(Id::Text(text)) => text.parse().map_err(|_| RULES)?,
            };
            self.tail.resume(sequence).await;
            self.told = sequence;
            return Ok(());
        }
    }

    async fn tell(&mut self, socket: &mut Socket) -> End {
        let (mut pace, stay) = (Pace::new(self.settings.max_rate), Stay::begin(&self.settings));
        loop {
            let (message, reached) = match self.next(socket, &mut pace, stay).await {
                Ok(next) => next,
                Err(end) => return end,
            };
            let limit = Duration::from_millis(self.edge.config.slow_client_ms);
            let sent = tokio::select! {
                sent = timeout(limit, socket.send(message)) => sent,
                () = self.edge.closing.cancelled() => return CLOSING,
            };
            match sent {
                Ok(Ok(())) => {
                    // A gap or a sign of life reaches nothing new.
                    if reached != self.told {
                        self.followed.event();
                    }
                    self.told = reached;
                }
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Slow,
            }
        }
    }

    /// Waits for what the client is to be told next; returns it with the sequence it stands for.
    async fn next(
        &mut self,
        socket: &mut Socket,
        pace: &mut Pace,
        stay: Stay,
    ) -> Result<(Message, u64), End> {
        if stay.is_over() {
            return Err(OVER);
        }
        let beat = sleep(stay.within(self.settings.heartbeat));
        tokio::pin!(beat);
        let item = loop {
            tokio::select! {
                biased;
                () = self.edge.closing.cancelled() => return Err(CLOSING),
                heard = socket.next() => if self.heard(heard)?.is_some() {
                    return Err(RULES);
                },
                next = self.tail.next() => match next {
                    Next::Event(item) => break item,
                    Next::Gap(gap) => return Ok((Message::text(json!({ "gap": gap }).to_string()), self.told)),
                },
                () = &mut beat => {
                    if stay.is_over() {
                        return Err(OVER);
                    }
                    self.frames = FRAMES;
                    return Ok((Message::ping(""), self.told));
                }
            }
        };
        if let Some(due) = pace.next(Instant::now) {
            tokio::select! {
                () = self.edge.closing.cancelled() => return Err(CLOSING),
                () = sleep_until(due) => {}
            }
        }
        Ok((websocket::text(item.written(Dress::Message, self.format)), item.sequence))
    }

    /// Sorts what a client sent: pings and pongs are between the protocols, as long as they are few.
    fn heard(&mut self, heard: Option<Result<Message, Error>>) -> Result<Option<Message>, End> {
        self.frames = self.frames.checked_sub(1).ok_or(RULES)?;
        match heard {
            Some(Ok(message)) if message.is_close() => Err(End::Gone),
            Some(Ok(message)) if !websocket::is_sound(&message) => Err(End::of(websocket::NO_TEXT)),
            Some(Ok(message)) if message.is_ping() || message.is_pong() => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(Error::PayloadTooLong { .. })) => Err(End::of(websocket::TOO_LONG)),
            Some(Err(_)) | None => Err(End::Gone),
        }
    }

    /// Says from where the client may go on, if it takes at least that.
    async fn cut_off(&self, mut socket: Socket, limit: Duration) {
        self.followed.cut_off();
        let detail = format!("it takes too long: go on with resume {}", self.told);
        let problem = too_slow().detail(detail).with("last_event_id", self.told.to_string());
        let told = socket.send(Message::text(json!({ "problem": problem }).to_string()));
        if let (Ok(Ok(())), Ok(code)) = (timeout(limit, told).await, CloseCode::try_from(TRY_LATER)) {
            websocket::close(socket, Some((code, "too slow")), limit).await;
        }
    }
}

/// The client said what it must not.
const RULES: End =
    End::Close(CloseCode::POLICY_VIOLATION, "only {\"resume\": id} may be said, and only first");
