//! The configuration file a child broker runs with. Text in, text out.

use std::fmt::Write as _;
use std::path::Path;

/// What differs between two child brokers.
pub(super) struct Settings<'a> {
    pub(super) data_dir: &'a Path,
    pub(super) ports_dir: &'a Path,
    pub(super) port: Option<u16>,
    pub(super) sync_always: bool,
    pub(super) max_payload: Option<u32>,
}

impl Settings<'_> {
    /// Renders the file. Everything not said here is the server's default, `msg_trace` included:
    /// with the latter on, every sampled trace would make the server publish events of its own.
    pub(super) fn render(&self) -> String {
        let mut text =
            String::from("# Written by sinew at every start: changes are lost.\nserver_name: sinew\n");
        // The server picks a free port itself, so two brokers that start together cannot be given the same one.
        let port = self.port.map_or(-1, i32::from);
        let _ = writeln!(text, "listen: \"127.0.0.1:{port}\"");
        let _ = writeln!(text, "ports_file_dir: {}", quoted(self.ports_dir));
        if let Some(bytes) = self.max_payload {
            let _ = writeln!(text, "max_payload: {bytes}");
        }
        let _ = writeln!(text, "jetstream {{");
        let _ = writeln!(text, "  store_dir: {}", quoted(self.data_dir));
        if self.sync_always {
            let _ = writeln!(text, "  sync_interval: always");
        }
        let _ = writeln!(text, "}}");
        text
    }
}

fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(data_dir: &str, port: Option<u16>, sync_always: bool) -> String {
        let (data_dir, ports_dir) = (Path::new(data_dir), Path::new("/run/p"));
        let settings = Settings { data_dir, ports_dir, port, sync_always, max_payload: None };
        settings.render()
    }

    #[test]
    fn a_free_port_is_left_to_the_server() {
        let text = render("/data", None, false);
        assert!(text.contains("listen: \"127.0.0.1:-1\"\n"), "{text}");
        assert!(!text.contains("sync_interval"), "{text}");
        assert!(render("/data", Some(4222), false).contains("listen: \"127.0.0.1:4222\"\n"));
    }

    #[test]
    fn every_write_is_synced_only_when_asked() {
        assert!(!render("/data", None, true).contains("max_payload"));
        assert!(render("/data", None, true).contains("\n  sync_interval: always\n"));
    }

    #[test]
    fn messages_are_not_traced_by_the_server() {
        assert!(!render("/data", None, true).contains("msg_trace"));
    }

    #[test]
    fn a_path_cannot_leave_its_quotes() {
        let text = render("/da\"ta\\x y", None, false);
        assert!(text.contains(r#"store_dir: "/da\"ta\\x y""#), "{text}");
    }
}
