//! Objects of the bus over HTTP: read whole or in parts, written as they come, forgotten. Which object that is, only the
//! route's template says.

mod range;
mod send;
mod take;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sinew::bus::Named;

use crate::{
    Body, Edge, Response,
    config::{Disposition, Mistake, ObjectTarget, below},
    exchange::Asked,
    matcher::Template,
    policy::conditional::{self, Verdict},
    problem::{self, Refusal},
};

/// Where a route's objects are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectPlan {
    bucket: String,
    name: Vec<Piece>,
    written: String,
    content_type: Option<HeaderValue>,
    disposition: Option<Disposition>,
    max_bytes: Option<u64>,
    replicas: usize,
}

/// A piece of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A field of the path template, by its place.
    Field(usize),
}

impl ObjectPlan {
    /// Reads where a route's objects are.
    pub(crate) fn read(
        target: &ObjectTarget,
        template: &Template,
        at: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let before = mistakes.len();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if target.bucket.is_empty() || !target.bucket.bytes().all(allowed) {
            mistakes.push(Mistake::new(below(at, "bucket"), "a bucket's name has letters, digits, - and _"));
        }
        let name = pieces(&target.name, template);
        if let Err(reason) = &name {
            mistakes.push(Mistake::new(below(at, "name"), reason.clone()));
        }
        let content_type = target.content_type.as_deref().map(HeaderValue::try_from);
        if content_type.as_ref().is_some_and(Result::is_err) {
            mistakes.push(Mistake::new(below(at, "content_type"), "is no media type: write image/png"));
        }
        if target.replicas.is_some_and(|replicas| !(1..=5).contains(&replicas)) {
            mistakes.push(Mistake::new(below(at, "replicas"), "has to be 1 to 5"));
        }
        if mistakes.len() > before {
            return None;
        }
        Some(Self {
            bucket: target.bucket.clone(),
            name: name.ok()?,
            written: target.name.clone(),
            content_type: content_type.and_then(Result::ok),
            disposition: target.disposition,
            max_bytes: target.max_bytes,
            replicas: target.replicas.unwrap_or(1),
        })
    }

    /// Says where it leads, for people.
    pub(crate) fn describe(&self) -> String {
        format!("object {} of bucket {}", self.written, self.bucket)
    }

    /// Puts the name together. What a client gives for a field is a part of a name and never a way to another one.
    fn name<V: AsRef<str>>(&self, values: &[V]) -> Result<String, Refusal> {
        let mut name = String::new();
        for piece in &self.name {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Field(place) => name.push_str(values.get(*place).map_or("", AsRef::as_ref)),
            }
        }
        let whole = values.iter().all(|value| !value.as_ref().contains('/'));
        let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if whole && name.split('/').all(sound) && !name.chars().any(char::is_control) && name.len() <= 512 {
            return Ok(name);
        }
        Err(Refusal::malformed("the path names no object: each part of a name has to say something"))
    }

    /// Returns the fields that go with an object, whole or in parts.
    fn headers(&self, object: &Named) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let stored = object.content_type.as_deref().and_then(|text| HeaderValue::try_from(text).ok());
        let octets = || HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, self.content_type.clone().or(stored).unwrap_or_else(octets));
        // What a client wrote is of the type it said, and of no other that a browser may guess.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let named = self.disposition.and_then(|disposition| disposed(disposition, &object.name));
        let fields = [
            (header::ETAG, HeaderValue::try_from(tag(object)).ok()),
            (header::LAST_MODIFIED, modified(object)),
            (header::CONTENT_DISPOSITION, named),
        ];
        headers.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
        headers
    }
}

/// Answers a request for an object.
///
/// # Errors
/// 404 where there is none, 412 where it is not as the request wants it, 416 for parts it does not have; for what is
/// written what [`take::put`] says.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    plan: &ObjectPlan,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let name = plan.name(&asked.values)?;
    let objects = edge.bus.known_objects(&plan.bucket);
    let found = objects.find(&name).await.map_err(unanswered)?;
    match asked.head.method {
        Method::PUT => take::put(edge, plan, &asked, (objects, name, found), body).await,
        Method::DELETE => {
            let found = found.ok_or_else(missing)?;
            unchanged(plan, &asked, Some(&found))?;
            if !objects.remove(&found).await.map_err(unanswered)? {
                return Err(changed());
            }
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        _ => send::get(edge, plan, &asked, &objects, &found.ok_or_else(missing)?).await,
    }
}

