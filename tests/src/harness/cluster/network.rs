//! A network for each of three servers, joined by a bridge: Linux namespaces, which take root and the `ip` program.

use std::process::Command;

/// Three namespaces on one bridge; gone when it is dropped.
pub(super) struct Network {
    /// Makes the names unlike those of other runs, and the addresses with them.
    number: u32,
}

impl Network {
    /// Makes it; says why where that is not possible.
    pub(super) fn start() -> Result<Self, String> {
        let network = Self { number: std::process::id() % 250 };
        network.make()?;
        Ok(network)
    }

    /// Returns the namespace of a server.
    pub(super) fn namespace(&self, server: usize) -> String {
        format!("sinew{}-{server}", self.number)
    }

    /// Returns the address of a server, the same for itself, the others and the tests.
    pub(super) fn address(&self, server: usize) -> String {
        format!("10.213.{}.{}", self.number, server + 1)
    }

    /// Takes the cable out, or puts it back.
    pub(super) fn cut(&self, server: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        ip(&["link", "set", &self.cable(server), state]).expect("a cable is there");
    }

    fn make(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("10.213.{}.254/24", self.number), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for server in 0..3 {
            let (space, cable) = (self.namespace(server), self.cable(server));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &cable, "master", &bridge, "up"])?;
            let address = format!("{}/24", self.address(server));
            ip(&["-n", &space, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("sinew{}", self.number)
    }

    fn cable(&self, server: usize) -> String {
        format!("sinew{}v{server}", self.number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for server in 0..3 {
            let _ = ip(&["netns", "del", &self.namespace(server)]);
            let _ = ip(&["link", "del", &self.cable(server)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments).output().map_err(|error| format!("`ip`: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr))),
    }
}
