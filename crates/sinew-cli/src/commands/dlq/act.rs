//! The same action for one letter or for many: retry and drop.

use serde_json::json;
use sinew::{
    Bulk, Bus,
    dead_letters::{DeadLetters, Summary},
};

use super::{
    Author,
    choice::{Choice, Which, parted},
    show::unknown,
};
use crate::{
    error::{Error, code},
    quantity,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Letters go to their own group only, under their own logical id. Those that die meanwhile are left \
                  alone. Each change is told as an event (sinew.dead-letter-retried).\n\nExamples:\n  sinew dlq retry \
                  42 43 --reason 'mail server is back'\n  sinew dlq retry orders/mailer --code busy --rate 50 --dry-run\n  \
                  sinew dlq retry --all\n\nExit codes: 0 done, 1 some failed or there is no such letter, 2 usage, 4 bus \
                  unreachable."
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Many,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is dropped is gone; the event that tells of it (sinew.dead-letter-dropped) stays.\n\nExamples:\n  \
                  sinew dlq drop 42 --reason 'test order'\n  sinew dlq drop orders/mailer --older-than 30d --dry-run\n\nExit \
                  codes: 0 done, 1 some failed or there is no such letter, 2 usage, 4 bus unreachable."
)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    which: Many,
}

#[derive(Debug, clap::Args)]
struct Many {
    /// Sequences of letters, or one group (SERVICE/GROUP) or service
    #[arg(value_name = "SEQUENCE|GROUP")]
    which: Vec<Which>,
    #[command(flatten)]
    choice: Choice,
    /// All dead letters there are
    #[arg(long)]
    all: bool,
    /// At most this many in a second
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// At most this many in all
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Changes nothing and says what would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    author: Author,
}

/// What is done with a letter.
#[derive(Clone, Copy)]
enum Act {
    Retry,
    Drop,
}

pub(super) async fn retry(args: Args, session: &Session) -> Result<(), Error> {
    act(Act::Retry, &args.which, session).await
}

pub(super) async fn drop(args: DropArgs, session: &Session) -> Result<(), Error> {
    act(Act::Drop, &args.which, session).await
}

async fn act(act: Act, many: &Many, session: &Session) -> Result<(), Error> {
    let (sequences, place) = parted(&many.which)?;
    let named = !sequences.is_empty();
    if named && (!many.choice.is_empty() || many.all) {
        return Err(Error::usage("sequences need no further choice"));
    }
    if !named && place.is_none() && many.choice.is_empty() && !many.all {
        return Err(Error::usage("no letter is named")
            .hint("name sequences or SERVICE/GROUP, narrow by --code, --event or age, or say --all"));
    }
    let summary = session
        .on_bus(async |bus| {
            if named {
                one_by_one(bus, act, many, &sequences).await
            } else {
                bulk(bus, act, many, place).await
            }
        })
        .await?;
    report(act, many, &summary, session)
}

async fn bulk(bus: &Bus, act: Act, many: &Many, place: Option<&Which>) -> Result<Summary, Error> {
    // Without its stream there are no letters.
    if bus.stream(sinew::DEAD_LETTERS).await?.is_none() {
        return Ok(Summary::default());
    }
    let (letters, filter, by) = (DeadLetters::new(bus), many.choice.filter(place), many.author.by());
    Ok(match act {
        Act::Retry => letters.retry_all(&filter, &by, many.bulk()).await?,
        Act::Drop => letters.drop_all(&filter, &by, many.bulk()).await?,
    })
}

async fn one_by_one(bus: &Bus, act: Act, many: &Many, sequences: &[u64]) -> Result<Summary, Error> {
    let (letters, by) = (DeadLetters::new(bus), many.author.by());
    let mut summary = Summary::default();
    let mut pace = many.pace();
    for &sequence in
        sequences.iter().take(usize::try_from(many.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX))
    {
        if bus.stream(sinew::DEAD_LETTERS).await?.is_none() || letters.get(sequence).await?.is_none() {
            return Err(unknown(sequence));
        }
        summary.matched += 1;
        if many.dry_run {
            continue;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let done = match act {
            Act::Retry => letters.retry(sequence, &by).await,
            Act::Drop => letters.drop(sequence, &by).await,
        };
        match done {
            Ok(done) => summary.done += u64::from(done),
            Err(error) => summary.failed.push((sequence, error)),
        }
    }
    Ok(summary)
}

fn report(act: Act, many: &Many, summary: &Summary, session: &Session) -> Result<(), Error> {
    let failed: Vec<_> = summary
        .failed
        .iter()
        .map(|(sequence, error)| json!({ "sequence": sequence, "code": error.code(), "message": error.to_string() }))
        .collect();
    let value = json!({
        "matched": summary.matched, "done": summary.done, "dryRun": many.dry_run, "failed": failed,
    });
    let (did, would) = act.words();
    session.output.show(&value, |_| {
        if many.dry_run {
            return format!("would {would} {}; nothing was changed", letters(summary.matched));
        }
        let mut text = format!("{did} {} of {}", summary.done, letters(summary.matched));
        for (sequence, error) in &summary.failed {
            text.push_str(&format!("\n  {sequence}: {error}"));
        }
        text
    });
    if summary.failed.is_empty() {
        return Ok(());
    }
    let count = u64::try_from(summary.failed.len()).unwrap_or(u64::MAX);
    Err(Error::failed(code::LETTERS_FAILED, format!("{} could not be {did}", letters(count)))
        .hint("they still stand, each with its reason above"))
}

fn letters(count: u64) -> String {
    quantity::count(count, "dead letter")
}

impl Many {
    fn bulk(&self) -> Bulk {
        let bulk = self.rate.map_or_else(Bulk::default, |rate| Bulk::default().rate(rate));
        let bulk = self.limit.map_or(bulk, |limit| bulk.limit(limit));
        if self.dry_run { bulk.dry_run() } else { bulk }
    }

    fn pace(&self) -> Option<tokio::time::Interval> {
        let period = std::time::Duration::try_from_secs_f64(1.0 / self.rate?).ok()?;
        (!period.is_zero()).then(|| tokio::time::interval(period))
    }
}

impl Act {
    /// Returns what was done, and what would be.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Retry => ("retried", "retry"),
            Self::Drop => ("dropped", "drop"),
        }
    }
}
