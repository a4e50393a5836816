//! `sinew edge check`: every mistake of a file at once, and with a bus also what nobody serves.

use std::path::PathBuf;

use serde_json::json;
use sinew_edge::{Services, overview};

use crate::{
    config,
    diagnostics::counted,
    error::{Error, code},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs no broker. With --live the operations that routes name are looked up on the bus, too.\n\nExamples:\n  \
                  sinew edge check edge.yaml\n  sinew edge check edge.yaml --live --json | jq .notes\n\nExit codes: 0 nothing \
                  wrong, 1 with --live somebody is missing, 3 mistakes, 4 bus unreachable."
)]
pub(super) struct Args {
    /// Settings and routes, as YAML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also looks whether somebody serves what the routes lead to
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(args: &Args, session: &Session) -> Result<(), Error> {
    let config = config::edge(Some(&args.file))?;
    let notes = if args.live {
        let services = session.on_bus(async |bus| Ok(Services::read(bus).await?)).await?;
        overview(&config, &services).notes
    } else {
        Vec::new()
    };
    let routes = config.routes.len();
    let told = json!({ "file": args.file, "routes": routes, "notes": notes });
    session.output.show(&told, |_| {
        let verdict = format!("{}: {}, nothing wrong", args.file.display(), counted(routes, "route"));
        [verdict].into_iter().chain(notes.iter().cloned()).collect::<Vec<_>>().join("\n")
    });
    if notes.is_empty() {
        return Ok(());
    }
    Err(Error::failed(code::FINDINGS, "not every route is served")
        .hint("start what is missing, or correct the names of operations: `sinew services` lists them"))
}
