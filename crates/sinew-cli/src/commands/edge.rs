//! `sinew edge`: the HTTP edge alone, on a running bus.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::json;

use crate::{config, error::Error, operation::address, roles::Roles, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints its address once it listens; SIGTERM and Ctrl-C drain it. `sinew check --edge FILE` \
                        lists every setting.\n\nExamples:\n  sinew edge\n  sinew edge --config edge.yaml --listen \
                        0.0.0.0:8080\n  sinew --json edge --listen 127.0.0.1:0    # a line of JSON with the port"
)]
pub(crate) struct Args {
    /// Settings, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let mut config: sinew_edge::Config = config::read(args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    Roles::run(session, async |roles| {
        let address = roles.start_edge(session, config).await?;
        let told = json!({ "edge": { "url": format!("http://{address}") } });
        session.output.show(&told, |_| format!("edge  http://{address}"));
        std::future::pending().await
    })
    .await
}
