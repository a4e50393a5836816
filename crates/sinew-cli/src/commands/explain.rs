//! `sinew explain`: the page of an error code.

use serde_json::json;

use crate::{
    catalogue::nearest,
    codes::{self, Page},
    error::{Error, Kind, code},
    output::{Output, Style, columns},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew explain SNW-1102\n  sinew explain no-responders")]
pub(crate) struct Args {
    /// The code, such as SNW-1102 or no-responders; without one all are listed
    code: Option<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<(), Error> {
    let Some(wanted) = &args.code else {
        let pages: Vec<&Page> = codes::pages().collect();
        session.output.show(&pages, |pages| {
            columns(
                &pages
                    .iter()
                    .map(|page| vec![page.code.to_owned(), page.title.to_owned()])
                    .collect::<Vec<_>>(),
            )
        });
        return Ok(());
    };
    let page = codes::page(wanted).ok_or_else(|| unknown(wanted))?;
    session.output.show(page, |page| text(page, &session.output));
    Ok(())
}

fn text(page: &Page, output: &Output) -> String {
    let title = output.paint(Style::Strong, &format!("{}: {}", page.code, page.title));
    format!("{title}\n\n  cause   {}\n  check   {}\n  remedy  {}", page.cause, page.check, page.remedy)
}

fn unknown(wanted: &str) -> Error {
    let known: Vec<String> = codes::pages().map(|page| page.code.to_owned()).collect();
    let close = nearest(wanted, &known);
    let hint = match close.as_slice() {
        [] => {
            "`sinew explain` lists every code; codes of your own services stand in their contracts".to_owned()
        }
        close => format!("did you mean {}?", close.join(" or ")),
    };
    let error = Error::new(Kind::Failed, code::UNKNOWN_CODE, format!("there is no page for {wanted}"));
    error.hint(hint).with("nearest", json!(close))
}
