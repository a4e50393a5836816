//! Three nats-servers that are one: loopback, routes between them, streams replicated by vote.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use sinew::{Bus, Config, bus::StreamConfig};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{eventually, server};

/// Time for three processes to find each other on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// A cluster of three; its processes and their directory are gone when it is dropped.
pub(crate) struct Cluster {
    url: String,
    _servers: Vec<Child>,
    _data_dir: TempDir,
}

impl Cluster {
    /// Starts the servers, and returns once they take a stream of three replicas.
    pub(crate) async fn start() -> Self {
        let data_dir = TempDir::with_prefix("sinew-cluster-").expect("create a directory for the servers");
        let binary = server().await;
        let ports = free_ports::<6>();
        let (clients, routes) = ports.split_at(3);
        let start = |number: usize| {
            let path = data_dir.path().join(format!("{number}.conf"));
            std::fs::write(&path, config(data_dir.path(), number, clients[number], routes)).unwrap();
            Command::new(&binary)
                .args(["--config".as_ref(), path.as_os_str()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("start a server")
        };
        let servers = (0..3).map(start).collect();
        let url = clients.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        let cluster = Self { url, _servers: servers, _data_dir: data_dir };
        cluster.ready().await;
        cluster
    }

    /// Returns the addresses of all three.
    pub(crate) fn url(&self) -> &str {
        &self.url
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

fn config(dir: &Path, number: usize, client: u16, routes: &[u16]) -> String {
    let others: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    format!(
        "server_name: n{number}\nlisten: \"127.0.0.1:{client}\"\n\
         jetstream {{ store_dir: {:?} }}\n\
         cluster {{ name: sinew, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
        dir.join(number.to_string()),
        routes[number],
        others.join(", ")
    )
}
