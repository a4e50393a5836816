//! What a status code says: done, refused, or nobody knows.

use ::http::header::{LOCATION, RETRY_AFTER};
use ::http::{Method, StatusCode};
use serde_json::Value;
use sinew_workflow::Fault;

use super::output::content;
use crate::client::{Reply, is_safe};
use crate::failure::{Effect, Failure};

/// The most of a callee's words that a fault repeats, in characters.
const QUOTED: usize = 500;

/// Returns the failure a reply stands for, if it does. Redirections are results where `redirect` says so.
pub(crate) fn refusal(method: &Method, reply: &Reply, redirect: bool) -> Option<Failure> {
    let fine = reply.status.is_success() || redirect && reply.status.is_redirection();
    if fine {
        return None;
    }
    let failure = Failure { effect: effect(reply), fault: Box::new(fault(reply)) };
    Some(if is_safe(method) { failure.of_safe_request() } else { failure })
}

/// Decides what a request that was answered with an error did.
fn effect(reply: &Reply) -> Effect {
    match reply.status.as_u16() {
        // "Done, look there": browsers were taught so by servers that answer forms.
        302 | 303 => Effect::Unknown,
        // The one that gave up may stand in front of the one that works.
        408 | 499 => Effect::Unknown,
        501 | 505 | 506 | 510 | 511 => Effect::Refused,
        503 if reply.headers.contains_key(RETRY_AFTER) => Effect::Refused,
        500.. => Effect::Unknown,
        _ => Effect::Refused,
    }
}

/// Writes the fault, with what the callee says about it.
fn fault(reply: &Reply) -> Fault {
    let status = reply.status.as_u16();
    let said = content(reply).unwrap_or_default();
    let word = |name: &str| said.get(name).and_then(Value::as_str).map(quoted);
    let mut fault = match status {
        401 => Fault::authentication(""),
        403 => Fault::authorization(""),
        _ => Fault::communication("").with_status(status),
    };
    fault.title = word("title").or_else(|| Some(title(reply.status)));
    // RFC 9457 says `detail`; these are what others say.
    let detail = ["detail", "message", "error_description", "error"].into_iter().find_map(word);
    fault.detail = detail.or_else(|| redirection(reply)).or_else(|| said.as_str().map(quoted));
    fault.code = word("code");
    fault
}

/// Names a status as the standard does.
pub(crate) fn title(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(|| format!("Status {}", status.as_u16()), str::to_owned)
}

fn redirection(reply: &Reply) -> Option<String> {
    let location = reply.headers.get(LOCATION)?.to_str().ok()?;
    reply.status.is_redirection().then(|| {
        format!(
            "it answered to look at {}: call that, or set `redirect: true` to take the answer",
            quoted(location)
        )
    })
}

fn quoted(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderMap;

    use super::*;

    fn reply(status: u16, header: Option<(&'static str, &'static str)>, body: &'static str) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() }
    }

    fn effect_of(method: &Method, status: u16) -> Option<Effect> {
        refusal(method, &reply(status, None, ""), false).map(|failure| failure.effect)
    }

    #[test]
    fn a_status_tells_whether_a_change_was_refused_or_is_in_doubt() {
        for status in [300, 304, 307, 308, 400, 401, 403, 404, 409, 422, 425, 429, 501, 505] {
            assert_eq!(effect_of(&Method::POST, status), Some(Effect::Refused), "{status}");
        }
        for status in [302, 303, 408, 499, 500, 502, 503, 504, 599] {
            assert_eq!(effect_of(&Method::POST, status), Some(Effect::Unknown), "{status}");
            assert_eq!(effect_of(&Method::GET, status), Some(Effect::NotSent), "{status}");
        }
        assert_eq!(effect_of(&Method::POST, 204), None);
        let busy = reply(503, Some(("retry-after", "3")), "");
        assert_eq!(refusal(&Method::POST, &busy, false).unwrap().effect, Effect::Refused);
    }

    #[test]
    fn redirections_are_results_when_asked_for() {
        let moved = reply(302, Some(("location", "https://there/")), "");
        assert!(refusal(&Method::GET, &moved, true).is_none());
        let fault = refusal(&Method::GET, &moved, false).unwrap().fault;
        assert!(fault.detail.unwrap().contains("https://there/"));
        assert!(refusal(&Method::GET, &reply(404, None, ""), true).is_some());
    }

    #[test]
    fn the_callees_problem_is_told() {
        let body = r#"{"title":"No shoes","detail":"none of size 9","code":"out-of-stock","status":409}"#;
        let fault = fault(&reply(409, Some(("content-type", "application/problem+json")), body));
        assert_eq!((fault.kind(), fault.status), ("communication", 409));
        assert_eq!(fault.title.as_deref(), Some("No shoes"));
        assert_eq!(fault.detail.as_deref(), Some("none of size 9"));
        assert_eq!(fault.code.as_deref(), Some("out-of-stock"));
    }

    #[test]
    fn knowing_nobody_and_allowing_nothing_have_types_of_their_own() {
        assert_eq!(fault(&reply(401, None, "")).kind(), "authentication");
        let forbidden = fault(&reply(403, None, "no"));
        assert_eq!((forbidden.kind(), forbidden.detail.as_deref()), ("authorization", Some("no")));
        assert_eq!(fault(&reply(404, None, "")).title.as_deref(), Some("Not Found"));
    }

    #[test]
    fn long_answers_are_cut_at_a_character() {
        assert_eq!(quoted(&"é".repeat(600)).chars().count(), QUOTED + 1);
    }
}
