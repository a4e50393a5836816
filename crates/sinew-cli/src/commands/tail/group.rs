//! A consumer group at work: what it is given, what it hands back, what it gives up, and how far behind it is.

use std::time::Duration;

use serde_json::{Value, json};
use sinew::{
    Bus, EVENTS,
    bus::{ConsumerInfo, Message},
};

use super::{
    Args, Printer, Stop, View,
    source::{Arrived, Source},
    target::GroupName,
};
use crate::{
    catalogue::nearest,
    error::{Error, code},
    output::{Output, Style},
    session::Session,
};

/// How often the server is asked how far the group is.
const LOOK: Duration = Duration::from_secs(1);

/// What happened in a group.
enum Happened {
    /// An event for the group was stored.
    Given(Arrived),
    /// An attempt failed or a member stopped: the event comes again.
    HandedBack { sequence: u64, attempt: u64 },
    /// The group gave an event up.
    Dead(Message),
    /// It moved.
    Progress(ConsumerInfo),
}

/// Everything that tells of a group.
struct Watch<'b> {
    bus: &'b Bus,
    consumer: String,
    given: Source,
    handed_back: sinew::bus::Subscription,
    dead: sinew::bus::Subscription,
    look: tokio::time::Interval,
    last: ConsumerInfo,
}

pub(super) async fn tail(
    bus: &Bus,
    name: &GroupName,
    args: &Args,
    session: &Session,
    stop: &mut Stop,
) -> Result<(), Error> {
    let view = View::new(bus, args, session).await;
    let mut watch = Watch::open(bus, name, args).await?;
    session.output.note(&format!("watching group {name}; Ctrl-C ends"));
    let mut printer = Printer::start(session.output);
    printer.offer(progress(&watch.last, &session.output));
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let happened = tokio::select! {
            happened = watch.next() => happened?,
            () = &mut *stop => break,
        };
        let Some(happened) = happened else { break };
        let counts = matches!(happened, Happened::Given(_));
        let Some(line) = line(&happened, &view, &session.output) else { continue };
        if !printer.offer(line) {
            break;
        }
        left -= u64::from(counts);
    }
    printer.finish().await;
    Ok(())
}

impl<'b> Watch<'b> {
    async fn open(bus: &'b Bus, name: &GroupName, args: &Args) -> Result<Self, Error> {
        let consumer = name.consumer();
        let last = match bus.consumer(EVENTS, &consumer).await? {
            Some(info) => info,
            None => return Err(unknown(bus, name).await),
        };
        let handed_back = bus
            .subscribe(&format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{EVENTS}.{consumer}"), None)
            .await?;
        let dead = bus.subscribe(&name.dead_letters(), None).await?;
        let subject = last.filters.first().map_or("evt.>", String::as_str);
        let given = match &args.since {
            Some(since) => Source::open(bus, subject, Some(since)).await?,
            // From where the group is: what waits for it is shown too.
            None => Source::stored(bus, EVENTS, subject, last.settled_below + 1).await?,
        };
        Ok(Self { bus, consumer, given, handed_back, dead, look: tokio::time::interval(LOOK), last })
    }

    /// Returns what happened next; `None` once the bus is closed or the group is gone.
    async fn next(&mut self) -> Result<Option<Happened>, Error> {
        loop {
            tokio::select! {
                given = self.given.next() => return Ok(given?.map(Happened::Given)),
                dead = self.dead.next() => return Ok(dead.map(Happened::Dead)),
                word = self.handed_back.next() => match word.as_ref().map(handed_back) {
                    Some(Some(happened)) => return Ok(Some(happened)),
                    Some(None) => {}
                    None => return Ok(None),
                },
                _ = self.look.tick() => {
                    let Some(now) = self.bus.consumer(EVENTS, &self.consumer).await? else { return Ok(None) };
                    let moved = standing(&now) != standing(&self.last);
                    self.last = now.clone();
                    if moved {
                        return Ok(Some(Happened::Progress(now)));
                    }
                }
            }
        }
    }
}

fn line(happened: &Happened, view: &View, output: &Output) -> Option<String> {
    match happened {
        Happened::Given(arrived) => {
            let record =
                view.record(&arrived.subject, arrived.sequence, arrived.headers.clone(), &arrived.payload)?;
            Some(if view.json {
                tagged("given", &record)
            } else {
                format!("given    {}", record.text(output))
            })
        }
        Happened::HandedBack { sequence, attempt } if view.json => {
            Some(json!({ "what": "handed-back", "sequence": sequence, "attempt": attempt }).to_string())
        }
        Happened::HandedBack { sequence, attempt } => {
            let text = format!("again    #{sequence} after attempt {attempt}");
            Some(output.paint(Style::Doubtful, &text))
        }
        Happened::Dead(message) => {
            let headers = message.headers();
            let told = |name: &str| headers.get(name).unwrap_or("?").to_owned();
            let (sequence, reason) = (told("Sinew-Dead-Sequence"), told("Sinew-Dead-Reason"));
            let attempts = told("Sinew-Dead-Attempts");
            if !view.json {
                let text = format!("dead     #{sequence} after attempt {attempts}: {reason}");
                return Some(output.paint(Style::Bad, &text));
            }
            let record = view.record(message.subject(), sequence.parse().ok(), headers, message.payload())?;
            let mut value = serde_json::to_value(&record).unwrap_or_default();
            value["what"] = "dead".into();
            value["reason"] = reason.into();
            value["attempts"] = attempts.parse::<u64>().ok().into();
            Some(value.to_string())
        }
        Happened::Progress(info) => Some(progress(info, output)),
    }
}

fn progress(info: &ConsumerInfo, output: &Output) -> String {
    let (settled, pending, unsettled, redelivered) = standing(info);
    if output.is_json() {
        return json!({
            "what": "progress", "settledBelow": settled, "pending": pending, "inHand": unsettled,
            "redelivered": redelivered, "waiting": info.waiting,
        })
        .to_string();
    }
    let nobody = if info.waiting == 0 && unsettled == 0 { ", nobody asks for more" } else { "" };
    let text = format!(
        "group    settled up to #{settled}; {pending} behind, {unsettled} in hand, {redelivered} of them again{nobody}"
    );
    output.paint(Style::Quiet, &text)
}

/// What is worth a line when it changes.
fn standing(info: &ConsumerInfo) -> (u64, u64, u64, u64) {
    (info.settled_below, info.pending, info.unsettled, info.redelivered)
}

fn handed_back(advisory: &Message) -> Option<Happened> {
    let told: Value = serde_json::from_slice(advisory.payload()).ok()?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64);
    Some(Happened::HandedBack { sequence: number("stream_seq")?, attempt: number("deliveries")? })
}

fn tagged(what: &str, record: &super::Record) -> String {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    value["what"] = what.into();
    value.to_string()
}

async fn unknown(bus: &Bus, name: &GroupName) -> Error {
    let consumers = bus.consumers(EVENTS).await.unwrap_or_default();
    let known: Vec<String> = consumers
        .iter()
        .filter_map(|consumer| GroupName::of_consumer(&consumer.name))
        .map(|group| group.to_string())
        .collect();
    let error = Error::failed(code::UNKNOWN_GROUP, format!("there is no consumer group {name}"));
    match nearest(&name.to_string(), &known).as_slice() {
        [] if known.is_empty() => error.hint("no service with a consumer group was ever started here"),
        [] => error.hint(format!("groups are {}", known.join(", "))),
        close => error.hint(format!("did you mean {}?", close.join(" or "))),
    }
}
