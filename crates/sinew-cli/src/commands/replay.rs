//! `sinew replay`: gives a range of stored events to one group once more.

use std::time::{Duration, Instant};

use serde_json::json;
use sinew::{
    Bulk,
    replay::{Progress, Replay},
};

use crate::{commands::tail::target::GroupName, error::Error, moment::Moment, quantity, session::Session};

/// How often people are told how far it is.
const TELL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Events are copied into the inlet of that group alone and keep their logical ids; its handlers can tell \
                  that they are replayed. The group's event decides what is copied.\n\nExamples:\n  sinew replay \
                  orders/mailer --from 2h --dry-run\n  sinew replay orders/mailer --from 2030-01-31T12:00:00Z --to \
                  2030-01-31T13:00:00Z --rate 200\n  sinew replay orders/mailer --from 4711 --header \
                  ce-subject=o-1\n\nExit codes: 0 done or stopped by Ctrl-C, 1 failed, 2 usage, 4 bus unreachable."
)]
pub(crate) struct Args {
    /// The group, as SERVICE/GROUP
    group: GroupName,
    /// Where to begin: a duration back (2h), a time or a sequence
    #[arg(long, value_name = "WHEN")]
    from: Moment,
    /// Where to end, that included; what stands there now where nothing is said
    #[arg(long, value_name = "WHEN")]
    to: Option<Moment>,
    /// Only events with this header, such as ce-subject=o-1
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Option<(String, String)>,
    /// At most this many in a second
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// At most this many in all
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Name of the replay: going on under the same name copies nothing twice that was copied a moment ago
    #[arg(long)]
    id: Option<String>,
    /// Copies nothing and counts
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let id = args.id.clone().unwrap_or_else(sinew::new_id);
    let (progress, whole) = session
        .on_bus(async |bus| {
            let (mut last, mut told) = (Progress::default(), Instant::now());
            let report = |progress: Progress| {
                last = progress;
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    session.output.note(&format!("{} so far, at #{}", progress.copied, progress.next));
                }
            };
            tokio::select! {
                done = args.replay(&id).run(bus, args.bulk(), report) => Ok((done?, true)),
                () = sinew::shutdown::requested() => Ok((last, false)),
            }
        })
        .await?;
    let value = json!({
        "id": id, "first": progress.first, "last": progress.last, "copied": progress.copied,
        "skipped": progress.skipped, "next": progress.next, "whole": whole, "dryRun": args.dry_run,
    });
    session.output.show(&value, |_| args.text(&id, &progress, whole));
    Ok(())
}

impl Args {
    fn replay(&self, id: &str) -> Replay {
        let replay = Replay::new(&self.group.service, &self.group.group).id(id);
        let replay = match self.from.resolve() {
            Ok(sequence) => replay.from_sequence(sequence),
            Err(time) => replay.from_time(time),
        };
        let replay = match self.to.as_ref().map(Moment::resolve) {
            Some(Ok(sequence)) => replay.to_sequence(sequence),
            Some(Err(time)) => replay.to_time(time),
            None => replay,
        };
        match &self.header {
            Some((name, value)) => replay.header(name, value),
            None => replay,
        }
    }

    fn bulk(&self) -> Bulk {
        let bulk = self.rate.map_or_else(Bulk::default, |rate| Bulk::default().rate(rate));
        let bulk = self.limit.map_or(bulk, |limit| bulk.limit(limit));
        if self.dry_run { bulk.dry_run() } else { bulk }
    }

    fn text(&self, id: &str, progress: &Progress, whole: bool) -> String {
        let events = quantity::count(progress.copied, "event");
        let group = &self.group;
        let skipped = match progress.skipped {
            0 => String::new(),
            skipped => format!("; {} too large to be copied", quantity::count(skipped, "event")),
        };
        match (self.dry_run, whole) {
            (true, _) => format!("would give {events} to {group}; nothing was copied"),
            (false, true) => format!("gave {events} to {group}{skipped}"),
            (false, false) => format!(
                "stopped after {events}{skipped}; go on with `sinew replay {group} --from {} --id {id}`",
                progress.next
            ),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as ce-subject=o-1")?;
    Ok((name.to_owned(), value.to_owned()))
}
