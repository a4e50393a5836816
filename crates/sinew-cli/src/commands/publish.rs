//! `sinew publish`: publishes one event and waits until it is stored.

use serde_json::json;
use sinew::{
    Bus, Ctx,
    bus::PubAck,
    wire::{CloudEvent, ContentType, Headers, header},
};

use crate::{
    document,
    error::Error,
    operation::EventName,
    schemas::{Schemas, Verdict},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew publish orders.confirmed '{\"order\":\"o-1\",\"tracking\":\"p-1\"}'"
)]
pub(crate) struct Args {
    /// The event, as DOMAIN.EVENT
    #[arg(value_name = "DOMAIN.EVENT")]
    event: EventName,
    /// The event's data: JSON, @FILE or - for standard input
    #[arg(default_value = "{}", value_name = "JSON")]
    data: String,
    /// Logical id: publishing it again soon stores it once
    #[arg(long)]
    id: Option<String>,
    /// What the event is about, for example an order's id
    #[arg(long)]
    about: Option<String>,
    /// Version of the event's schema
    #[arg(long, default_value_t = 1)]
    event_version: u32,
    /// Publishes data that does not fit the event's contract
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(mut args: Args, session: &Session) -> Result<(), Error> {
    let data = document::read(&args.data)?;
    let payload = sinew::wire::encode(ContentType::Json, &data).map_err(sinew::Error::from)?;
    let id = args.id.take().unwrap_or_else(sinew::new_id);
    let (stored, verdict) = session.on_bus(async |bus| publish(bus, &args, &id, payload).await).await?;
    let PubAck { stream, sequence, duplicate } = &stored;
    let result = json!({
        "id": id, "stream": stream, "sequence": sequence, "duplicate": duplicate, "verdict": verdict,
    });
    session.output.show(&result, |_| {
        let again = if *duplicate { ", where it stood already" } else { "" };
        let name = &args.event.name;
        let unknown = match verdict {
            Verdict::Unknown => {
                format!("\nno contract describes {name} v{}: is it spelled so?", args.event_version)
            }
            _ => String::new(),
        };
        format!("stored {name} as {id} in {stream} at {sequence}{again}{unknown}")
    });
    Ok(())
}

/// An event that no group can read becomes a dead letter in each of them, so it is looked at before.
async fn publish(
    bus: &Bus,
    args: &Args,
    id: &str,
    payload: bytes::Bytes,
) -> Result<(PubAck, Verdict), Error> {
    let EventName { name, subject } = &args.event;
    let headers = headers(args, id)?;
    let verdict = match Schemas::load(bus).await.fit(name, &headers, &payload) {
        Err(_) if args.force => Verdict::Unfit,
        judged => judged?,
    };
    sinew::ensure_streams(bus).await?;
    let ctx = Ctx::detached(bus, "sinew-cli");
    let stored = sinew::publish_raw(&ctx, subject.as_str(), name, id, headers, payload).await?;
    Ok((stored, verdict))
}

fn headers(args: &Args, id: &str) -> Result<Headers, sinew::Error> {
    let attributes = CloudEvent {
        id: id.to_owned(),
        kind: format!("{}.v{}", args.event.name, args.event_version),
        source: "/sinew-cli".to_owned(),
        time: None,
        subject: args.about.clone(),
    };
    let mut headers = Headers::new();
    attributes.write(&mut headers)?;
    headers.set(header::CONTENT_TYPE, ContentType::Json.as_str())?;
    Ok(headers)
}
