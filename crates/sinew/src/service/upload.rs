//! One upload at work: takes in what follows a request, checks its order, asks for more as the handler takes it, and
//! notices that the caller is gone. It lives as long as the request is in work.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use sinew_wire::{Headers, Problem, header};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Answer,
    operation::{Operation, Shop, wanted},
};
use crate::{
    Ctx, Error,
    bus::{Message, Subscription},
    call::declared_problem,
    stream::{DEFAULT_IDLE, Head, Incoming, Order, Pace, Part, Piece, Source, interrupted},
};

/// The service's end of one upload.
struct Line<'a> {
    shop: &'a Shop,
    operation: &'a Operation,
    /// Where the caller hears words, and the reply.
    to: &'a str,
    /// Where items come to; travels with every word.
    inbox: String,
    messages: Subscription,
    order: Order,
    source: Source,
    /// What the caller is told as long as the request is in work; nothing once it is gone.
    word: Option<String>,
    /// Whether more is expected.
    open: bool,
    /// Whether the handler may want more.
    wanted: bool,
    pace: Pace,
    heard: Instant,
    spoke: Instant,
    tick: Pin<Box<Sleep>>,
    abandoned: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Runs a handler beside the upload it takes; `None` if the caller goes away. `work` is the handler's work, which finds
/// the upload in its [`Ctx`].
pub(super) async fn run(
    shop: &Shop,
    operation: &Operation,
    message: &Message,
    ctx: &Ctx,
    work: impl Future<Output = Answer>,
) -> Option<Answer> {
    let followed = message.header(header::UPLOAD).is_some();
    let Some(to) = message.reply_to().filter(|_| followed) else {
        // The handler's route finds nothing, and says what is missing.
        return shop.in_flight.unless_gone(message.reply_to(), ctx, std::pin::pin!(work)).await;
    };
    let (incoming, source) = Incoming::new();
    let line = match Line::open(shop, operation, message, to, source).await {
        Ok(line) => line,
        Err(error) => return Some(Answer::problem(error.to_problem(), wanted(message))),
    };
    ctx.bring(incoming);
    let both = async {
        tokio::select! {
            biased;
            answer = work => answer,
            never = line.serve() => match never {},
        }
    };
    shop.in_flight.guarded(to, ctx.gone(), both).await
}

impl<'a> Line<'a> {
    async fn open(
        shop: &'a Shop,
        operation: &'a Operation,
        message: &Message,
        to: &'a str,
        source: Source,
    ) -> Result<Self, Error> {
        let idle = message.header(header::IDLE).and_then(|text| text.parse().ok());
        let inbox = shop.bus.new_inbox();
        let now = Instant::now();
        Ok(Self {
            messages: shop.bus.subscribe(&inbox, None).await?,
            shop,
            operation,
            to,
            inbox,
            order: Order::new(source.first),
            word: Some(format!("={}", source.first)),
            source,
            open: true,
            wanted: true,
            pace: Pace::new(idle.map_or(DEFAULT_IDLE, Duration::from_millis)),
            heard: now,
            spoke: now,
            // The first word is due at once: it tells the caller where to send to.
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
            abandoned: Box::pin(shop.abandon.clone().cancelled_owned()),
        })
    }

    /// Takes in what comes, until it is dropped with the request.
    async fn serve(mut self) -> std::convert::Infallible {
        self.say().await;
        loop {
            tokio::select! {
                biased;
                allowed = self.source.allowed.recv(), if self.wanted => self.allow(allowed).await,
                message = self.messages.next(), if self.open => self.hear(message.as_ref()).await,
                () = &mut self.abandoned, if self.open => self.fail(draining(), true).await,
                () = &mut self.tick => self.show_life().await,
            }
        }
    }

    /// The handler took something, or wants no more.
    async fn allow(&mut self, allowed: Option<u64>) {
        match allowed {
            Some(allowed) => {
                self.order.allow(allowed);
                if self.open {
                    self.word = Some(format!("={allowed}"));
                    self.say().await;
                }
            }
            None => {
                self.wanted = false;
                if std::mem::take(&mut self.open) {
                    self.stop().await;
                }
            }
        }
    }

    async fn hear(&mut self, message: Option<&Message>) {
        // The bus was closed, or the server knows nobody who would hear a word.
        let Some(message) = message.filter(|message| message.status() != Some(503)) else {
            return self.fail(interrupted("the caller is gone"), false).await;
        };
        self.heard = Instant::now();
        if let Some(problem) = declared_problem(message) {
            return self.end(Piece::Failed(problem));
        }
        let number = |name| message.header(name).and_then(|text| text.parse().ok());
        let head = Head { seq: number(header::SEQ), end: number(header::END), is_empty: message.is_empty() };
        match self.order.judge(head) {
            Part::Item => self.hand_over(Piece::Item(message.clone())),
            Part::End => self.end(Piece::End),
            Part::Alive | Part::Preparing => {}
            Part::Gap { missing } => {
                let reason = format!("{missing} items were lost on the way");
                self.fail(interrupted(&reason), true).await;
            }
            Part::Unasked | Part::Reply => {
                self.fail(interrupted("the caller sends what nobody asked for"), true).await;
            }
        }
    }

    fn hand_over(&mut self, piece: Piece) {
        // There is room for all that were allowed. Where nobody wants it, `allowed` ends as well.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.source.pieces.try_send(piece) {
            tracing::error!(operation = %self.operation.name, "an upload ran over its bounds");
        }
    }

    /// The last piece. The caller is shown life until it is answered.
    fn end(&mut self, last: Piece) {
        self.hand_over(last);
        self.open = false;
    }

    /// Gives the upload up; `tell` where somebody is there to be told.
    async fn fail(&mut self, problem: Problem, tell: bool) {
        tracing::debug!(operation = %self.operation.name, %problem, "an upload is given up");
        self.end(Piece::Failed(problem));
        match tell {
            true => self.stop().await,
            false => self.word = None,
        }
    }

    /// Tells the caller to send no more.
    async fn stop(&mut self) {
        self.word = Some("-".to_owned());
        self.say().await;
    }

    async fn show_life(&mut self) {
        let now = Instant::now();
        if self.open && self.heard + self.pace.patience() <= now {
            self.fail(interrupted("nothing was heard of the caller"), false).await;
        }
        if self.spoke + self.pace.service_beat() <= now {
            self.say().await;
        }
        let patient = if self.open { self.heard + self.pace.patience() } else { now + self.pace.idle() };
        self.tick.as_mut().reset((self.spoke + self.pace.service_beat()).min(patient));
    }

    async fn say(&mut self) {
        self.spoke = Instant::now();
        let Some(word) = self.word.clone() else { return };
        let (none, inbox) = (Headers::new(), Some(self.inbox.clone()));
        if let Err(error) = self.shop.bus.publish_reply(self.to, inbox, &none, Bytes::from(word)).await {
            // The next word says the same; if none gets through, both sides give up by themselves.
            tracing::debug!(operation = %self.operation.name, %error, "a word to an uploading caller could not be sent");
        }
    }
}

fn draining() -> Problem {
    Problem::new(503, "draining", "the service is being stopped and cannot finish the upload").retriable()
}
