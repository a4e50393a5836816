//! `sinew edge`: the HTTP edge alone, on a running bus, and what there is to know about its routes.

mod diff;
mod explain;
mod live;
mod purge;
mod routes;
mod verify;
mod watch;

use std::{net::SocketAddr, path::PathBuf};

use serde_json::json;

pub(crate) use watch::Watch;

use crate::{config, error::Error, operation::address, roles::Roles, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Prints its address once it listens; SIGTERM and Ctrl-C drain it. Routes are taken over when the file is \
                  saved; a file with mistakes is reported, and the last good routes stay. `sinew check --edge FILE` lists \
                  every setting.\n\nExamples:\n  sinew edge\n  sinew edge --config edge.yaml --listen \
                  0.0.0.0:8080\n  sinew edge check edge.yaml\n  sinew --json edge --listen 127.0.0.1:0    # a line of JSON \
                  with the port"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings and routes, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
}

/// What to know about routes.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Checks a file of settings and routes: every mistake with its line
    Check(verify::Args),
    /// Lists the routes: of contracts, of discovery and of a file
    Routes(routes::Args),
    /// Says where a request goes, and why
    Explain(explain::Args),
    /// Has every edge let go of replies it keeps
    Purge(purge::Args),
    /// Shows which routes and webhooks another file adds, removes and changes
    Diff(diff::Args),
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    match args.command {
        Some(Command::Check(args)) => verify::run(&args, session).await,
        Some(Command::Routes(args)) => routes::run(&args, session).await,
        Some(Command::Explain(args)) => explain::run(args, session).await,
        Some(Command::Purge(args)) => purge::run(&args, session).await,
        Some(Command::Diff(args)) => diff::run(&args, session),
        None => serve(args.config, args.listen, session).await,
    }
}

async fn serve(file: Option<PathBuf>, listen: Option<SocketAddr>, session: &Session) -> Result<(), Error> {
    let mut watch = file.map(Watch::new);
    let mut config = config::edge(watch.as_ref().map(Watch::path))?;
    if let Some(listen) = listen {
        config.listen = listen;
    }
    Roles::run(session, async |roles| {
        let address = roles.start_edge(session, config).await?;
        let told = json!({ "edge": { "url": format!("http://{address}") } });
        session.output.show(&told, |_| format!("edge  http://{address}"));
        if let (Some(watch), Some(reloader)) = (&mut watch, roles.reloader()) {
            watch.run(&reloader, session.output).await;
        }
        std::future::pending().await
    })
    .await
}
