//! The caller's end at work: one task that owns the inbox of one stream, checks the order, asks for more, shows life.

use bytes::Bytes;
use sinew_wire::{CodecError, Headers, Problem, ServiceError, StreamRequest, header};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Pace,
    order::{Head, Order, Part},
};
use crate::{
    Bus, CallError,
    bus::{Message, Subscription},
    call::{declared_problem, refusal},
    telemetry::Span,
};

type Failed<R> = CallError<<R as Received>::Error>;
pub(super) type Item<R> = Result<<R as Received>::Item, Failed<R>>;

/// Where the task's findings go, and where it hears how many items were taken.
type Ends<R> = (oneshot::Sender<Result<(), Failed<R>>>, mpsc::Sender<Item<R>>, mpsc::UnboundedReceiver<u64>);

/// What a stream consists of, for whoever receives it.
pub(super) trait Received: Send + 'static {
    type Item: Send + 'static;
    type Error: ServiceError;

    /// Reads one item.
    fn read(message: &Message) -> Result<Self::Item, CodecError>;
}

/// Items as they came.
#[derive(Debug)]
pub(super) enum Raw {}

/// Receives one stream.
pub(super) struct Reception<R: Received> {
    bus: Bus,
    inbox: String,
    messages: Subscription,
    /// Where the service listens; unknown until it has said something.
    control: Option<String>,
    opened: Option<oneshot::Sender<Result<(), Failed<R>>>>,
    items: mpsc::Sender<Item<R>>,
    taken: mpsc::UnboundedReceiver<u64>,
    order: Order,
    credit: u64,
    pace: Pace,
    deadline: Option<Instant>,
    heard: Instant,
    spoke: Instant,
}

/// How a stream ends.
enum Ending<E> {
    /// The service said so.
    End,
    /// With an error; the service need not be told.
    Failed(CallError<E>),
    /// With an error the service does not know of.
    Broken(CallError<E>),
    /// Nobody wants more of it.
    Dropped,
}

impl<R: StreamRequest> Received for R {
    type Item = R::Item;
    type Error = R::Error;

    fn read(message: &Message) -> Result<R::Item, CodecError> {
        message.content_type().and_then(|codec| sinew_wire::decode(codec, message.payload()))
    }
}

impl Received for Raw {
    type Item = Message;
    type Error = Problem;

    fn read(message: &Message) -> Result<Message, CodecError> {
        Ok(message.clone())
    }
}

impl<R: Received> Reception<R> {
    pub(super) fn new(
        bus: Bus,
        (messages, inbox): (Subscription, String),
        (opened, items, taken): Ends<R>,
        credit: u64,
        pace: Pace,
        deadline: Option<Instant>,
    ) -> Self {
        let (control, order, now) = (None, Order::new(credit), Instant::now());
        let opened = Some(opened);
        Self {
            bus,
            inbox,
            messages,
            control,
            opened,
            items,
            taken,
            order,
            credit,
            pace,
            deadline,
            heard: now,
            spoke: now,
        }
    }

    /// Receives until the stream ends or nobody wants more of it.
    pub(super) async fn run(mut self, span: Span) {
        let ending = self.receive().await;
        if matches!(ending, Ending::Broken(_) | Ending::Dropped) {
            self.say("-".to_owned()).await;
        }
        let error = match ending {
            Ending::End | Ending::Dropped => None,
            Ending::Failed(error) | Ending::Broken(error) => Some(error),
        };
        match &error {
            Some(error) => span.fail(error.to_string()),
            None => drop(span),
        }
        self.finish(error);
    }

