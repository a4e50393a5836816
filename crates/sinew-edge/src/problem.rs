//! Failures as clients see them: the fixed mapping from bus and services, and the problem document (RFC 9457).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sinew::{
    Kind,
    wire::{ContentType, Problem},
};

use crate::{
    Body, Response,
    observe::Code,
    operation::{Declared, Operation},
    schema::Violation,
};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A request that can be read and is not as its operation describes it.
pub(crate) const INVALID: &str = "invalid-request";
const LATE: &str = "deadline-exceeded";

/// What the SDK itself answers on behalf of any service: these need no declaration.
const OF_THE_SDK: [(&str, u16); 14] = [
    ("malformed-request", 400),
    ("unsupported-media-type", 415),
    ("overloaded", 503),
    (LATE, 504),
    ("not-implemented", 501),
    ("refused-by-layer", 503),
    ("no-responders", 503),
    ("bus-down", 503),
    ("circuit-open", 503),
    ("bulkhead-full", 503),
    ("too-large", 413),
    ("not-permitted", 403),
    ("reply-too-large", 502),
    // The service failed, not the edge.
    ("internal", 502),
];

/// A request that is not answered with a reply, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    problem: Box<Problem>,
    allow: Option<String>,
    /// Further header fields.
    headers: Option<Box<HeaderMap>>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, title: &str) -> Self {
        Problem::new(status.as_u16(), code, title).into()
    }

    /// Says that the request itself is wrong.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        let refusal =
            Self::new(StatusCode::BAD_REQUEST, "malformed-request", "the request cannot be understood");
        refusal.detail(detail)
    }

    /// Lists what is wrong with a request that can be read; `origin` says where a field comes from.
    pub(crate) fn invalid(violations: &[Violation], origin: impl Fn(&str) -> String) -> Self {
        let field = |pointer: &str| {
            pointer.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~")
        };
        let told = |one: &Violation| {
            let field = field(&one.pointer);
            let place = if field.is_empty() { "body".to_owned() } else { origin(&field) };
            json!({ "pointer": one.pointer, "in": place, "detail": one.detail })
        };
        let errors: Vec<Value> = violations.iter().map(told).collect();
        let first = violations.first().map(|one| match one.detail.contains('`') {
            true => one.detail.clone(),
            false => format!("`{}` {}", field(&one.pointer), one.detail).replace("`` ", ""),
        });
        let more = match violations.len() {
            0 | 1 => String::new(),
            many => format!(" (and {} more, see `errors`)", many - 1),
        };
        let title = "the request is not as the operation describes it";
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY.as_u16(), INVALID, title);
        let problem = problem.detail(format!("{}{more}", first.unwrap_or_default().trim()));
        problem.with("errors", errors).into()
    }

    /// Says that the body is larger than `limit` bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        let refusal = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request is too large");
        refusal.detail(format!("send at most {limit} bytes"))
    }

    /// Says that a media type cannot be read.
    pub(crate) fn unsupported_media(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported-media-type", "unsupported media type").detail(detail)
    }

    /// Says that the edge itself failed.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
    }

    /// Says that no route takes the request.
    pub(crate) fn nowhere() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")
    }

    /// Says that nobody serves what a route leads to.
    pub(crate) fn absent(name: &dyn std::fmt::Display) -> Self {
        let problem = Problem::new(503, "no-responders", "nobody answers at the moment");
        problem.detail(format!("nobody serves {name} yet")).retriable().into()
    }

    /// Says that the path has other methods.
    pub(crate) fn method(allow: String) -> Self {
        let title = "the path does not take this method";
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title);
        let refusal = refusal.detail(format!("use one of {allow}"));
        Self { allow: Some(allow), ..refusal }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.problem.detail = Some(detail.into());
        self
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.problem.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// Says that it is worth asking again after so many seconds.
    pub(crate) fn after(self, seconds: u64) -> Self {
        let problem = self.problem.retry_after(std::time::Duration::from_secs(seconds));
        let refusal = Self { problem: Box::new(problem), ..self };
        refusal.headers(|headers| drop(headers.insert(header::RETRY_AFTER, seconds.into())))
    }

    /// Adds header fields.
    pub(crate) fn headers(mut self, add: impl FnOnce(&mut HeaderMap)) -> Self {
        add(self.headers.get_or_insert_default());
        self
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Writes the answer.
    pub(crate) fn into_response(self) -> Response {
        let bytes = sinew::wire::encode(ContentType::Json, &*self.problem).unwrap_or_else(|_| Bytes::new());
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = failure(self.problem.status);
        response.extensions_mut().insert(Code::new(&self.problem.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if self.problem.retry && self.problem.status == 503 {
            headers.insert(header::RETRY_AFTER, retry_after(&self.problem));
        }
        if let Some(Ok(allow)) = self.allow.map(HeaderValue::try_from) {
            headers.insert(header::ALLOW, allow);
        }
        headers.extend(self.headers.map(|further| *further).unwrap_or_default());
        response
    }
}

/// HTTP counts whole seconds; coming back a little late is better than too early.
fn retry_after(problem: &Problem) -> HeaderValue {
    let hint = problem.retry_hint().unwrap_or_default();
    HeaderValue::from(hint.as_millis().div_ceil(1_000).clamp(1, 3_600) as u32)
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), allow: None, headers: None }
    }
}

