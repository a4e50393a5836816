//! `sinew orchestrator`: an orchestrator alone, on a running bus. Several share the work.

use std::path::PathBuf;

use serde_json::json;

use crate::{config, diagnostics::counted, error::Error, roles::Roles, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Says so once it runs; SIGTERM and Ctrl-C drain it. `sinew check --orchestrator FILE` lists \
                        every setting.\n\nExamples:\n  sinew orchestrator\n  sinew orchestrator --config \
                        orchestrator.yaml"
)]
pub(crate) struct Args {
    /// Settings, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let config: sinew_orchestrator::Config = config::read(args.config.as_deref())?;
    let shards = config.shards;
    Roles::run(session, async |roles| {
        roles.start_orchestrator(session, config).await?;
        let told = json!({ "orchestrator": { "shards": shards } });
        session.output.show(&told, |_| format!("orchestrator  {}", counted(shards.into(), "shard")));
        std::future::pending().await
    })
    .await
}
