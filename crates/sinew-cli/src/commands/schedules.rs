//! `sinew schedules`: events that wait at the server, once or again and again.

use serde::Serialize;
use sinew::{
    Ctx, Timestamp,
    schedule::{self, ScheduleId, Waiting},
};

use crate::{
    error::{Error, code},
    output::columns,
    quantity,
    session::Session,
};

/// What to do with schedules.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists what waits: single events, then recurring ones
    #[command(after_help = "Examples:\n  sinew schedules ls\n  sinew schedules ls --json | jq -r '.[].id'")]
    Ls,
    /// Takes back an event that waits, or ends a recurring one
    Rm(Rm),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew schedules rm mail.orders.reminder-due.o-7   # one that comes once\n  sinew \
                  schedules rm mail/nightly                    # a recurring one\n\nExit codes: 0 removed, 1 there was \
                  none, 2 usage, 4 bus unreachable."
)]
pub(crate) struct Rm {
    /// The id that `ls` shows
    #[arg(required = true)]
    ids: Vec<String>,
}

/// One that waits.
#[derive(Serialize)]
struct Shown {
    id: String,
    event: String,
    /// How often it comes; `once`, or as it was declared.
    when: String,
    next: Option<Timestamp>,
}

pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Ls => list(session).await,
        Command::Rm(args) => remove(&args, session).await,
    }
}

async fn list(session: &Session) -> Result<(), Error> {
    let waiting = session.on_bus(async |bus| Ok(schedule::list(bus).await?)).await?;
    let shown: Vec<Shown> = waiting.into_iter().map(Shown::new).collect();
    session.output.show(&shown, |shown| match shown.as_slice() {
        [] => "nothing waits".to_owned(),
        shown => {
            let head = ["ID", "EVENT", "WHEN", "NEXT"].map(str::to_owned).to_vec();
            columns(&std::iter::once(head).chain(shown.iter().map(Shown::cells)).collect::<Vec<_>>())
        }
    });
    Ok(())
}

async fn remove(args: &Rm, session: &Session) -> Result<(), Error> {
    let removed: Vec<bool> = session
        .on_bus(async |bus| {
            let mut removed = Vec::new();
            for id in &args.ids {
                removed.push(match id.split_once('/') {
                    Some((service, name)) => schedule::remove(bus, service, name).await?,
                    None => {
                        let id: ScheduleId =
                            id.parse().map_err(|_| Error::usage(format!("{id} is no id of a schedule")))?;
                        Ctx::detached(bus, "sinew-cli").cancel_scheduled(&id).await?
                    }
                });
            }
            Ok(removed)
        })
        .await?;
    let missing: Vec<&str> =
        args.ids.iter().zip(&removed).filter(|(_, removed)| !**removed).map(|(id, _)| id.as_str()).collect();
    if !missing.is_empty() {
        return Err(Error::failed(
            code::UNKNOWN_SCHEDULE,
            format!("nothing waits as {}", missing.join(", ")),
        )
        .hint("`sinew schedules ls` shows the ids; it may have been published meanwhile"));
    }
    session.output.show(&args.ids, |ids| format!("removed {}", ids.join(", ")));
    Ok(())
}

impl Shown {
    fn new(waiting: Waiting) -> Self {
        let event = |target: String| target.strip_prefix("evt.").map_or(target.clone(), str::to_owned);
        match waiting {
            Waiting::Once { id, target, due } => {
                Self { id: id.to_string(), event: event(target), when: "once".to_owned(), next: Some(due) }
            }
            Waiting::Recurring { service, name, target, recurrence, next } => {
                let zone = recurrence.time_zone().map(|zone| format!(" {zone}")).unwrap_or_default();
                let when = format!("{}{zone}", recurrence.as_str());
                Self { id: format!("{service}/{name}"), event: event(target), when, next }
            }
        }
    }

    fn cells(&self) -> Vec<String> {
        let next = self.next.map(|next| {
            let wait = next.duration_since(Timestamp::now());
            let wait = quantity::duration(std::time::Duration::from_secs(
                u64::try_from(wait.as_secs()).unwrap_or(0),
            ));
            format!("in {wait}")
        });
        vec![self.id.clone(), self.event.clone(), self.when.clone(), next.unwrap_or_else(|| "-".to_owned())]
    }
}
