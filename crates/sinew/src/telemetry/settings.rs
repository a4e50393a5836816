//! Where spans go and who sends them: the configuration, and the standard variables of OpenTelemetry.
//!
//! These variables are read here and not by the binary, because they are a convention between a process and its platform
//! that every instrumented program keeps, whatever its own configuration looks like. Pure: the caller looks them up.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
    uri::Scheme,
};

use super::otlp;
use crate::{Config, Error, Kind};

/// Longest time one export may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How to export.
#[derive(Debug)]
pub(super) struct Settings {
    /// Host and port to connect to.
    pub(super) authority: String,
    /// What is posted to there.
    pub(super) path: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    /// Who sends, as it stands in every export.
    pub(super) resource: Vec<u8>,
}

impl Settings {
    /// Reads the configuration, and what `variable` knows: `OTEL_EXPORTER_OTLP_HEADERS` and `_TIMEOUT` or their
    /// `OTEL_EXPORTER_OTLP_TRACES_` forms, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`. `None` when nothing is to be
    /// exported: there is no endpoint, or `OTEL_SDK_DISABLED` says so.
    ///
    /// # Errors
    /// [`Kind::Config`] when the endpoint or a variable cannot be used.
    pub(super) fn read(
        config: &Config,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let variable = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let Some(endpoint) = config.otlp_endpoint.as_deref().filter(|text| !text.is_empty() && !disabled)
        else {
            return Ok(None);
        };
        let of_exporter = |name: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let (authority, path) = place(endpoint)?;
        let headers = headers(&authority, of_exporter("HEADERS"))?;
        let timeout =
            match of_exporter("TIMEOUT") {
                Some(text) => text.trim().parse().map(Duration::from_millis).map_err(|_| {
                    wrong("OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds".to_owned())
                })?,
                None => TIMEOUT,
            };
        let name = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| config.name.clone());
        let resource = resource(&name, variable("OTEL_RESOURCE_ATTRIBUTES"))?;
        Ok(Some(Self { authority, path, headers, timeout, resource }))
    }
}

/// Splits an endpoint into where to connect and what to post to.
fn place(endpoint: &str) -> Result<(String, Uri), Error> {
    let hint = "use http://host:4318";
    let unusable = || wrong(format!("cannot export traces to {endpoint}: {hint}"));
    let url: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse().map_err(|_| unusable())?;
    if url.scheme() == Some(&Scheme::HTTPS) {
        let text = "traces leave this process unencrypted: point it at a collector nearby, which encrypts";
        return Err(wrong(format!("cannot export traces to {endpoint}: {text}")));
    }
    let host = url.host().filter(|host| !host.is_empty() && url.scheme() == Some(&Scheme::HTTP));
    let authority = format!("{}:{}", host.ok_or_else(unusable)?, url.port_u16().unwrap_or(80));
    let path = url.path().parse().map_err(|_| unusable())?;
    Ok((authority, path))
}

fn headers(authority: &str, listed: Option<String>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs("OTEL_EXPORTER_OTLP_HEADERS", listed.as_deref().unwrap_or_default())? {
        let parsed = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
        // The value may be a secret.
        let (name, value) =
            parsed.ok_or_else(|| wrong(format!("OTEL_EXPORTER_OTLP_HEADERS: {name:?} cannot be sent")))?;
        headers.insert(name, value);
    }
    let host = HeaderValue::try_from(authority).map_err(|_| wrong(format!("{authority:?} is no host")))?;
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sinew/", env!("CARGO_PKG_VERSION"))));
    Ok(headers)
}

/// Writes who sends. `service.name` is the name of this connection; `OTEL_SERVICE_NAME` counts more, because whoever
/// sets it for one process means it.
fn resource(name: &str, listed: Option<String>) -> Result<Vec<u8>, Error> {
    let listed = pairs("OTEL_RESOURCE_ATTRIBUTES", listed.as_deref().unwrap_or_default())?;
    let own = [
        ("service.name", name),
        ("telemetry.sdk.name", "sinew"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let listed = listed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let others = listed.filter(|(name, _)| own.iter().all(|(own, _)| own != name));
    Ok(otlp::resource(own.into_iter().chain(others)))
}

/// Reads `name=value,name=value`, values percent-encoded.
fn pairs(variable: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    parts
        .map(|part| pair(part).filter(|(name, _)| !name.is_empty()))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(format!("{variable} cannot be read: write name=value, separated by commas")))
}

fn wrong(text: String) -> Error {
    Error::new(Kind::Config, text)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;

    use super::*;

    fn read(endpoint: &str, variables: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        let config = Config::new("nats://h", "desk").traced_to(Some(endpoint.to_owned()));
        let look = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&config, look)
    }

    fn attributes(settings: &Settings) -> Vec<(String, String)> {
        let export = otlp::preface(&settings.resource, 0);
        let read = ExportTraceServiceRequest::decode(export.as_slice()).unwrap();
        let resource = read.resource_spans.into_iter().next().unwrap().resource.unwrap();
        let text = |pair: opentelemetry_proto::tonic::common::v1::KeyValue| match pair.value.unwrap().value {
            Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text)) => {
                (pair.key, text)
            }
            other => panic!("{other:?}"),
        };
        resource.attributes.into_iter().map(text).collect()
    }

    #[test]
    fn the_standard_variables_are_heard() {
        let settings = read(
            "http://collector:4318/",
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-team = one"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
                ("OTEL_SERVICE_NAME", "front-desk"),
                ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other"),
            ],
        );
        let settings = settings.unwrap().unwrap();
        assert_eq!((settings.authority.as_str(), settings.path.path()), ("collector:4318", "/v1/traces"));
        let said = |name: &str| settings.headers[name].to_str().unwrap();
        assert_eq!((said("api-key"), said("x-team")), ("a b", "one"));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        let said = attributes(&settings);
        assert!(said.contains(&("service.name".to_owned(), "front-desk".to_owned())), "{said:?}");
        assert!(said.contains(&("deployment.environment".to_owned(), "test".to_owned())), "{said:?}");
        assert_eq!(said.iter().filter(|(name, _)| name == "service.name").count(), 1);
    }

    #[test]
    fn what_is_said_of_traces_alone_counts_more() {
        let variables = [("OTEL_EXPORTER_OTLP_TIMEOUT", "1"), ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2")];
        let settings = read("http://[::1]:4318/otlp", &variables).unwrap().unwrap();
        assert_eq!(settings.timeout, Duration::from_millis(2));
        assert_eq!((settings.authority.as_str(), settings.path.path()), ("[::1]:4318", "/otlp/v1/traces"));
        assert_eq!(attributes(&settings)[0], ("service.name".to_owned(), "desk".to_owned()));
    }

    #[test]
    fn nothing_is_exported_where_nobody_asked_for_it() {
        assert!(read("", &[]).unwrap().is_none());
        assert!(read("http://h", &[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read("http://h", &[("OTEL_SDK_DISABLED", "")]).unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_used_is_said_at_the_start_and_secrets_are_not() {
        for endpoint in ["collector:4318", "http://", "https://h", "ftp://h", "http://h h"] {
            let error = read(endpoint, &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{endpoint}");
        }
        for variable in [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "key=hunter2\u{1}"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ] {
            let error = read("http://h", &[variable]).unwrap_err();
            assert!(error.kind() == Kind::Config && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
