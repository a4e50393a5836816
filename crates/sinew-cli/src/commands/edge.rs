//! `sinew edge`: the HTTP edge alone, on a running bus.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::json;

use crate::{config, error::Error, roles::Roles, session::Session};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Settings, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let mut config: sinew_edge::Config = config::read(args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let mut roles = Roles::default();
    let address = roles.start_edge(session, config).await?;
    let told = json!({ "edge": { "url": format!("http://{address}") } });
    session.output.show(&told, |_| format!("edge  http://{address}"));
    sinew::shutdown::requested().await;
    session.output.note("draining");
    roles.drain().await;
    Ok(())
}
