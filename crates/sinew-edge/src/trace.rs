//! The trace of one HTTP request: its server span, continued from the client's or begun here.

use http::{HeaderMap, Method};
use sinew::{
    Tracer,
    telemetry::{Span, SpanKind, new_root},
    wire::{TraceContext, header},
};

/// A request's span.
pub(crate) struct Trace {
    span: Span,
    context: TraceContext,
}

impl Trace {
    /// Begins the server span, named by method and path template, never by the path itself.
    pub(crate) fn begin(tracer: &Tracer, headers: &HeaderMap, method: &Method, route: Option<&str>) -> Self {
        let name =
            || route.map_or_else(|| known(method).to_owned(), |route| format!("{} {route}", known(method)));
        let mut span = tracer.span(name, SpanKind::Server, of_client(headers));
        span.set("http.request.method", || known(method).to_owned());
        if let Some(route) = route {
            span.set("http.route", || route.to_owned());
        }
        // Without an exporter here there may still be one further on, and the client gets an id to ask for.
        let context = span.context().unwrap_or_else(|| new_root(true));
        Self { span, context }
    }

    /// Returns the position that messages sent for this request carry.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// Ends the span with the answer's status.
    pub(crate) fn end(mut self, status: u16) {
        self.span.set("http.response.status_code", || u32::from(status));
        if status >= 500 {
            self.span.fail(status.to_string());
        }
    }
}

/// Returns the client's trace context, where it sent a valid one.
pub(crate) fn of_client(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(header::TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()?.parse().ok()
}

/// A client may invent methods; names of spans must stay few.
fn known(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "_OTHER" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn a_clients_trace_is_continued_and_an_unclear_one_is_not() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", PARENT.parse().unwrap());
        let trace = Trace::begin(&Tracer::default(), &headers, &Method::GET, Some("/a"));
        assert_eq!(trace.context().to_string(), PARENT);
        headers.append("traceparent", PARENT.parse().unwrap());
        let trace = Trace::begin(&Tracer::default(), &headers, &Method::GET, None);
        assert_ne!(trace.context().trace, PARENT.parse::<TraceContext>().unwrap().trace);
    }

    #[test]
    fn an_invented_method_makes_no_name_of_its_own() {
        assert_eq!(known(&Method::from_bytes(b"BREW").unwrap()), "_OTHER");
        assert_eq!(known(&Method::PATCH), "PATCH");
    }
}
