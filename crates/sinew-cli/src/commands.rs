//! The commands, each in a file of its own: what it takes, and what it does.

pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod dev;
pub(crate) mod dlq;
pub(crate) mod edge;
pub(crate) mod explain;
pub(crate) mod orchestrator;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod schedules;
pub(crate) mod services;
pub(crate) mod tail;
pub(crate) mod top;
pub(crate) mod workflow;

use crate::{args::Command, error::Error, session::Session};

/// Runs one command to its end.
pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Dev(args) => dev::run(args, session).await,
        Command::Demo(args) => demo::run(args, session).await,
        Command::Edge(args) => edge::run(args, session).await,
        Command::Orchestrator(args) => orchestrator::run(args, session).await,
        Command::Call(args) => call::run(args, session).await,
        Command::Publish(args) => publish::run(args, session).await,
        Command::Services(args) => services::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Tail(args) => tail::run(args, session).await,
        Command::Top(args) => top::run(args, session).await,
        Command::Dlq(command) => dlq::run(command, session).await,
        Command::Replay(args) => replay::run(args, session).await,
        Command::Schedules(command) => schedules::run(command, session).await,
        Command::Workflow(command) => workflow::run(command, session).await,
        Command::Check(args) => check::run(args, session).await,
        Command::Explain(args) => explain::run(&args, session),
        Command::Completions(args) => completions::run(&args, session),
    }
}
