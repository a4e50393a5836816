//! One operation as the edge serves it: where requests go, how they are put together, which errors are declared.

use http::{Method, StatusCode};
use sinew::wire::{HttpBinding, OperationDescriptor, ProblemDescriptor, Subject};

use crate::{matcher::Template, schema::Fields};

/// The code that stands for "hands on every problem" in a list of declared errors.
const ANY: &str = "*";

/// An operation with an HTTP binding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    /// The service that answers.
    pub(crate) service: String,
    /// `<service>/<operation>`, as spans name a call.
    pub(crate) name: String,
    /// Where requests go.
    pub(crate) subject: Subject,
    /// Whether repeating a request has no further effect.
    pub(crate) idempotent: bool,
    /// The HTTP method.
    pub(crate) method: Method,
    /// The path template as the contract writes it.
    pub(crate) route: String,
    /// The same, parsed.
    pub(crate) template: Template,
    /// The field that takes the whole body.
    pub(crate) body: Option<String>,
    /// Status of a success.
    pub(crate) status: StatusCode,
    /// What stands in path and query.
    pub(crate) fields: Fields,
    errors: Vec<ProblemDescriptor>,
}

/// What an operation says about the code of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// It is declared with this status.
    As(u16),
    /// The operation hands on whatever it gets, so the problem's own status counts.
    Any,
    /// It is not declared.
    No,
}

impl Operation {
    /// Reads a contract's operation.
    ///
    /// # Errors
    /// Says what makes it unservable.
    pub(crate) fn read(
        service: &str,
        descriptor: &OperationDescriptor,
        binding: &HttpBinding,
    ) -> Result<Self, String> {
        let template = Template::parse(&binding.path)
            .ok_or_else(|| format!("{:?} is no path template: write /fixed/{{field}}", binding.path))?;
        let method = binding.method.parse().map_err(|_| format!("{:?} is no http method", binding.method))?;
        let status = binding.status.unwrap_or(200);
        Ok(Self {
            service: service.to_owned(),
            name: format!("{service}/{}", descriptor.name),
            subject: subject(&descriptor.subject)?,
            idempotent: descriptor.idempotent,
            method,
            route: binding.path.clone(),
            template,
            body: binding.body.clone(),
            status: success(status)
                .ok_or_else(|| format!("{status} is no status of a success: use 200 to 399"))?,
            fields: Fields::of(&descriptor.request),
            errors: descriptor.errors.clone(),
        })
    }

    /// Says whether requests carry a body. `DELETE` has one only where the binding names a field for it.
    pub(crate) fn takes_body(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => false,
            Method::DELETE => self.body.is_some(),
            _ => true,
        }
    }

    /// Looks an error code up in the declared ones.
    pub(crate) fn declares(&self, code: &str) -> Declared {
        if let Some(error) = self.errors.iter().find(|error| error.code == code && code != ANY) {
            return Declared::As(error.status);
        }
        // An operation that declares nothing answers with plain problems; a faulted workflow has its own status.
        let hands_on = self.errors.is_empty() || self.errors.iter().any(|error| error.code == ANY);
        if hands_on || self.service == "workflow" { Declared::Any } else { Declared::No }
    }
}

/// Reads a status that can stand for a success.
pub(crate) fn success(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status).ok().filter(|status| status.is_success() || status.is_redirection())
}

/// A contract may only send requests where services listen, not to the server's own interfaces.
fn subject(text: &str) -> Result<Subject, String> {
    match Subject::parse(text) {
        Ok(subject) if text.starts_with("svc.") => Ok(subject),
        Ok(_) => Err(format!("{text:?} is no operation's subject: it has to start with svc.")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn descriptor(name: &str, http: &str) -> OperationDescriptor {
        let (method, path) = http.split_once(' ').unwrap();
        let binding = HttpBinding { method: method.into(), path: path.into(), body: None, status: None };
        OperationDescriptor {
            name: name.to_owned(),
            subject: format!("svc.shop.{name}"),
            description: String::new(),
            idempotent: false,
            stream: false,
            accepts: false,
            upload: None,
            http: Some(binding),
            request: json!({ "type": "object", "properties": {
                "id": { "type": "string" }, "count": { "type": "integer" }, "tags": { "type": "array", "items": { "type": "string" } },
            } }),
            reply: json!(true),
            errors: Vec::new(),
        }
    }

    pub(crate) fn operation(http: &str) -> Operation {
        let descriptor = descriptor("do", http);
        Operation::read("shop", &descriptor, descriptor.http.as_ref().unwrap()).unwrap()
    }

    pub(crate) fn declaring(mut operation: Operation, codes: &[(&str, u16)]) -> Operation {
        operation.errors = codes
            .iter()
            .map(|(code, status)| ProblemDescriptor {
                status: *status,
                code: (*code).to_owned(),
                title: String::new(),
                retry: false,
            })
            .collect();
        operation
    }

    #[test]
    fn a_contract_cannot_reach_the_servers_own_subjects() {
        for subject in ["$JS.API.STREAM.DELETE.EVENTS", "evt.orders.placed", "svc.>", ""] {
            let mut descriptor = descriptor("do", "GET /a");
            descriptor.subject = subject.to_owned();
            assert!(
                Operation::read("shop", &descriptor, descriptor.http.as_ref().unwrap()).is_err(),
                "{subject}"
            );
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for http in ["GET a", "G=T /a", "GET /{}"] {
            let descriptor = descriptor("do", http);
            assert!(
                Operation::read("shop", &descriptor, descriptor.http.as_ref().unwrap()).is_err(),
                "{http}"
            );
        }
        assert_eq!(success(404), None);
        assert_eq!(success(202), Some(StatusCode::ACCEPTED));
    }

    #[test]
    fn codes_are_declared_handed_on_or_unknown() {
        let plain = operation("GET /a");
        assert_eq!(plain.declares("x"), Declared::Any);
        let strict = declaring(plain.clone(), &[("gone", 410)]);
        assert_eq!((strict.declares("gone"), strict.declares("x")), (Declared::As(410), Declared::No));
        let open = declaring(plain, &[("gone", 410), ("*", 500)]);
        assert_eq!(
            (open.declares("gone"), open.declares("x"), open.declares("*")),
            (Declared::As(410), Declared::Any, Declared::Any)
        );
    }
}
