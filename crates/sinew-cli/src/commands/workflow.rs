//! `sinew workflow`: documents and the instances made from them.

mod documents;
mod instances;
mod limits;
mod run;

use crate::{error::Error, session::Session};

/// What to do with workflows.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Checks documents without a bus; every finding with its place and a fix
    Validate(documents::Files),
    /// Runs one instance in this process, without a broker
    Run(Box<run::Args>),
    /// Checks documents and stores them, so that they can be started
    Apply(documents::Files),
    /// Lists the workflows that can be started
    #[command(after_help = "Examples:\n  sinew workflow definitions")]
    Definitions,
    /// Starts an instance, and waits for its end
    Start(instances::Start),
    /// Shows one instance as a timeline
    Get(instances::Which),
    /// Lists instances, the newest first
    List(instances::List),
    /// Cancels an instance: what was done is undone
    Cancel(instances::Cancel),
    /// Decides about a compensation that is stuck
    Operate(instances::Operate),
    /// Shows the limits of calls, and what waits for its turn
    #[command(after_help = "Examples:\n  sinew workflow limits")]
    Limits,
}

pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Validate(args) => documents::validate(&args, session),
        Command::Run(args) => run::run(*args, session).await,
        Command::Apply(args) => documents::apply(&args, session).await,
        Command::Definitions => documents::list(session).await,
        Command::Start(args) => instances::start(args, session).await,
        Command::Get(args) => instances::get(args, session).await,
        Command::List(args) => instances::list(args, session).await,
        Command::Cancel(args) => instances::cancel(args, session).await,
        Command::Operate(args) => instances::operate(args, session).await,
        Command::Limits => limits::list(session).await,
    }
}
