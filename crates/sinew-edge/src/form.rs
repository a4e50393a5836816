//! Forms: fields as text, and files beside them. Pure: a body in, its parts out.
//!
//! Source: RFC 7578 (multipart/form-data), WHATWG URL (application/x-www-form-urlencoded).

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use serde_json::{Value, json};
use sinew::bus::Object;

use crate::{problem::Refusal, request};

/// Most parts of one form.
const MOST_PARTS: usize = 256;
/// Longest boundary (RFC 2046, section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// What a form holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// Names and all their texts, in the order they came.
    pub(crate) texts: Vec<(String, Vec<String>)>,
    pub(crate) files: Vec<File>,
}

/// A file, and the object it becomes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) field: String,
    name: String,
    media_type: String,
    pub(crate) object: Object,
    pub(crate) bytes: Bytes,
}

/// How a form is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Url,
    /// With its boundary.
    Parts(String),
}

impl Encoding {
    /// Reads a media type; `None` for one that is no form's.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Url),
            "multipart/form-data" => {
                let named = parameters.split(';').filter_map(|one| one.split_once('='));
                let boundary =
                    named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary")).map(|(_, v)| v);
                Some(Self::Parts(
                    boundary.map(|value| value.trim().trim_matches('"')).next().unwrap_or("").to_owned(),
                ))
            }
            _ => None,
        }
    }
}

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// 400 for one that cannot be read.
    pub(crate) fn read(encoding: &Encoding, body: &Bytes) -> Result<Self, Refusal> {
        match encoding {
            Encoding::Url => Self::from_url(body),
            Encoding::Parts(boundary) => Self::from_parts(boundary, body),
        }
    }

    fn from_url(body: &[u8]) -> Result<Self, Refusal> {
        let text =
            std::str::from_utf8(body).map_err(|_| Refusal::malformed("the form is not valid utf-8"))?;
        let own = |(name, texts): (std::borrow::Cow<'_, str>, Vec<std::borrow::Cow<'_, str>>)| {
            (name.into_owned(), texts.into_iter().map(std::borrow::Cow::into_owned).collect())
        };
        Ok(Self { texts: request::pairs(text)?.into_iter().map(own).collect(), files: Vec::new() })
    }

    fn from_parts(boundary: &str, body: &Bytes) -> Result<Self, Refusal> {
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY {
            return Err(broken("the boundary is missing or longer than 70 characters"));
        }
        let mark = format!("--{boundary}");
        let mut form = Self::default();
        let mut at = find(body, mark.as_bytes(), 0).ok_or_else(|| broken("no part begins"))? + mark.len();
        let limit = format!("\r\n{mark}");
        for _ in 0..=MOST_PARTS {
            match body.get(at..at + 2) {
                Some(b"--") => return Ok(form),
                Some(b"\r\n") => {}
                _ => return Err(broken("a part breaks off")),
            }
            let end = find(body, limit.as_bytes(), at).ok_or_else(|| broken("a part breaks off"))?;
            form.part(body, at + 2, end)?;
            at = end + limit.len();
        }
        Err(broken("there are too many parts: send at most 256"))
    }

    fn part(&mut self, body: &Bytes, from: usize, to: usize) -> Result<(), Refusal> {
        // A part without header fields begins with the empty line.
        let split = find(body, b"\r\n\r\n", from.saturating_sub(2)).filter(|at| *at < to);
        let split = split.ok_or_else(|| broken("a part has no end of its header"))?;
        let head = std::str::from_utf8(body.get(from..split).unwrap_or_default());
        let head = head.map_err(|_| broken("a part's header is not valid utf-8"))?;
        let disposition = field(head, "content-disposition").ok_or_else(|| broken("a part has no name"))?;
        let name = parameter(disposition, "name").ok_or_else(|| broken("a part has no name"))?;
        let bytes = body.slice((split + 4).min(to)..to);
        match parameter(disposition, "filename") {
            Some(file) => {
                let media_type = field(head, "content-type").unwrap_or("application/octet-stream").to_owned();
                let object = Object::of(sinew::new_id(), &bytes);
                self.files.push(File { field: name, name: file, media_type, object, bytes });
            }
            None => {
                let text =
                    String::from_utf8(bytes.into()).map_err(|_| broken("a field is not valid utf-8"))?;
                match self.texts.iter_mut().find(|(own, _)| *own == name) {
                    Some((_, texts)) => texts.push(text),
                    None => self.texts.push((name, vec![text])),
                }
            }
        }
        Ok(())
    }

    /// Returns the files of every field as the request names them: where they are stored, and what they are.
    pub(crate) fn described(&self) -> Vec<(&str, Vec<Value>)> {
        let mut fields: Vec<(&str, Vec<Value>)> = Vec::new();
        for file in &self.files {
            let Object { id, size, digest } = &file.object;
            let told = json!({
                "id": id, "size": size, "digest": digest, "name": file.name, "content_type": file.media_type,
            });
            match fields.iter_mut().find(|(own, _)| *own == file.field) {
                Some((_, values)) => values.push(told),
                None => fields.push((&file.field, vec![told])),
            }
        }
        fields
    }
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    memmem::find(body.get(from..)?, wanted).map(|at| from + at)
}

