//! `sinew dev`: a broker and every role in one process, and workflows applied as they are saved.

mod watch;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use serde_json::{Value, json};
use sinew::Ctx;

use self::watch::Watch;
use crate::{
    commands::edge,
    config,
    diagnostics::counted,
    error::Error,
    operation::address,
    output::columns,
    roles::{self, Place, Roles},
    session::Session,
    settings::without_secrets,
};

/// Where NATS clients look when nobody says.
const NATS_PORT: u16 = 4222;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --nats-url or NATS_URL a running broker is used; otherwise one is started here.\n\nExamples:\n  \
                  sinew dev\n  sinew dev --workflows ./workflows --data ./data"
)]
pub(crate) struct Args {
    /// Applies the workflows in this directory, now and whenever one is saved
    #[arg(long, value_name = "DIR")]
    workflows: Option<PathBuf>,
    /// Keeps the broker's data here; without it, data is gone at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the HTTP edge; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// Settings and routes of the edge, as YAML; routes are taken over when it is saved
    #[arg(long, value_name = "FILE")]
    edge: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    Roles::run(session, async |roles| develop(roles, args, session).await).await
}

async fn develop(roles: &mut Roles, args: Args, session: &Session) -> Result<(), Error> {
    let place = Place { data_dir: args.data.clone(), port: usual_port() };
    let broker = roles.start_broker(session, place).await?;
    let broker = json!({
        "url": without_secrets(broker.url()),
        "version": broker.version().to_string(),
        "source": broker.source().to_string(),
        "data": args.data,
    });
    let orchestrator = sinew_orchestrator::Config::default();
    let shards = orchestrator.shards;
    roles.start_orchestrator(session, orchestrator).await?;
    let routes = args.edge.map(edge::Watch::new);
    let edge = config::edge(routes.as_ref().map(edge::Watch::path))?;
    let edge = sinew_edge::Config { listen: args.listen, ..edge };
    let address = roles.start_edge(session, edge).await?;
    let told = json!({
        "broker": broker,
        "edge": { "url": format!("http://{address}") },
        "orchestrator": { "shards": shards },
        "workflows": args.workflows,
    });
    session.output.show(&told, welcome);
    serve(roles, args.workflows, routes, session).await
}

/// Runs until the broker is gone.
async fn serve(
    roles: &mut Roles,
    workflows: Option<PathBuf>,
    mut routes: Option<edge::Watch>,
    session: &Session,
) -> Result<(), Error> {
    let bus = roles.connect(session, "sinew-dev").await?;
    let mut watch = workflows.map(|dir| Watch::new(dir, Ctx::detached(&bus, "sinew-dev"), session.output));
    let watching = async {
        match &mut watch {
            Some(watch) => watch.run().await,
            None => std::future::pending().await,
        }
    };
    let reloader = roles.reloader();
    let reloading = async {
        match (&mut routes, &reloader) {
            (Some(routes), Some(reloader)) => routes.run(reloader, session.output).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        exit = roles.broker_lost() => Err(roles::broker_lost(&exit)),
        () = watching => Ok(()),
        () = reloading => Ok(()),
    }
}

fn welcome(told: &Value) -> String {
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (url, edge) = (text("/broker/url"), text("/edge/url"));
    let server = format!("nats-server {} ({})", text("/broker/version"), text("/broker/source"));
    let kept = match text("/broker/data") {
        "" => "data is gone at the end, keep it with --data DIR".to_owned(),
        dir => format!("data in {dir}"),
    };
    let shards = told.pointer("/orchestrator/shards").and_then(Value::as_u64).unwrap_or_default();
    let shards = counted(usize::try_from(shards).unwrap_or_default(), "shard");
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let running = columns(&[
        row(["broker", url, &format!("{server}, {kept}")]),
        row(["edge", edge, ""]),
        row(["orchestrator", &shards, text("/workflows")]),
    ]);
    let (export, get) = (format!("  export NATS_URL={url}"), format!("  curl {edge}/hello/Ada"));
    let mut next = vec![
        row(["  cargo run -p hello", "# a service in thirty lines", ""]),
        row(["  sinew call greeter.hello '{\"name\":\"Ada\"}'", "# call it over the bus", ""]),
        row([&get, "# call it over HTTP", ""]),
        row(["  sinew services", "# see what is served", ""]),
    ];
    if !url.ends_with(&format!(":{NATS_PORT}")) {
        next.insert(0, row([&export, "# so that the rest finds this broker", ""]));
    }
    format!(
        "{running}\n\nnext, in another terminal:\n{}\n\nCtrl-C stops everything in order.",
        columns(&next)
    )
}

/// Returns the port clients try by themselves, unless another program has it.
fn usual_port() -> Option<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, NATS_PORT)).is_ok().then_some(NATS_PORT)
}
