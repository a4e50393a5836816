//! `sinew top`: what services do just now: rates, errors, latency; and how far consumer groups are.

mod sample;
mod table;

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use sinew::Bus;

use self::{sample::Sample, table::Table};
use crate::{error::Error, operation::duration, session::Session};

/// Moves to the upper left and clears from there.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rates are the difference between two looks at `$SRV.STATS`, so the first table takes one interval. \
                  Latency is the mean of that interval, from the moment a request is begun.\n\nExamples:\n  sinew \
                  top\n  sinew top orders --interval 5s\n  sinew top --once --json | jq '.groups[] | select(.lag > \
                  1000)'\n\nExit codes: 0 ended by Ctrl-C or --once, 2 usage, 4 bus unreachable."
)]
pub(crate) struct Args {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Time between two looks
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration)]
    interval: Duration,
    /// Prints one table and ends
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let mut stop = std::pin::pin!(sinew::shutdown::requested());
    session
        .on_bus(async |bus| {
            tokio::select! {
                watched = watch(bus, &args, session) => watched,
                () = &mut stop => Ok(()),
            }
        })
        .await
}

async fn watch(bus: &Bus, args: &Args, session: &Session) -> Result<(), Error> {
    let on_terminal = !session.output.is_json() && !args.once && io::stdout().is_terminal();
    let mut began = Instant::now();
    let mut before = Sample::take(bus).await?;
    loop {
        tokio::time::sleep(args.interval.saturating_sub(began.elapsed())).await;
        began = Instant::now();
        let now = Sample::take(bus).await?;
        let table = Table::between(&before, &now).only(&args.services);
        let shown = if session.output.is_json() {
            serde_json::to_string(&table).unwrap_or_default()
        } else {
            let clear = if on_terminal { CLEAR } else { "" };
            format!("{clear}{}", table.to_text(&session.output))
        };
        if session.output.line(&shown).is_err() || args.once {
            return Ok(());
        }
        before = now;
    }
}
