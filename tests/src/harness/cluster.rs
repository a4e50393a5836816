//! Three nats-servers that are one: routes between them, streams replicated by vote; on loopback, or each on a network
//! of its own that can be cut.

mod network;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sinew::{Bus, Config, bus::StreamConfig};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{eventually, server};
use network::Network;

/// Time for three processes to find each other on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// A cluster of three; its processes and their directory are gone when it is dropped.
pub(crate) struct Cluster {
    url: String,
    nodes: Vec<Node>,
    _data_dir: TempDir,
    /// Where each node has a network of its own; dropped after the nodes.
    network: Option<Network>,
}

/// One server, and how it is started.
struct Node {
    binary: PathBuf,
    config: PathBuf,
    /// The network namespace it runs in.
    namespace: Option<String>,
    process: Child,
}

/// Where a node is reached.
struct Place {
    host: String,
    client: u16,
    route: u16,
}

impl Cluster {
    /// Starts the servers, and returns once they take a stream of three replicas.
    pub(crate) async fn start() -> Self {
        let ports = free_ports::<6>();
        let place = |number: usize| Place {
            host: "127.0.0.1".to_owned(),
            client: ports[number],
            route: ports[number + 3],
        };
        Self::at([0, 1, 2].map(place), None).await
    }

    /// As [`Cluster::start`], with each server on a network of its own; says why where that is not possible.
    pub(crate) async fn start_apart() -> Result<Self, String> {
        let network = Network::start()?;
        let place = |number: usize| Place { host: network.address(number), client: 4222, route: 6222 };
        let places = [0, 1, 2].map(place);
        Ok(Self::at(places, Some(network)).await)
    }

    async fn at(places: [Place; 3], network: Option<Network>) -> Self {
        let data_dir = TempDir::with_prefix("sinew-cluster-").expect("create a directory for the servers");
        let binary = server().await;
        let url = places.iter().map(|one| format!("nats://{}:{}", one.host, one.client)).collect::<Vec<_>>();
        let start = |number: usize| {
            let config = data_dir.path().join(format!("{number}.conf"));
            std::fs::write(&config, settings(data_dir.path(), number, &places)).unwrap();
            let namespace = network.as_ref().map(|network| network.namespace(number));
            let process = launch(&binary, &config, namespace.as_deref());
            Node { binary: binary.clone(), config, namespace, process }
        };
        let nodes = (0..3).map(start).collect();
        let cluster = Self { url: url.join(","), nodes, _data_dir: data_dir, network };
        cluster.ready().await;
        cluster
    }

    /// Returns the addresses of all three.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Kills a server with SIGKILL, and returns when it is gone.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.nodes[number].process.kill().await.expect("kill a server");
    }

    /// Starts a killed server again.
    pub(crate) fn revive(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.process = launch(&node.binary, &node.config, node.namespace.as_deref());
    }

    /// Cuts a server off from everybody, or joins it again; only where each has a network of its own.
    pub(crate) fn cut(&self, number: usize, cut: bool) {
        self.network.as_ref().expect("each server has a network of its own").cut(number, cut);
    }

    async fn ready(&self) {
        let connect = || Bus::connect(Config::new(&self.url, "ready?"));
        let bus = eventually(READY, connect).await;
        let stream = StreamConfig {
            name: "READY".to_owned(),
            subjects: vec!["ready".to_owned()],
            replicas: 3,
            ..StreamConfig::default()
        };
        eventually(READY, || bus.ensure_stream(&stream)).await;
        bus.close().await;
    }
}

/// Returns ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn launch(binary: &Path, config: &Path, namespace: Option<&str>) -> Child {
    // `ip netns exec` becomes the server, so that whoever kills it kills the server.
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command
        .args(["--config".as_ref(), config.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("start a server")
}

fn settings(dir: &Path, number: usize, places: &[Place]) -> String {
    let others: Vec<String> =
        places.iter().map(|place| format!("nats://{}:{}", place.host, place.route)).collect();
    let Place { host, client, route } = &places[number];
    // Pings tell a server that is cut off from one that has nothing to say.
    format!(
        "server_name: n{number}\nlisten: \"{host}:{client}\"\n\
         jetstream {{ store_dir: {:?} }}\n\
         cluster {{ name: sinew, listen: \"{host}:{route}\", ping_interval: \"1s\", routes: [{}] }}\n",
        dir.join(number.to_string()),
        others.join(", ")
    )
}
