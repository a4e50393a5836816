//! `sinew workflow`: documents and the instances made from them.

mod documents;
mod instances;
mod limits;
mod reach;
mod run;
mod tasks;
mod validate;

use crate::{error::Error, session::Session};

/// What to do with workflows.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Checks documents without a bus; every finding with its place and a fix
    Validate(validate::Args),
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
    #[command(visible_alias = "ls")]
    List(instances::List),
    /// Cancels an instance: what was done is undone
    Cancel(instances::Cancel),
    /// Pauses an instance: nothing new begins until it is resumed
    Pause(instances::Pause),
    /// Lets a paused instance go on
    Resume(instances::Resume),
    /// Ends an instance at once: nothing is undone
    Terminate(instances::Terminate),
    /// Removes a workflow: nothing starts by it any more, its schedule ends
    Remove(documents::Remove),
    /// Shows what people are asked, and answers it
    #[command(subcommand)]
    Task(tasks::Command),
    /// Decides about a compensation that is stuck
    Operate(instances::Operate),
    /// Shows the limits of calls, and what waits for its turn
    #[command(after_help = "Examples:\n  sinew workflow limits")]
    Limits,
}

pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Validate(args) => validate::run(args, session).await,
        Command::Run(args) => run::run(*args, session).await,
        Command::Apply(args) => documents::apply(&args, session).await,
        Command::Definitions => documents::list(session).await,
        Command::Start(args) => instances::start(args, session).await,
        Command::Get(args) => instances::get(args, session).await,
        Command::List(args) => instances::list(args, session).await,
        Command::Cancel(args) => instances::cancel(args, session).await,
        Command::Pause(args) => instances::pause(args, session).await,
        Command::Resume(args) => instances::resume(args, session).await,
        Command::Terminate(args) => instances::terminate(args, session).await,
        Command::Remove(args) => documents::remove(args, session).await,
        Command::Task(command) => tasks::run(command, session).await,
        Command::Operate(args) => instances::operate(args, session).await,
        Command::Limits => limits::list(session).await,
    }
}