/// Translates what the bus reports about a request.
pub(crate) fn of_bus(error: &sinew::Error, repeatable: bool) -> Problem {
    let mut problem = error.to_problem();
    if error.kind() == Kind::TimedOut {
        // Its outcome is unknown: only a request that may be repeated is worth a retry.
        problem.retry = repeatable;
    }
    problem
}

/// Translates what a service answered.
pub(crate) fn of_service(mut problem: Problem, operation: &Operation, repeatable: bool) -> Problem {
    let of_the_sdk = OF_THE_SDK.iter().find(|(code, _)| *code == problem.code);
    problem.status = match (operation.declares(&problem.code), of_the_sdk) {
        (Declared::As(status), _) => status,
        (_, Some((_, status))) => *status,
        (Declared::Any, None) => problem.status,
        (Declared::No, None) => return undeclared(&problem.code),
    };
    problem.status = failure(problem.status).as_u16();
    if problem.code == LATE {
        // Service and edge watch the same deadline: whoever notices first, the answer is the same.
        problem.retry = repeatable;
    }
    problem
}

/// Says that a reply cannot be handed on. Why is for the log.
pub(crate) fn malformed_reply() -> Problem {
    Problem::new(502, "malformed-reply", "the service's reply cannot be read")
}

fn undeclared(code: &str) -> Problem {
    Problem::new(502, "undeclared-error", "the service answered with an error its contract does not declare")
        .with("cause", code)
}

/// Reads the status of a failure; a service that says anything else is a bad gateway.
fn failure(status: u16) -> StatusCode {
    let status =
        StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 400 && status.as_u16() < 600);
    status.unwrap_or(StatusCode::BAD_GATEWAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::tests::{declaring, operation};

    #[test]
    fn a_declared_code_has_its_declared_status() {
        let operation = declaring(operation(), &[("gone", 410)]);
        let problem = of_service(Problem::new(400, "gone", "gone").with("id", 7), &operation, false);
        assert_eq!((problem.status, problem.code.as_str()), (410, "gone"));
        assert_eq!(problem.extensions["id"], 7);
    }

    #[test]
    fn an_undeclared_code_is_a_bad_gateway_and_leaks_nothing_but_the_code() {
        let operation = declaring(operation(), &[("gone", 410)]);
        let leaky = Problem::new(400, "secret", "password is hunter2").detail("hunter2").with("x", "hunter2");
        let problem = of_service(leaky, &operation, false);
        assert_eq!((problem.status, problem.code.as_str()), (502, "undeclared-error"));
        assert_eq!(problem.extensions["cause"], "secret");
        assert!(!serde_json::to_string(&problem).unwrap().contains("hunter2"));
    }

    #[test]
    fn problems_of_the_sdk_need_no_declaration() {
        let operation = declaring(operation(), &[("gone", 410), ("overloaded", 429)]);
        for (code, expected) in
            [("malformed-request", 400), ("internal", 502), ("overloaded", 429), ("too-large", 413)]
        {
            assert_eq!(of_service(Problem::new(500, code, ""), &operation, false).status, expected, "{code}");
        }
    }

    #[test]
    fn a_status_that_is_no_failure_is_a_bad_gateway() {
        for status in [0, 200, 399, 600, 999] {
            assert_eq!(of_service(Problem::new(status, "x", ""), &operation(), false).status, 502);
            assert_eq!(Refusal::from(Problem::new(status, "x", "")).into_response().status(), 502);
        }
    }

    #[test]
    fn every_kind_of_bus_failure_has_its_status() {
        let status = |kind| of_bus(&sinew::Error::new(kind, "cause"), false).status;
        let expected = [
            (Kind::NoResponders, 503),
            (Kind::TimedOut, 504),
            (Kind::Permission, 403),
            (Kind::Disconnected, 503),
            (Kind::TooLarge, 413),
            (Kind::Codec, 502),
        ];
        for (kind, expected) in expected {
            assert_eq!(status(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_worth_a_retry_only_where_repeating_is_harmless() {
        let timed_out = sinew::Error::new(Kind::TimedOut, "");
        assert!(of_bus(&timed_out, true).retry);
        assert!(!of_bus(&timed_out, false).retry);
        assert!(of_bus(&sinew::Error::new(Kind::NoResponders, ""), false).retry);
        let late = Problem::new(504, LATE, "");
        assert!(of_service(late.clone(), &operation(), true).retry);
        assert!(!of_service(late.retriable(), &operation(), false).retry);
    }

    #[test]
    fn a_document_says_when_to_come_back_and_what_is_allowed() {
        let busy = Refusal::from(Problem::new(503, "busy", "busy").retriable()).into_response();
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        let told = Problem::new(503, "overloaded", "overloaded")
            .retry_after(std::time::Duration::from_millis(2_001));
        let told = Refusal::from(told).into_response();
        assert_eq!(told.headers()[header::RETRY_AFTER], "3", "whole seconds, never too early");
        let method = Refusal::method("GET, HEAD".into()).into_response();
        assert_eq!(
            (method.status().as_u16(), &method.headers()[header::ALLOW]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
        assert_eq!(method.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(!method.headers().contains_key(header::RETRY_AFTER));
    }
}
