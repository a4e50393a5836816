//! The command line: what can be typed. Turns it into typed arguments and settings; does nothing yet.

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, parser::ValueSource};

use crate::{
    commands::{
        call, check, completions, demo, describe, dev, dlq, edge, explain, orchestrator, publish, replay,
        schedules, services, tail, top, workflow,
    },
    error::Error,
    output::Output,
    settings::{Setting, Settings, Source},
};

const NATS_URL: &str = "NATS_URL";
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What was typed, ready to run.
pub(crate) struct Parsed {
    pub(crate) command: Command,
    pub(crate) settings: Settings,
    pub(crate) log_format: LogFormat,
    pub(crate) json: bool,
}

/// Help, a version or a usage error: something to print instead of running.
pub(crate) struct Refused {
    error: clap::Error,
    json: bool,
}

/// How log lines look: for people, or one JSON object a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Event-driven messaging backbone: services, durable workflows and an HTTP edge over NATS.
#[derive(Debug, Parser)]
#[command(
    name = "sinew",
    version,
    disable_help_subcommand = true,
    after_help = "Begin with `sinew demo` to see a saga succeed, fail and undo itself, or with `sinew dev` to build \
                  your own.\n\nExamples:\n  sinew demo --once\n  sinew dev --workflows ./workflows\n  sinew call \
                  greeter.hello '{\"name\":\"Ada\"}'\n  sinew explain SNW-1102\n\nExit codes: 0 done, 1 failed, 2 usage, 3 invalid document, 4 bus unreachable."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Prints one JSON value instead of text; errors too, on stderr
    #[arg(long, global = true, display_order = 100)]
    json: bool,
    /// Address of a running NATS server; nats://127.0.0.1:4222 where nothing is said
    #[arg(long, global = true, display_order = 100, env = NATS_URL, value_name = "URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// Where traces go (OTLP over HTTP), such as http://127.0.0.1:4318; empty switches them off
    #[arg(long, global = true, display_order = 100, env = OTLP_ENDPOINT, value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<String>,
    /// How log lines look; RUST_LOG chooses which are written, to stderr
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a broker, the edge and an orchestrator in one process, for development
    Dev(dev::Args),
    /// Places four orders through a complete system, two of which fail and are undone
    Demo(demo::Args),
    /// Runs the HTTP edge alone
    Edge(edge::Args),
    /// Runs an orchestrator alone
    Orchestrator(orchestrator::Args),
    /// Calls an operation of a service
    Call(call::Args),
    /// Publishes an event
    Publish(publish::Args),
    /// Lists services and what they serve
    Services(services::Args),
    /// Describes services: operations, events, policies, permissions; needs no broker
    Describe(describe::Args),
    /// Shows messages on a subject, of an event or of a consumer group, as they pass
    Tail(tail::Args),
    /// Shows what services and consumer groups do just now: rates, latency, errors, lag
    Top(top::Args),
    /// Shows, retries, edits and drops dead letters
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Gives a range of stored events to one consumer group once more
    Replay(replay::Args),
    /// Lists and removes events that wait to be published
    #[command(subcommand)]
    Schedules(schedules::Command),
    /// Checks, stores, starts and watches workflows
    #[command(subcommand)]
    Workflow(workflow::Command),
    /// Shows the settings in force and what the bus says about them
    Check(check::Args),
    /// Explains an error code: cause, check, remedy
    Explain(explain::Args),
    /// Writes a completion script for a shell
    Completions(completions::Args),
}

/// Parses the process's arguments and the environment variables that stand for some of them.
pub(crate) fn parse() -> Result<Parsed, Refused> {
    // Whether errors are JSON has to be known before anything is parsed.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, innermost(&matches).clone()))
    });
    let (Cli { global, command }, matches) = parsed.map_err(|error| Refused { error, json })?;
    let settings = Settings {
        nats_url: setting(&matches, "nats_url", NATS_URL, global.nats_url),
        otlp_endpoint: setting(&matches, "otlp_endpoint", OTLP_ENDPOINT, global.otlp_endpoint),
    };
    Ok(Parsed { command, settings, log_format: global.log_format, json: global.json })
}

/// Returns the whole command line as clap knows it, for completion scripts.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

impl Refused {
    /// Prints it the way it was asked for.
    pub(crate) fn report(self) -> ExitCode {
        if !self.error.use_stderr() || !self.json {
            // Nothing is left to try when the terminal is gone.
            let _ = self.error.print();
            return ExitCode::from(u8::try_from(self.error.exit_code()).unwrap_or(2));
        }
        let text = self.error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let hint = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        let error = Error::usage(message.trim()).hint(hint);
        Output::new(true).error(&error);
        error.exit_code()
    }
}

/// Global arguments are known to the subcommand they were written behind.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

/// An empty value counts as none: that is how a variable is switched off.
fn setting(matches: &ArgMatches, id: &str, variable: &'static str, value: Option<String>) -> Setting {
    let value = value.filter(|value| !value.is_empty());
    let source = match matches.value_source(id) {
        _ if value.is_none() => Source::Default,
        Some(ValueSource::EnvVariable) => Source::Environment(variable),
        _ => Source::Flag,
    };
    Setting { value, source }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
