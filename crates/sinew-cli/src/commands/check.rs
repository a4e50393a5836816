//! `sinew check`: the settings in force and where they came from, and what the bus says.

mod bus;
mod findings;
mod settings;
mod sync;

use std::path::PathBuf;

use serde_json::json;

use self::{findings::Severity, sync::SyncMode};
use crate::{
    error::{Error, code},
    output::columns,
    quantity,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a file the defaults are shown. Fails when the bus cannot be reached, after the settings.                   Warnings have a code and a page in `sinew explain`.\n\nExamples:\n  sinew check\n  sinew check \
                  --edge edge.yaml --orchestrator orchestrator.yaml\n  sinew check --strict --json | jq \
                  .bus.findings\n\nExit codes: 0 looked, with --strict 1 where there are warnings, 3 invalid file, 4 \
                  bus unreachable."
)]
pub(crate) struct Args {
    /// Configuration file of the edge to check
    #[arg(long, value_name = "FILE")]
    edge: Option<PathBuf>,
    /// Configuration file of the orchestrator to check
    #[arg(long, value_name = "FILE")]
    orchestrator: Option<PathBuf>,
    /// Configuration file of the nats-server, which alone says when writes reach its disk
    #[arg(long, value_name = "FILE")]
    server_config: Option<PathBuf>,
    /// Fails when there is a warning; notes do not count
    #[arg(long)]
    strict: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let mut rows = settings::of_session(&session.settings);
    rows.extend(settings::of_role::<sinew_edge::Config>("edge", args.edge.as_deref())?);
    rows.extend(settings::of_role::<sinew_orchestrator::Config>(
        "orchestrator",
        args.orchestrator.as_deref(),
    )?);
    let sync = SyncMode::read(args.server_config.as_deref())?;
    let found = session.on_bus(async |bus| bus::look(bus, sync).await).await;
    // The settings are worth seeing above all when the bus cannot be reached.
    let report = json!({ "settings": rows, "bus": found.as_ref().ok() });
    session.output.show(&report, |_| {
        let table: Vec<Vec<String>> = rows.iter().map(settings::Row::cells).collect();
        let bus = found
            .as_ref()
            .map_or_else(|_| String::new(), |found| format!("\n\n{}", found.to_text(&session.output)));
        format!("{}{bus}", columns(&table))
    });
    let warnings = found?.findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    if args.strict && warnings > 0 {
        let count = quantity::count(u64::try_from(warnings).unwrap_or(u64::MAX), "warning");
        return Err(Error::failed(code::FINDINGS, format!("there is reason for {count}"))
            .hint("each says what to do next, and `sinew explain CODE` says why"));
    }
    Ok(())
}
