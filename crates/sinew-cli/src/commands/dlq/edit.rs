//! Mending a dead letter: another payload, of the same media type, that fits the contract.

use serde_json::json;
use sinew::{
    dead_letters::DeadLetters,
    wire::{ContentType, header},
};

use super::{Author, show::unknown};
use crate::{document, error::Error, schemas::Schemas, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The payload is written in the letter's own media type. A new letter takes the old one's place; both \
                  sequences are told as an event (sinew.dead-letter-edited).\n\nExamples:\n  sinew dlq edit 42 \
                  '{\"order\":\"o-1\"}' --reason 'lost the id' --retry\n  sinew dlq show 42 --json | jq .data | sinew \
                  dlq edit 42 - --dry-run\n\nExit codes: 0 done, 1 no such letter or not what the contract says, 2 usage, 4 bus \
                  unreachable."
)]
pub(crate) struct Args {
    /// The letter's sequence
    sequence: u64,
    /// The new payload: JSON, @FILE or - for standard input
    #[arg(value_name = "JSON")]
    payload: String,
    /// Gives it to its group at once
    #[arg(long)]
    retry: bool,
    /// Takes a payload that does not fit the contract
    #[arg(long)]
    force: bool,
    /// Changes nothing and says whether it would fit
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    author: Author,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let data = document::read(&args.payload)?;
    let replaced = session
        .on_bus(async |bus| {
            let letters = DeadLetters::new(bus);
            let absent = || unknown(args.sequence);
            if bus.stream(sinew::DEAD_LETTERS).await?.is_none() {
                return Err(absent());
            }
            let letter = letters.get(args.sequence).await?.ok_or_else(absent)?;
            // What cannot be read was not written by us; JSON is what everybody reads.
            let to = letter.content_type().unwrap_or(ContentType::Json);
            let payload = sinew::wire::encode(to, &data).map_err(sinew::Error::from)?;
            let mut headers = letter.headers.clone();
            headers.set(header::CONTENT_TYPE, to.as_str()).map_err(sinew::Error::from)?;
            if !args.force {
                // A letter that dies of its bytes once more is worth preventing; what nobody describes is its author's.
                Schemas::load(bus).await.fit(&letter.event, &headers, &payload)?;
            }
            if args.dry_run {
                return Ok(None);
            }
            let by = args.author.by();
            let replacement = letters.edit(args.sequence, to, payload, &by).await?.ok_or_else(absent)?;
            if args.retry {
                letters.retry(replacement, &by).await?;
            }
            Ok(Some(replacement))
        })
        .await?;
    let retried = args.retry && !args.dry_run;
    let value = json!({ "sequence": args.sequence, "replacement": replaced, "retried": retried, "dryRun": args.dry_run });
    session.output.show(&value, |_| match replaced {
        None => format!("letter {} would be replaced; nothing was changed", args.sequence),
        Some(new) if retried => format!("letter {} became {new} and was given to its group", args.sequence),
        Some(new) => {
            format!("letter {} became {new}: `sinew dlq retry {new}` gives it to its group", args.sequence)
        }
    });
    Ok(())
}
