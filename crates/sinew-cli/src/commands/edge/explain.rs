//! `sinew edge explain`: where a request goes, and why.

use std::path::PathBuf;

use http::Request;
use sinew_edge::{Explanation, Services, explain};

use crate::{
    config,
    error::Error,
    output::{Output, Style, columns},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Asks no service: only the routes are looked at.\n\nExamples:\n  sinew edge explain \
                  http://127.0.0.1:8080/orders/7\n  sinew edge explain /orders --method POST --header 'api-version: 2' \
                  --config edge.yaml\n  sinew edge explain /orders/7 --config edge.yaml --offline")]
pub(super) struct Args {
    /// The address, with or without scheme and host
    #[arg(value_name = "URL")]
    url: String,
    /// The method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A header field, as 'NAME: VALUE'; may be given several times
    #[arg(long, short = 'H', value_name = "FIELD")]
    header: Vec<String>,
    /// Settings and routes, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Looks at the file only, without a bus
    #[arg(long)]
    offline: bool,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let config = config::edge(args.config.as_deref())?;
    let request = request(&args)?;
    let services = match args.offline {
        true => Services::default(),
        false => session.on_bus(async |bus| Ok(Services::read(bus).await?)).await?,
    };
    let explanation = explain(&config, &services, request);
    session.output.show(&explanation, |explanation| text(explanation, &session.output));
    Ok(())
}

/// An address without a host is one of this machine.
fn request(args: &Args) -> Result<Request<()>, Error> {
    let path = args.url.starts_with('/');
    let url = if path { format!("http://localhost{}", args.url) } else { args.url.clone() };
    let wrong = |what: &str| Error::usage(format!("{what} cannot be sent"));
    let uri: http::Uri =
        url.parse().map_err(|_| wrong("the address").hint("write http://host/path or /path"))?;
    let host = uri.authority().map(ToString::to_string).ok_or_else(|| wrong("an address without a host"))?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(args.method.to_ascii_uppercase().as_str()).uri(target);
    let mut hosted = false;
    for field in &args.header {
        let field =
            field.split_once(':').ok_or_else(|| wrong("a header field").hint("write 'NAME: VALUE'"))?;
        let (name, value) = (field.0.trim(), field.1.trim());
        hosted |= name.eq_ignore_ascii_case("host");
        request = request.header(name, value);
    }
    if !hosted {
        request = request.header("host", host);
    }
    request.body(()).map_err(|error| wrong("the request").hint(error.to_string()))
}

fn text(explanation: &Explanation, output: &Output) -> String {
    if let Some(problem) = &explanation.problem {
        return format!("{}  {problem}", output.paint(Style::Bad, "refused"));
    }
    let Some(route) = &explanation.route else { return String::new() };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let host = route.host.as_deref().unwrap_or("every host");
    let mut rows = vec![
        row("route", format!("{}, asked for by {}", route.name, route.origin)),
        row("matched", format!("{} {} of {host}", route.method, route.path)),
    ];
    rows.extend(route.conditions.iter().map(|condition| row("where", condition.clone())));
    rows.extend(explanation.path.iter().map(|(name, value)| row("path", format!("{name} = {value}"))));
    rows.push(row("goes to", route.to.clone()));
    rows.extend(route.details.iter().map(|detail| row("with", detail.clone())));
    rows.push(row("passes", explanation.policies.join(" → ")));
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, header: &[&str]) -> Args {
        let header = header.iter().map(|field| (*field).to_owned()).collect();
        Args { url: url.into(), method: "get".into(), header, config: None, offline: true }
    }

    #[test]
    fn an_address_becomes_the_request_a_client_would_send() {
        let sent = request(&args("http://shop.example:8080/a?b=c", &["x-a: 1:2"])).unwrap();
        assert_eq!((sent.uri().to_string().as_str(), sent.method().as_str()), ("/a?b=c", "GET"));
        assert_eq!(sent.headers()["host"], "shop.example:8080");
        assert_eq!(sent.headers()["x-a"], "1:2");
        let own = request(&args("/a", &["Host: api.example"])).unwrap();
        assert_eq!(own.headers()["host"], "api.example");
        assert!(request(&args("a b", &[])).is_err() && request(&args("/a", &["x"])).is_err());
    }
}
