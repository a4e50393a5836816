//! `sinew tail`: messages as they pass, or as they were stored; and what becomes of those a consumer group is given.

mod group;
mod printer;
mod record;
mod source;
pub(crate) mod target;

use sinew::Bus;

use self::{printer::Printer, record::Record, source::Source, target::Target};
use crate::{error::Error, filter::Filter, moment::Moment, schemas::Schemas, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Payloads are shown as JSON, checked against the catalogue's schemas. Live messages a slow terminal \
                  cannot take are dropped and counted; with --since nothing is, as it is read from the \
                  stream.\n\nExamples:\n  sinew tail orders.placed\n  sinew tail 'orders.>' --since 10m --filter \
                  'total>100'\n  sinew tail 'svc.orders.>' --headers\n  sinew tail orders/mailer          # a consumer \
                  group: given, retried, dead, lag\n  sinew tail orders.placed --json --count 1 | jq .data\n\nExit \
                  codes: 0 ended by Ctrl-C, --count or a closed pipe, 1 no such group or stream, 2 usage, 4 bus \
                  unreachable."
)]
pub(crate) struct Args {
    /// An event (orders.placed), a subject ('svc.orders.>') or a group (orders/mailer); wildcards allowed
    target: String,
    /// Takes TARGET as a subject, whatever it looks like
    #[arg(long)]
    exact: bool,
    /// Begins with stored messages: a duration back (10m), a time (2030-01-31T12:00:00Z) or a sequence (4711)
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Ends after this many messages
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Only messages that hold this: member=value, !=, ~ (contains), > or <; several must all hold
    #[arg(long, value_name = "CONDITION")]
    filter: Vec<Filter>,
    /// Shows the payload's bytes as they are
    #[arg(long)]
    raw: bool,
    /// Shows the headers
    #[arg(long)]
    headers: bool,
}

/// The word to end.
type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// How messages are shown and which.
struct View {
    schemas: Schemas,
    filters: Vec<Filter>,
    raw: bool,
    headers: bool,
    json: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let target = if args.exact {
        Target::Subject(args.target.clone())
    } else {
        args.target.parse().map_err(Error::usage)?
    };
    // Heard from the first moment, so that Ctrl-C never ends it with lines half written.
    let mut stop: Stop = Box::pin(sinew::shutdown::requested());
    session
        .on_bus(async |bus| match &target {
            Target::Subject(subject) => subject_tail(bus, subject, &args, session, &mut stop).await,
            Target::Group(name) => group::tail(bus, name, &args, session, &mut stop).await,
        })
        .await
}

async fn subject_tail(
    bus: &Bus,
    subject: &str,
    args: &Args,
    session: &Session,
    stop: &mut Stop,
) -> Result<(), Error> {
    let view = View::new(bus, args, session).await;
    let mut source = Source::open(bus, subject, args.since.as_ref()).await?;
    session.output.note(&format!("listening on {subject}; Ctrl-C ends"));
    let mut printer = Printer::start(session.output);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let arrived = tokio::select! {
            arrived = source.next() => arrived?,
            () = &mut *stop => break,
        };
        let Some(arrived) = arrived else { break };
        let record = view.record(&arrived.subject, arrived.sequence, arrived.headers, &arrived.payload);
        let Some(record) = record else { continue };
        let line = view.line(&record, &session.output);
        // What is read from a stream waits for the terminal; what passes by does not.
        let open = if source.is_stored() {
            tokio::select! {
                open = printer.print(line) => open,
                () = &mut *stop => false,
            }
        } else {
            printer.offer(line)
        };
        if !open {
            break;
        }
        left -= 1;
    }
    printer.finish().await;
    Ok(())
}

impl View {
    async fn new(bus: &Bus, args: &Args, session: &Session) -> Self {
        Self {
            schemas: Schemas::load(bus).await,
            filters: args.filter.clone(),
            raw: args.raw,
            headers: args.headers,
            json: session.output.is_json(),
        }
    }
}
