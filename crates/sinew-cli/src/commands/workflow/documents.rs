//! Workflow documents: checked here, stored by the workflow service.

use std::path::PathBuf;

use sinew::{
    Ctx,
    workflow::{AppliedWorkflow, ApplyWorkflow, ListDefinitions, RemoveWorkflow},
};

use crate::{
    commands::workflow::instances::{SHORT, ask, refused},
    diagnostics::{Checked, counted},
    error::{Error, Kind, code},
    output::columns,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew workflow apply place-order.yaml\n  sinew workflow apply workflows/*.yaml"
)]
pub(crate) struct Files {
    /// Documents, as YAML or JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Instances that run go on to their end.\n\n\
                  Examples:\n  sinew workflow remove nightly\n  sinew workflow remove place-order --workflow-version 1.0.0")]
pub(crate) struct Remove {
    /// The workflow
    name: String,
    /// Only this version
    #[arg(long = "workflow-version", value_name = "VERSION")]
    version: Option<String>,
}

pub(super) async fn remove(args: Remove, session: &Session) -> Result<(), Error> {
    let Remove { name, version } = args;
    let removed = ask(session, RemoveWorkflow { name, version }, SHORT).await?.removed;
    session.output.show(&removed, |removed| {
        let line = |one: &AppliedWorkflow| format!("removed  {}/{}@{}", one.namespace, one.name, one.version);
        removed.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

pub(super) async fn apply(args: &Files, session: &Session) -> Result<(), Error> {
    let checked = read(args)?;
    let unusable = |one: &&Checked| !one.is_valid() || !one.not_runnable.is_empty();
    for one in checked.iter().filter(unusable) {
        session.output.note(&one.to_text(&session.output));
    }
    refuse_invalid(&checked)?;
    refuse_unrunnable(&checked)?;
    let applied = session
        .on_bus(async |bus| {
            let ctx = Ctx::detached(bus, "sinew-cli");
            let mut applied = Vec::new();
            for Checked { source, file, .. } in &checked {
                let request = ApplyWorkflow { source: source.clone(), file: file.clone() };
                applied.push(ctx.call(request).await.map_err(|error| refused(error.to_problem()))?);
            }
            Ok(applied)
        })
        .await?;
    session.output.show(&applied, |applied| {
        let line = |one: &AppliedWorkflow| {
            let verb = if one.changed { "applied" } else { "unchanged" };
            let applied = format!("{verb}  {}/{}@{}", one.namespace, one.name, one.version);
            let warnings = one.warnings.iter().map(|warning| format!("  {warning}"));
            std::iter::once(applied).chain(warnings).collect::<Vec<_>>().join("\n")
        };
        applied.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

pub(super) async fn list(session: &Session) -> Result<(), Error> {
    let listed = session
        .on_bus(async |bus| {
            let ctx = Ctx::detached(bus, "sinew-cli");
            ctx.call(ListDefinitions {}).await.map_err(|error| refused(error.to_problem()))
        })
        .await?;
    session.output.show(&listed, |listed| {
        if listed.is_empty() {
            return "no workflow yet: store one with `sinew workflow apply FILE`".to_owned();
        }
        let row = |one: &AppliedWorkflow| vec![one.namespace.clone(), one.name.clone(), one.version.clone()];
        columns(&listed.iter().map(row).collect::<Vec<_>>())
    });
    Ok(())
}

fn read(args: &Files) -> Result<Vec<Checked>, Error> {
    let read = |path: &PathBuf| {
        let source = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
        Ok(Checked::new(source, path.display().to_string()))
    };
    args.files.iter().map(read).collect()
}

pub(super) fn refuse_invalid(checked: &[Checked]) -> Result<(), Error> {
    let invalid: Vec<&Checked> = checked.iter().filter(|one| !one.is_valid()).collect();
    if invalid.is_empty() {
        return Ok(());
    }
    let errors: usize = invalid.iter().map(|one| one.errors()).sum();
    let of = counted(checked.len(), "document");
    let message = format!("{} of {of} invalid, {}", invalid.len(), counted(errors, "error"));
    let findings = invalid.iter().flat_map(|one| &one.findings);
    let findings = serde_json::to_value(findings.collect::<Vec<_>>()).unwrap_or_default();
    let error = Error::new(Kind::Document, code::DOCUMENT, message).with("diagnostics", findings);
    Err(error.hint("each finding has a code: `sinew explain SNW-2003`"))
}

pub(super) fn refuse_unrunnable(checked: &[Checked]) -> Result<(), Error> {
    let Some(one) = checked.iter().find(|one| !one.not_runnable.is_empty()) else { return Ok(()) };
    let message = format!("{} is valid, but this version cannot run all of it", one.file);
    let findings = serde_json::to_value(&one.not_runnable).unwrap_or_default();
    let error = Error::new(Kind::Document, sinew_workflow::code::NOT_RUNNABLE, message);
    Err(error.hint("do it another way for now; the findings name one").with("diagnostics", findings))
}
