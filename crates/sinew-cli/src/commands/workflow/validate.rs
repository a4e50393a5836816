//! `sinew workflow validate`: what is wrong with documents, and on request with what they refer to.

use std::{path::PathBuf, time::Duration};

use sinew_orchestrator::{
    gather,
    local::{Protocols, protocols},
};
use sinew_workflow::{Definition, Described, Diagnostic, Resources, Severity, code::RESOURCE};

use crate::{
    commands::workflow::{documents::refuse_invalid, reach::ReachArgs},
    diagnostics::{Checked, Elsewhere, counted},
    document,
    error::{Error, Kind, code},
    session::Session,
};

/// How long one description may take.
const LIMIT: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "\
Needs neither a bus nor a network. Schemas, functions of catalogues, and descriptions of APIs that stand elsewhere are \
listed as not looked at. With --fetch they are: schemas and functions are checked like the document itself, and \
OpenAPI, AsyncAPI and protobuf documents for the operations that are called. Nothing is called. Each may take 10 s and \
8 MiB.

With --json, one object for each document:
  {\"file\",\"valid\",\"runnable\",\"workflow\",
   \"diagnostics\":[{\"code\",\"severity\",\"line\",\"column\",\"pointer\",\"message\",\"fix\"}],
   \"notFetched\":[{\"uri\",\"why\",\"file\",\"pointer\"}]}

Exit codes: 0 valid, 3 invalid, or something it refers to is.

Examples:
  sinew workflow validate workflows/*.yaml
  sinew workflow validate pets.yaml --fetch
  sinew workflow validate pets.yaml --fetch --resolve pets.example:443=127.0.0.1:8443 --ca test-ca.pem --json";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Documents, as YAML or JSON; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fetches what the documents refer to, and looks at that as well
    #[arg(long)]
    fetch: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let given = args.reach.resources()?;
    let calls = if args.fetch { Some(protocols(args.reach.settings()?)?) } else { None };
    let mut checked = Vec::new();
    for path in &args.files {
        let (source, name) = document::text(path)?;
        checked.push(match &calls {
            None => alone(source, name, &given),
            Some(calls) => fetched(source, name, given.clone(), calls, path.parent()).await,
        });
    }
    if let Some(calls) = calls {
        calls.close().await;
    }
    let listed: Vec<_> = checked.iter().map(Checked::to_json).collect();
    session.output.show(&listed, |_| {
        checked.iter().map(|one| one.to_text(&session.output)).collect::<Vec<_>>().join("\n\n")
    });
    refuse_invalid(&checked)?;
    refuse_incomplete(&checked)
}

/// Checks a document with what was given, and lists what else it refers to.
fn alone(source: String, name: String, given: &Resources) -> Checked {
    let missing = sinew_workflow::resources(&source, &name, given);
    let (mut checked, definition) = Checked::with_definition(source, name, given, |_| true);
    // That they were not fetched is no fault of theirs: they are listed.
    checked.not_runnable.retain(|finding| finding.code != RESOURCE);
    checked.elsewhere = missing.into_iter().map(Elsewhere::from).collect();
    checked.elsewhere.extend(described(&definition).iter().map(Elsewhere::from));
    checked
}

/// Checks a document with everything it refers to.
async fn fetched(
    source: String,
    name: String,
    given: Resources,
    calls: &Protocols,
    folder: Option<&std::path::Path>,
) -> Checked {
    let (resources, failed) = gather(&source, &name, given, calls, folder).await;
    let (mut checked, definition) = Checked::with_definition(source, name, &resources, |_| true);
    for finding in checked.not_runnable.iter_mut().filter(|finding| finding.code == RESOURCE) {
        let why = failed.iter().find(|one| finding.message.contains(&format!("`{}`", one.resource.uri)));
        if let Some(why) = why {
            finding.message.push_str(&format!(": {}", why.reason));
        }
    }
    for call in described(&definition) {
        if call.uri().is_none() {
            checked.elsewhere.push(call.into());
        } else if let Some(finding) = examined(call, calls).await {
            checked.not_runnable.push(finding);
        }
    }
    checked
}

/// Looks at what describes a call; what depends on data cannot be looked at before there is some.
async fn examined(call: &Described, calls: &Protocols) -> Option<Diagnostic> {
    let uri = call.uri()?;
    let fault = calls.examine(call.protocol, &call.arguments, LIMIT).await.err()?;
    Some(call.finding(Severity::Error, format!("`{uri}`: {fault}")))
}

fn described(definition: &Option<Definition>) -> &[Described] {
    definition.as_ref().map(Definition::described).unwrap_or_default()
}

fn refuse_incomplete(checked: &[Checked]) -> Result<(), Error> {
    let findings: Vec<_> = checked.iter().flat_map(Checked::broken_references).collect();
    if findings.is_empty() {
        return Ok(());
    }
    let message = format!("{} cannot be used", counted(findings.len(), "reference"));
    let error = Error::new(Kind::Document, code::DOCUMENT, message);
    Err(error.with("diagnostics", serde_json::to_value(&findings).unwrap_or_default()))
}