    async fn receive(&mut self) -> Ending<R::Error> {
        let mut tick = std::pin::pin!(tokio::time::sleep_until(self.due()));
        loop {
            tokio::select! {
                biased;
                taken = self.taken.recv() => match taken {
                    Some(taken) => {
                        self.order.allow(taken.saturating_add(self.credit));
                        self.ask().await;
                    }
                    None => return Ending::Dropped,
                },
                message = self.messages.next() => {
                    let Some(message) = message else {
                        return Ending::Failed(CallError::Interrupted("the connection was closed by this process".to_owned()));
                    };
                    if let Some(ending) = self.take(&message) {
                        return ending;
                    }
                }
                () = &mut tick => {
                    if let Some(error) = self.overdue() {
                        return Ending::Broken(error);
                    }
                    if self.spoke + self.pace.caller_beat() <= Instant::now() {
                        self.ask().await;
                    }
                    tick.as_mut().reset(self.due());
                }
            }
        }
    }

    /// Reads a message; `Some` if it is the last one.
    fn take(&mut self, message: &Message) -> Option<Ending<R::Error>> {
        if message.status() == Some(503) {
            // The request's own, or that of a word to a control inbox which is gone.
            return Some(Ending::Failed(match self.control {
                None => CallError::NoResponders,
                Some(_) => CallError::Interrupted("the service is gone".to_owned()),
            }));
        }
        self.heard = Instant::now();
        if let (None, Some(control)) = (&self.control, message.reply_to()) {
            self.control = Some(control.to_owned());
        }
        if let Some(problem) = declared_problem(message) {
            return Some(Ending::Failed(refusal(problem)));
        }
        let number = |name| message.header(name).and_then(|text| text.parse().ok());
        let head = Head { seq: number(header::SEQ), end: number(header::END), is_empty: message.is_empty() };
        let broken = |reason: String| Some(Ending::Broken(CallError::Interrupted(reason)));
        match self.order.judge(head) {
            Part::Preparing => None,
            Part::Alive => {
                self.open();
                None
            }
            Part::Item => {
                self.open();
                self.hand_over(message)
            }
            Part::End => Some(Ending::End),
            Part::Gap { missing } => broken(format!("{missing} items were lost on the way")),
            Part::Unasked => broken("the service sends what nobody asked for".to_owned()),
            Part::Reply => Some(Ending::Failed(CallError::Incompatible(
                "the operation answers with one reply, not with a stream".to_owned(),
            ))),
        }
    }

    fn hand_over(&mut self, message: &Message) -> Option<Ending<R::Error>> {
        match R::read(message) {
            // There is room for all that were asked for; only a dropped receiver refuses.
            Ok(item) => self.items.try_send(Ok(item)).is_err().then_some(Ending::Dropped),
            Err(error) => Some(Ending::Broken(CallError::Incompatible(error.to_string()))),
        }
    }

    fn open(&mut self) {
        if let Some(opened) = self.opened.take() {
            // Whoever gave up waiting has dropped the other end of `taken` as well.
            let _ = opened.send(Ok(()));
        }
    }

    /// Hands the end over: to whoever waits for the stream to open, else behind the last item.
    fn finish(mut self, error: Option<Failed<R>>) {
        match (self.opened.take(), error) {
            (Some(opened), error) => {
                let _ = opened.send(error.map_or(Ok(()), Err));
            }
            (None, Some(error)) => {
                let _ = self.items.try_send(Err(error));
            }
            (None, None) => {}
        }
    }

    /// Says how many items may come in all, which shows life as well.
    async fn ask(&mut self) {
        self.say(format!("={}", self.order.allowed())).await;
    }

    async fn say(&mut self, word: String) {
        self.spoke = Instant::now();
        let Some(control) = &self.control else { return };
        let said = self.bus.post(control, Some(&self.inbox), &Headers::new(), &Bytes::from(word)).await;
        if let Err(error) = said {
            // The next word says the same; if none gets through, both sides give up by themselves.
            tracing::debug!(control, %error, "a word to a streaming service could not be sent");
        }
    }

    fn overdue(&self) -> Option<Failed<R>> {
        let now = Instant::now();
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        (late || self.heard + self.pace.idle() <= now).then_some(CallError::TimedOut)
    }

    fn due(&self) -> Instant {
        let next = (self.spoke + self.pace.caller_beat()).min(self.heard + self.pace.idle());
        self.deadline.map_or(next, |deadline| next.min(deadline))
    }
}
