//! What a gRPC status says, in the words of faults.

use ::http::HeaderMap;
use percent_encoding::percent_decode_str;
use sinew_workflow::Fault;

use crate::failure::{Effect, Failure};

/// The status codes in order: their names, the HTTP status they are mapped to, and what the call did.
const CODES: [(&str, u16, Effect); 17] = [
    ("ok", 200, Effect::Refused),
    ("cancelled", 499, Effect::Unknown),
    ("unknown", 500, Effect::Unknown),
    ("invalid-argument", 400, Effect::Refused),
    ("deadline-exceeded", 504, Effect::Unknown),
    ("not-found", 404, Effect::Refused),
    ("already-exists", 409, Effect::Refused),
    ("permission-denied", 403, Effect::Refused),
    ("resource-exhausted", 429, Effect::Refused),
    ("failed-precondition", 400, Effect::Refused),
    ("aborted", 409, Effect::Refused),
    ("out-of-range", 400, Effect::Refused),
    ("unimplemented", 501, Effect::Refused),
    ("internal", 500, Effect::Unknown),
    ("unavailable", 503, Effect::Unknown),
    ("data-loss", 500, Effect::Unknown),
    ("unauthenticated", 401, Effect::Refused),
];

/// Checks that the status is good.
pub(super) fn check(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status").and_then(|code| code.parse::<usize>().ok()) else {
        return Err(Failure::unknown(Fault::communication("the reply ended without a gRPC status")));
    };
    if code == 0 {
        return Ok(());
    }
    let (name, status, effect) = CODES.get(code).copied().unwrap_or(("unknown", 500, Effect::Unknown));
    let said = text("grpc-message").map(|said| percent_decode_str(said).decode_utf8_lossy().into_owned());
    let said = said.unwrap_or_default();
    let fault = match name {
        "unauthenticated" => Fault::authentication(said),
        "permission-denied" => Fault::authorization(said),
        "deadline-exceeded" => Fault::timeout(said),
        _ => Fault::communication(said).with_status(status),
    };
    Err(Failure { effect, fault: Box::new(fault.with_code(name)) })
}