/// Refuses a change whose conditions are not met by what stands there.
fn unchanged(plan: &ObjectPlan, asked: &Asked<'_>, found: Option<&Named>) -> Result<(), Refusal> {
    let mut wanted = asked.head.headers.clone();
    wanted.remove(header::IF_MODIFIED_SINCE);
    let headers = found.map(|found| plan.headers(found)).unwrap_or_default();
    match conditional::verdict(&wanted, &headers) {
        Verdict::Send => Ok(()),
        // Nothing is no version that the client could have.
        Verdict::NotModified if found.is_none() => Ok(()),
        Verdict::NotModified | Verdict::Failed => Err(changed()),
    }
}

fn changed() -> Refusal {
    let title = "the object is not as the request wants it";
    Refusal::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title)
}

fn missing() -> Refusal {
    Refusal::nowhere().detail("there is no such object")
}

#[expect(clippy::needless_pass_by_value, reason = "takes the place of an error")]
fn unanswered(error: sinew::Error) -> Refusal {
    problem::of_bus(&error, true).into()
}

/// The digest tags the bytes; objects without one are told apart by their writing.
fn tag(object: &Named) -> String {
    match &object.digest {
        Some(digest) => format!("\"{digest}\""),
        None => format!("\"r{}\"", object.revision),
    }
}

fn modified(object: &Named) -> Option<HeaderValue> {
    let stored: Timestamp = object.stored.parse().ok()?;
    let written = DateTimePrinter::new().timestamp_to_rfc9110_string(&stored).ok()?;
    HeaderValue::try_from(written).ok()
}

/// Names the file as RFC 6266 has it: once for everybody, once with every letter.
fn disposed(disposition: Disposition, name: &str) -> Option<HeaderValue> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ' ');
    let ascii: String = file.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
    let kind = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let whole = utf8_percent_encode(file, NON_ALPHANUMERIC);
    let text = match ascii == file {
        true => format!("{kind}; filename=\"{ascii}\""),
        false => format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{whole}"),
    };
    HeaderValue::try_from(text).ok()
}

fn pieces(text: &str, template: &Template) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (field, behind) = behind.split_once('}').ok_or("a { without its }: write {field}")?;
        let place = template.fields().position(|own| own == field);
        let place = place.ok_or_else(|| format!("the path has no {{{field}}}"))?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Field(place));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    match pieces.is_empty() {
        true => Err("say what the object is called, such as {year}/{file}".to_owned()),
        false => Ok(pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str) -> Result<ObjectPlan, Vec<String>> {
        let template = Template::parse("/docs/{year}/{file}").unwrap();
        let target = ObjectTarget { bucket: "DOCS".into(), name: name.into(), ..ObjectTarget::default() };
        let mut mistakes = Vec::new();
        let plan = ObjectPlan::read(&target, &template, "", &mut mistakes);
        plan.ok_or_else(|| mistakes.into_iter().map(|mistake| mistake.pointer).collect())
    }

    #[test]
    fn a_name_is_what_the_template_makes_of_the_path_and_nothing_else() {
        let plan = plan("y{year}/{file}").unwrap();
        assert_eq!(plan.name(&["2026", "a b.pdf"]).unwrap(), "y2026/a b.pdf");
        for bad in [
            ["2026", ""],
            ["2026", ".."],
            ["2026", "."],
            ["2026", "a\\b"],
            ["2026", "a\0"],
            ["1", "/x"],
            ["1/2", "x"],
        ] {
            assert!(plan.name(&bad).is_err(), "{bad:?}");
        }
        assert!(plan.name(&["2026".to_owned(), "x".repeat(512)]).is_err());
    }

    #[test]
    fn a_name_that_cannot_be_put_together_is_a_mistake() {
        for wrong in ["", "{month}", "{year", "{}"] {
            assert_eq!(plan(wrong), Err(vec!["/name".to_owned()]), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_is_named_so_that_old_and_new_browsers_read_it() {
        let told = |name| disposed(Disposition::Attachment, name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(told("a/b.pdf"), "attachment; filename=\"b.pdf\"");
        assert_eq!(told("ä\".txt"), "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%A4%22%2Etxt");
    }
}
