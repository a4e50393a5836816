//! `sinew check`: the settings in force and where they came from, and what the bus says.

mod bus;
mod settings;

use std::path::PathBuf;

use serde_json::json;

use crate::{error::Error, output::columns, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a file the defaults are shown. Fails when the bus cannot be reached, after the settings.\n\nExamples:\n  sinew check\n  sinew check --edge edge.yaml --orchestrator orchestrator.yaml"
)]
pub(crate) struct Args {
    /// Configuration file of the edge to check
    #[arg(long, value_name = "FILE")]
    edge: Option<PathBuf>,
    /// Configuration file of the orchestrator to check
    #[arg(long, value_name = "FILE")]
    orchestrator: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let mut rows = settings::of_session(&session.settings);
    rows.extend(settings::of_role::<sinew_edge::Config>("edge", args.edge.as_deref())?);
    rows.extend(settings::of_role::<sinew_orchestrator::Config>(
        "orchestrator",
        args.orchestrator.as_deref(),
    )?);
    let found = session.on_bus(async |bus| bus::look(bus).await).await;
    // The settings are worth seeing above all when the bus cannot be reached.
    let report = json!({ "settings": rows, "bus": found.as_ref().ok() });
    session.output.show(&report, |_| {
        let table: Vec<Vec<String>> = rows.iter().map(settings::Row::cells).collect();
        let bus = found
            .as_ref()
            .map_or_else(|_| String::new(), |found| format!("\n\n{}", found.to_text(&session.output)));
        format!("{}{bus}", columns(&table))
    });
    found.map(|_| ())
}
