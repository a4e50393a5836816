//! `sinew publish`: publishes one event and waits until it is stored.

use serde_json::json;
use sinew::{
    Bus, Ctx,
    bus::PubAck,
    wire::{CloudEvent, ContentType, Headers, header},
};

use crate::{document, error::Error, operation::EventName, session::Session};

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
}

pub(crate) async fn run(mut args: Args, session: &Session) -> Result<(), Error> {
    let data = document::read(&args.data)?;
    let payload = sinew::wire::encode(ContentType::Json, &data).map_err(sinew::Error::from)?;
    let id = args.id.take().unwrap_or_else(sinew::new_id);
    let stored = session.on_bus(async |bus| Ok(publish(bus, &args, &id, payload).await?)).await?;
    let result = json!({ "id": id, "stream": stored.stream, "sequence": stored.sequence, "duplicate": stored.duplicate });
    session.output.show(&result, |_| {
        let again = if stored.duplicate { ", where it stood already" } else { "" };
        format!("stored {} as {id} in {} at {}{again}", args.event.name, stored.stream, stored.sequence)
    });
    Ok(())
}

async fn publish(bus: &Bus, args: &Args, id: &str, payload: bytes::Bytes) -> Result<PubAck, sinew::Error> {
    sinew::ensure_streams(bus).await?;
    let EventName { name, subject } = &args.event;
    let attributes = CloudEvent {
        id: id.to_owned(),
        kind: format!("{name}.v{}", args.event_version),
        source: "/sinew-cli".to_owned(),
        time: None,
        subject: args.about.clone(),
    };
    let mut headers = Headers::new();
    attributes.write(&mut headers)?;
    headers.set(header::CONTENT_TYPE, ContentType::Json.as_str())?;
    let ctx = Ctx::detached(bus, "sinew-cli");
    sinew::publish_raw(&ctx, subject.as_str(), name, id, headers, payload).await
}
