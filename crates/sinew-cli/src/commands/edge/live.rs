//! `sinew edge routes --live`: what a running edge says of its routes, read where its metrics are read.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::{
    error::{Error, code},
    output::{Output, Style, columns},
    session::Session,
};

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Routes of this many bytes are none of an edge.
const MOST: usize = 64 * 1024 * 1024;
const WHERE: &str =
    "name the address in `metrics: { listen }` of the edge's file, such as http://127.0.0.1:9464";

/// Reads where metrics are read: an address with a port, in front of it `http://` or nothing.
pub(super) fn address(text: &str) -> Result<Uri, String> {
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let uri: Result<Uri, _> = format!("http://{}/routes", text.trim_end_matches("/metrics")).parse();
    match uri {
        Ok(uri) if uri.path() == "/routes" && uri.port().is_some() => Ok(uri),
        _ => Err(WHERE.to_owned()),
    }
}

pub(super) async fn run(uri: &Uri, session: &Session) -> Result<(), Error> {
    let read = tokio::time::timeout(PATIENCE, read(uri)).await;
    let live = read.unwrap_or_else(|_| Err("no answer came in time".to_owned()));
    let live = live.map_err(|reason| {
        Error::failed(code::HTTP, format!("cannot read the routes at {uri}: {reason}")).hint(WHERE)
    })?;
    session.output.show(&live, |live| text(live, &session.output));
    Ok(())
}

async fn read(uri: &Uri) -> Result<Value, String> {
    let request = Request::get(uri.clone()).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
    let response =
        client.request(request).await.map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answered {}: is it an edge's address for metrics?", response.status()));
    }
    let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("it answered something else: {error}"))
}

fn text(live: &Value, output: &Output) -> String {
    let list = |name: &str| live[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut routes: Vec<&Value> = list("routes").iter().collect();
    let key = |route: &Value| {
        ["host", "path", "method"].map(|name| route[name].as_str().unwrap_or_default().to_owned())
    };
    routes.sort_by_key(|route| key(route));
    let head = ["method", "path", "to", "requests", "4xx", "5xx", "in flight", "mean ms", "circuits"];
    let rows = routes.into_iter().map(row);
    let rows: Vec<Vec<String>> = std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect();
    let notes = list("notes").iter().filter_map(Value::as_str);
    let notes: Vec<String> =
        notes.map(|note| format!("{} {note}", output.paint(Style::Doubtful, "note"))).collect();
    let ready = if live["ready"] == true { "ready" } else { "not ready" };
    let version = format!("{ready}, configuration {}", live["version"].as_str().unwrap_or("unknown"));
    let parts = [columns(&rows), notes.join("\n"), version];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn row(route: &Value) -> Vec<String> {
    let text = |name: &str| route[name].as_str().unwrap_or_default();
    let number = |name: &str| route[name].as_u64().unwrap_or_default().to_string();
    let mean = route["mean_ms"].as_f64().map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}"));
    let circuits = route["circuits"].as_array().into_iter().flatten();
    let circuit = |one: &Value| {
        format!(
            "{} {}",
            one["operation"].as_str().unwrap_or_default(),
            one["state"].as_str().unwrap_or_default()
        )
    };
    let circuits: Vec<String> = circuits.map(circuit).collect();
    vec![
        text("method").to_owned(),
        format!("{}{}", text("host"), text("path")),
        text("to").to_owned(),
        number("requests"),
        number("client_errors"),
        number("server_errors"),
        number("in_flight"),
        mean,
        circuits.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_however_it_is_written() {
        for text in ["127.0.0.1:9464", "http://127.0.0.1:9464/", "http://127.0.0.1:9464/metrics"] {
            assert_eq!(address(text).unwrap().to_string(), "http://127.0.0.1:9464/routes");
        }
        for text in ["127.0.0.1", "https://a:1", "a:1/other", ""] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