/// Returns a header field of a part.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(own, _)| own.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Returns a parameter, which may be quoted; browsers write a quote inside as `%22`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (own, after) = rest.split_once('=')?;
        let (text, behind) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let (text, behind) = quoted.split_once('"')?;
                (text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"), behind)
            }
            None => {
                let (text, behind) =
                    after.split_once(';').map_or((after, ""), |(text, _)| (text, &after[text.len()..]));
                (text.trim().to_owned(), behind)
            }
        };
        if own.trim().eq_ignore_ascii_case(name) {
            return Some(text);
        }
        rest = behind.trim_start().strip_prefix(';')?;
    }
}

fn broken(reason: &str) -> Refusal {
    Refusal::malformed(format!("the form cannot be read: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Result<Form, Refusal> {
        Form::read(&Encoding::Parts("b".into()), &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn fields_and_files_are_told_apart() {
        let form = parts(
            "ignored\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\ncontent-disposition: form-data; \
             name=a\r\n\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x; %22y%22.png\"\r\nContent-Type: \
             image/png\r\n\r\n\r\n--c\r\n--b--\r\n",
        )
        .unwrap();
        assert_eq!(form.texts, [("a".to_owned(), vec!["1".to_owned(), String::new()])]);
        let [file] = form.files.as_slice() else { panic!("{form:?}") };
        assert_eq!(
            (file.name.as_str(), file.media_type.as_str(), &file.bytes[..]),
            ("x; \"y\".png", "image/png", &b"\r\n--c"[..])
        );
        assert_eq!(form.described()[0].1[0]["size"], 5);
    }

    #[test]
    fn a_form_that_breaks_off_is_refused() {
        for text in [
            "",
            "--b",
            "--b\r\n",
            "--b\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx",
            "--c--",
        ] {
            assert!(parts(text).is_err(), "{text:?}");
        }
        assert_eq!(parts("--b--").unwrap(), Form::default());
    }

    #[test]
    fn media_types_of_forms_are_known() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", text.parse().unwrap());
            Encoding::of(&headers)
        };
        assert_eq!(
            of("multipart/form-data; charset=utf-8; boundary=\"a b\""),
            Some(Encoding::Parts("a b".into()))
        );
        assert_eq!(of("Application/X-WWW-form-urlencoded"), Some(Encoding::Url));
        assert_eq!(of("application/json"), None);
    }

    proptest! {
        #[test]
        fn any_file_survives_and_any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let whole = [b"--bound\r\ncontent-disposition: form-data; name=f; filename=f\r\n\r\n", &bytes[..], b"\r\n--bound--"].concat();
            prop_assume!(memmem::find(&bytes, b"\r\n--bound").is_none());
            let form = Form::read(&Encoding::Parts("bound".into()), &whole.into()).unwrap();
            prop_assert_eq!(&form.files[0].bytes[..], &bytes[..]);
            let _ = Form::read(&Encoding::Parts("b".into()), &bytes.clone().into());
            let _ = Form::read(&Encoding::Url, &bytes.into());
        }
    }
}
