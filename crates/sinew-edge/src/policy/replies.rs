//! What becomes of a reply on its way out: tagged, compared with what the client has, and made smaller, in this order.

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::{Policies, compression};
use crate::{Body, Response, observe::Tallies, problem::Refusal};

/// Finishes a reply.
///
/// # Errors
/// 412 where the request wants something else than there is.
pub(crate) async fn finish(
    tallies: &Tallies,
    policies: &Policies,
    head: &Parts,
    mut response: Response,
) -> Result<Response, Refusal> {
    let bytes = whole(&response);
    let length = bytes.as_ref().map_or(0, Bytes::len);
    let compression =
        policies.compression.as_ref().filter(|policy| bytes.is_some() && policy.varies(&response));
    vary(&mut response, compression.is_some());
    // Chosen before anything is compared: each coding is a representation with a tag of its own.
    let coding = compression.and_then(|policy| policy.choose(head, length));
    if let Some(conditional) = &policies.conditional {
        conditional.tag(head, &mut response, bytes.as_deref(), coding);
        response = conditional.judge(head, response)?;
        if response.status() == http::StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
    }
    match (coding, bytes) {
        (Some(coding), Some(bytes)) => {
            let response = compression::apply(coding, head, response, bytes).await;
            if let (Some(policy), Some(coded)) = (&policies.compression, response.body().size_hint().exact())
                && response.headers().contains_key(header::CONTENT_ENCODING)
            {
                policy.count(tallies, coding, length.saturating_sub(coded as usize));
            }
            Ok(response)
        }
        _ => Ok(response),
    }
}

/// Returns a body that is there as a whole. Streams go out as they come.
pub(super) fn whole(response: &Response) -> Option<Bytes> {
    let Body::Whole(body) = response.body() else { return None };
    let frame = body.clone().frame().now_or_never()?;
    frame.map_or(Some(Bytes::new()), |frame| frame.ok()?.into_data().ok())
}

/// Says what the response was chosen by.
fn vary(response: &mut Response, coded: bool) {
    let by = if coded { "accept, accept-encoding" } else { "accept" };
    response.headers_mut().append(header::VARY, HeaderValue::from_static(by));
}
