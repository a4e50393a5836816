//! One operation as the edge calls it: where requests go, what they have to be like, which errors are declared.

use http::StatusCode;
use serde_json::Value;
use sinew::wire::{ContentType, OperationDescriptor, ProblemDescriptor, Subject};

use crate::schema::Schema;

/// The code that stands for "hands on every problem" in a list of declared errors.
const ANY: &str = "*";
/// Subjects that belong to the server, to events and to roles among themselves: no operation is served there.
const RESERVED: [&str; 8] = ["$", "_", "evt.", "evt-at.", "evt-every.", "dlq.", "redo.", "wf."];

/// An operation of a service.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The service that answers.
    pub(crate) service: String,
    /// `<service>/<operation>`, as spans name a call.
    pub(crate) name: String,
    /// Where requests go.
    pub(crate) subject: Subject,
    /// The codec it is asked in.
    pub(crate) codec: ContentType,
    /// Whether repeating a request has no further effect.
    pub(crate) idempotent: bool,
    /// Whether it answers with a stream of items.
    pub(crate) stream: bool,
    /// Status of a success.
    pub(crate) status: StatusCode,
    /// What a request is like.
    pub(crate) request: Schema,
    /// The schema of the reply, or of one item.
    pub(crate) reply: Value,
    pub(crate) description: String,
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
    /// Reads a contract's operation. One without a contract, known from discovery, is asked in JSON.
    ///
    /// # Errors
    /// Says what makes it unservable.
    pub(crate) fn read(
        service: &str,
        descriptor: &OperationDescriptor,
        contract: bool,
    ) -> Result<Self, String> {
        if descriptor.upload.is_some() {
            return Err("takes a stream of items, which has no route over http yet".to_owned());
        }
        let status = descriptor.http.as_ref().and_then(|binding| binding.status).unwrap_or(200);
        Ok(Self {
            service: service.to_owned(),
            name: format!("{service}/{}", descriptor.name),
            subject: subject(&descriptor.subject, contract)?,
            codec: if contract { ContentType::MessagePack } else { ContentType::Json },
            idempotent: descriptor.idempotent,
            stream: descriptor.stream,
            status: success(status)
                .ok_or_else(|| format!("{status} is no status of a success: use 200 to 399"))?,
            request: Schema::new(&descriptor.request),
            reply: descriptor.reply.clone(),
            description: descriptor.description.clone(),
            errors: descriptor.errors.clone(),
        })
    }

    /// Returns the declared errors.
    pub(crate) fn errors(&self) -> &[ProblemDescriptor] {
        &self.errors
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

/// A contract may only send requests where services listen, and nobody to the server's own interfaces.
fn subject(text: &str, contract: bool) -> Result<Subject, String> {
    let subject = Subject::parse(text).map_err(|error| error.to_string())?;
    if contract && !text.starts_with("svc.") {
        return Err(format!("{text:?} is no operation's subject: it has to start with svc."));
    }
    match RESERVED.iter().find(|start| text.starts_with(**start)) {
        Some(start) => Err(format!("{text:?} is reserved: no operation is below {start}")),
        None => Ok(subject),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use sinew::wire::HttpBinding;

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

    pub(crate) fn operation() -> Operation {
        Operation::read("shop", &descriptor("do", "GET /a"), true).unwrap()
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
            assert!(Operation::read("shop", &descriptor, true).is_err(), "{subject}");
            assert!(Operation::read("shop", &descriptor, false).is_err(), "{subject}");
            descriptor.subject = "math.add".to_owned();
            assert!(Operation::read("shop", &descriptor, true).is_err());
            assert_eq!(Operation::read("shop", &descriptor, false).unwrap().codec, ContentType::Json);
        }
    }

    #[test]
    fn a_status_of_a_success_is_one() {
        assert_eq!(success(404), None);
        assert_eq!(success(202), Some(StatusCode::ACCEPTED));
    }

    #[test]
    fn codes_are_declared_handed_on_or_unknown() {
        assert_eq!(operation().declares("x"), Declared::Any);
        let strict = declaring(operation(), &[("gone", 410)]);
        assert_eq!((strict.declares("gone"), strict.declares("x")), (Declared::As(410), Declared::No));
        let open = declaring(operation(), &[("gone", 410), ("*", 500)]);
        assert_eq!(
            (open.declares("gone"), open.declares("x"), open.declares("*")),
            (Declared::As(410), Declared::Any, Declared::Any)
        );
    }
}
