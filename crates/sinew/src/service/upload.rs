//! One upload at work: takes in what follows a request, checks its order, asks for more as the handler takes it, and
//! notices that the caller is gone. It lives as long as the request is in work.

use bytes::Bytes;
use sinew_wire::{Headers, Problem, header};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Answer,
    line::{self, Line},
    operation::{Operation, Shop, wanted},
};
use crate::{
    Ctx,
    bus::Message,
    call::declared_problem,
    stream::{Head, Incoming, Order, Pace, Part, Piece, Source, interrupted},
};

/// The service's end of one upload.
struct Inlet<'a> {
    line: Line<'a>,
    order: Order,
    source: Source,
    /// What the caller is told as long as the request is in work; nothing once it is gone.
    word: Option<String>,
    /// Whether more is expected.
    open: bool,
    /// Whether the handler may want more.
    wanted: bool,
    pace: Pace,
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
    let mut inlet = match Line::open(shop, operation, to).await {
        Ok(line) => Inlet::new(line, message, source),
        Err(error) => return Some(Answer::problem(error.to_problem(), wanted(message))),
    };
    ctx.bring(incoming);
    let both = async {
        tokio::select! {
            biased;
            answer = work => answer,
            never = inlet.serve() => match never {},
        }
    };
    let answer = shop.in_flight.guarded(to, ctx.gone(), both).await;
    answer.map(|answer| Answer { line: Some(Box::new(inlet.line.messages)), ..answer })
}

impl<'a> Inlet<'a> {
    fn new(line: Line<'a>, message: &Message, source: Source) -> Self {
        Self {
            line,
            order: Order::new(source.first),
            // It tells the caller where to send to.
            word: Some(format!("={}", source.first)),
            source,
            open: true,
            wanted: true,
            pace: Pace::new(line::idle(message)),
        }
    }

    /// Takes in what comes, until it is dropped with the request.
    async fn serve(&mut self) -> std::convert::Infallible {
        self.say().await;
        loop {
            tokio::select! {
                biased;
                allowed = self.source.allowed.recv(), if self.wanted => self.allow(allowed).await,
                message = self.line.messages.next(), if self.open => self.hear(message.as_ref()).await,
                () = &mut self.line.abandoned, if self.open => self.fail(draining(), true).await,
                () = &mut self.line.tick => self.show_life().await,
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
        self.line.heard = Instant::now();
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
            tracing::error!(operation = %self.line.operation.name, "an upload ran over its bounds");
        }
    }

    /// The last piece. The caller is shown life until it is answered.
    fn end(&mut self, last: Piece) {
        self.hand_over(last);
        self.open = false;
    }

    /// Gives the upload up; `tell` where somebody is there to be told.
    async fn fail(&mut self, problem: Problem, tell: bool) {
        tracing::debug!(operation = %self.line.operation.name, %problem, "an upload is given up");
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
        if self.open && self.line.heard + self.pace.patience() <= now {
            self.fail(interrupted("nothing was heard of the caller"), false).await;
        }
        if self.line.spoke + self.pace.service_beat() <= now {
            self.say().await;
        }
        let patient = if self.open { self.line.heard + self.pace.patience() } else { now + self.pace.idle() };
        self.line.tick.as_mut().reset((self.line.spoke + self.pace.service_beat()).min(patient));
    }

    async fn say(&mut self) {
        let Some(word) = self.word.clone() else {
            // Nobody is there to hear it.
            self.line.spoke = Instant::now();
            return;
        };
        if let Err(error) = self.line.say(&Headers::new(), Bytes::from(word)).await {
            // The next word says the same; if none gets through, both sides give up by themselves.
            tracing::debug!(operation = %self.line.operation.name, %error, "a word to an uploading caller could not be sent");
        }
    }
}

fn draining() -> Problem {
    Problem::new(503, "draining", "the service is being stopped and cannot finish the upload").retriable()
}
