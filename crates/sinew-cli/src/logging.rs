//! Log lines: to stderr, which ones by `RUST_LOG`, warnings and errors where nothing is said.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{args::LogFormat, output::wants_color};

/// Switches logging on for the whole process.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = wants_color() && io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi);
    // Only a second start could fail, and there is none.
    let _ = match format {
        LogFormat::Text => lines.compact().try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
