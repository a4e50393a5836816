//! `/.well-known/api-catalog`: where this interface is described, for programs that look for it (RFC 9727, RFC 9264).

use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{Response, reply, served::Own};

const MEDIA_TYPE: HeaderValue =
    HeaderValue::from_static("application/linkset+json; profile=\"https://www.rfc-editor.org/info/rfc9727\"");
const SELF: HeaderValue = HeaderValue::from_static("</.well-known/api-catalog>; rel=\"api-catalog\"");

/// Answers with the links. They are relative: the edge does not know under which names it is reached.
pub(crate) fn answer() -> Response {
    let (_, description) = Own::OpenApi.route();
    let (_, ready) = Own::Ready.route();
    let links = json!({ "linkset": [{
        "anchor": "/",
        "service-desc": [{ "href": description, "type": "application/json" }],
        "status": [{ "href": ready, "type": "application/json" }],
    }] });
    let mut response = reply::json(StatusCode::OK, &links);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::LINK, SELF);
    response
}
