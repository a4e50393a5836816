//! Where the fields of a request come from. Read from a route once, followed for every request.

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use crate::{
    config::{self, Mistake, below},
    matcher::Template,
};

/// How an HTTP request becomes the request of an operation or the data of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mapping {
    /// Fields with a source of their own.
    pub(crate) fields: Vec<(String, Source)>,
    /// Fields of the path template that name a field of the request: which one it is, and its name.
    pub(crate) path: Vec<(usize, String)>,
    /// The field that takes the whole body.
    pub(crate) body: Option<String>,
    /// Whether query and body are handed on by name.
    pub(crate) open: bool,
    /// Parameters of the query that choose the route; they are handed on only where the request has such a field.
    pub(crate) choosing: Vec<String>,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A field of the path template, by its place.
    Path(usize),
    Query(String),
    Header(HeaderName),
    Cookie(String),
    /// What no client decides.
    Constant(Value),
}

impl Mapping {
    /// Maps by name only, as a contract's binding does.
    pub(crate) fn by_name(template: &Template, body: Option<String>) -> Self {
        let path = template.fields().map(str::to_owned).enumerate().collect();
        Self { fields: Vec::new(), path, body, open: true, choosing: Vec::new() }
    }

    /// Reads the mapping of a route. What `fields` takes from the path is not handed on by name as well.
    pub(crate) fn read(
        template: &Template,
        fields: &std::collections::BTreeMap<String, config::From>,
        body: Option<String>,
        at: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut mapping = Self::by_name(template, body);
        for (name, from) in fields {
            match source(from, template) {
                Ok(source) => {
                    mapping.path.retain(|(place, own)| source != Source::Path(*place) && own != name);
                    mapping.fields.push((name.clone(), source));
                }
                Err(reason) => mistakes.push(Mistake::new(below(at, name), reason)),
            }
        }
        mapping
    }

    /// Hands on only what has a source of its own.
    pub(crate) fn closed(mut self) -> Self {
        (self.open, self.path) = (false, Vec::new());
        self
    }

    /// Sets a field no client decides about.
    pub(crate) fn constant(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.path.retain(|(_, own)| own != name);
        self.fields.push((name.to_owned(), Source::Constant(value.into())));
        self
    }

    /// Says whether the body is the whole request, whatever the request says besides.
    pub(crate) fn is_plain(&self) -> bool {
        self.open && self.fields.is_empty() && self.path.is_empty() && self.body.is_none()
    }

    /// Writes what is not by name alone as a person would.
    pub(crate) fn lines(&self) -> Vec<String> {
        let fields = self.fields.iter().map(|(field, source)| match source {
            Source::Constant(value) => format!("{field} is {value}"),
            source => format!("{field} from {}", source.describe()),
        });
        fields.chain(self.body.iter().map(|field| format!("{field} from the body"))).collect()
    }

    /// Says whether a parameter of the query has a place of its own.
    pub(crate) fn takes_parameter(&self, name: &str) -> bool {
        self.fields.iter().any(|(_, source)| matches!(source, Source::Query(own) if own == name))
    }

    /// Says whether a field is set by something else than query and body.
    pub(crate) fn sets(&self, field: &str) -> bool {
        let by_field = self.fields.iter().any(|(own, _)| own == field);
        by_field || self.path.iter().any(|(_, own)| own == field) || self.body.as_deref() == Some(field)
    }
}

impl Source {
    /// Says where it stands, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Path(_) => "path".to_owned(),
            Self::Query(name) => format!("query {name}"),
            Self::Header(name) => format!("header {name}"),
            Self::Cookie(name) => format!("cookie {name}"),
            Self::Constant(_) => "route".to_owned(),
        }
    }
}

/// Reads one source.
pub(crate) fn source(from: &config::From, template: &Template) -> Result<Source, String> {
    let given = [
        from.path.is_some(),
        from.query.is_some(),
        from.header.is_some(),
        from.cookie.is_some(),
        from.value.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() != 1 {
        return Err("say exactly one of `path`, `query`, `header`, `cookie` and `value`".to_owned());
    }
    if let Some(name) = &from.path {
        let place = template.fields().position(|own| own == name);
        return place.map(Source::Path).ok_or_else(|| format!("the path has no {{{name}}}"));
    }
    if let Some(name) = &from.header {
        let parsed = HeaderName::try_from(name.as_str());
        return parsed.map(Source::Header).map_err(|_| format!("{name:?} is no name of a header field"));
    }
    let rest = from.query.clone().map(Source::Query);
    let rest = rest.or_else(|| from.cookie.clone().map(Source::Cookie));
    Ok(rest.unwrap_or_else(|| Source::Constant(from.value.clone().unwrap_or_default())))
}

/// Returns a cookie's value.
pub(crate) fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; sid=\"x y\"".parse().unwrap());
        headers.append(header::COOKIE, "b=2".parse().unwrap());
        assert_eq!((cookie(&headers, "sid"), cookie(&headers, "b")), (Some("x y"), Some("2")));
        assert_eq!(cookie(&headers, "id"), None);
    }

    #[test]
    fn a_source_is_one_thing_that_exists() {
        let template = Template::parse("/a/{id}").unwrap();
        let path = config::From { path: Some("id".into()), ..config::From::default() };
        assert_eq!(source(&path, &template), Ok(Source::Path(0)));
        let both = config::From { query: Some("q".into()), ..path.clone() };
        let unknown = config::From { path: Some("key".into()), ..path };
        for wrong in [both, unknown, config::From::default()] {
            assert!(source(&wrong, &template).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_the_path_gives_to_another_field_is_not_handed_on_by_name() {
        let template = Template::parse("/a/{id}/{key}").unwrap();
        let from = config::From { path: Some("id".into()), ..config::From::default() };
        let mut mistakes = Vec::new();
        let mapping = Mapping::read(&template, &[("order".to_owned(), from)].into(), None, "", &mut mistakes);
        assert_eq!(mapping.path, [(1, "key".to_owned())]);
        assert!(mapping.sets("order") && mapping.sets("key") && !mapping.sets("id"));
        assert!(
            mistakes.is_empty()
                && !mapping.is_plain()
                && !mapping.constant("key", 1).path.iter().any(|_| true)
        );
    }
}
