//! Path templates and the tree that matches paths against them. Knows segments and methods, not what stands behind.
//!
//! A router that names its parameters in the tree cannot hold `/workflows/{name}` of one service beside
//! `/workflows/{id}/cancel` of another. Here a node only says "any one segment"; the names belong to the target.

use std::{borrow::Cow, collections::BTreeMap};

use http::Method;
use percent_encoding::percent_decode_str;

/// A path template: `/orders/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    Field(String),
}

/// Targets by method and path.
pub(crate) struct Matcher<T> {
    root: Node<T>,
}

/// What a request's path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'t, 'p, T> {
    /// This target, and what stands in the path for each field of its template, in order.
    Target(&'t T, Vec<&'p str>),
    /// The path is known, the method is not; these are.
    Otherwise(Vec<&'t Method>),
    /// The path is unknown.
    Nothing,
}

struct Node<T> {
    fixed: BTreeMap<String, Node<T>>,
    field: Option<Box<Node<T>>>,
    targets: Vec<(Method, T)>,
}

/// One walk through the tree.
struct Search<'t, 'p, T> {
    method: &'p Method,
    values: Vec<&'p str>,
    target: Option<&'t T>,
    others: Vec<&'t Method>,
}

impl Template {
    /// Parses `text`; `None` where it is no template.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let segment = |text: &str| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("") => None,
            Some(field) => Some(Segment::Field(field.to_owned())),
            None if text.contains(['{', '}']) => None,
            None => Some(Segment::Fixed(decoded(text)?.into_owned())),
        };
        text.strip_prefix('/')?.split('/').map(segment).collect::<Option<_>>().map(Self)
    }

    /// Goes through the fields in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Field(name) => Some(name.as_str()),
            Segment::Fixed(_) => None,
        })
    }
}

impl<T> Matcher<T> {
    pub(crate) fn new() -> Self {
        Self { root: Node::new() }
    }

    /// Puts `target` in, unless another one has the place; then that one is returned.
    pub(crate) fn insert(&mut self, method: Method, template: &Template, target: T) -> Option<&T> {
        let mut node = &mut self.root;
        for segment in &template.0 {
            node = match segment {
                Segment::Fixed(text) => node.fixed.entry(text.clone()).or_insert_with(Node::new),
                Segment::Field(_) => node.field.get_or_insert_with(|| Box::new(Node::new())),
            };
        }
        match node.targets.iter().position(|(own, _)| *own == method) {
            Some(at) => Some(&node.targets[at].1),
            None => {
                node.targets.push((method, target));
                None
            }
        }
    }

    /// Finds the target for decoded segments. Fixed segments beat fields; `HEAD` is served by `GET`.
    pub(crate) fn find<'t, 'p>(
        &'t self,
        method: &'p Method,
        segments: &'p [Cow<'p, str>],
    ) -> Found<'t, 'p, T> {
        let mut search = Search { method, values: Vec::new(), target: None, others: Vec::new() };
        self.root.visit(segments, &mut search);
        match search.target {
            Some(target) => Found::Target(target, search.values),
            None if search.others.is_empty() => Found::Nothing,
            None => Found::Otherwise(search.others),
        }
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { fixed: BTreeMap::new(), field: None, targets: Vec::new() }
    }

    /// Goes on below this node until a target is found. What was tried in vain leaves only its methods behind.
    fn visit<'t, 'p>(&'t self, segments: &'p [Cow<'p, str>], search: &mut Search<'t, 'p, T>) {
        let Some((first, rest)) = segments.split_first() else {
            return self.arrive(search);
        };
        if let Some(node) = self.fixed.get(first.as_ref()) {
            node.visit(rest, search);
        }
        if let Some(node) = self.field.as_ref().filter(|_| search.target.is_none() && !first.is_empty()) {
            search.values.push(first);
            node.visit(rest, search);
            if search.target.is_none() {
                search.values.pop();
            }
        }
    }

    fn arrive<'t>(&'t self, search: &mut Search<'t, '_, T>) {
        let serves =
            |own: &Method| own == search.method || (search.method == Method::HEAD && own == Method::GET);
        search.target = self.targets.iter().find(|(own, _)| serves(own)).map(|(_, target)| target);
        search.others.extend(self.targets.iter().map(|(own, _)| own));
    }
}

/// Splits a path into its decoded segments; `None` where it does not decode to UTF-8.
///
/// Decoding follows splitting, so that an encoded slash stays inside its segment.
pub(crate) fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    path.strip_prefix('/')?.split('/').map(decoded).collect()
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn matcher(routes: &[(&str, &str)]) -> Matcher<usize> {
        let mut matcher = Matcher::new();
        for (index, (method, template)) in routes.iter().enumerate() {
            let template = Template::parse(template).unwrap();
            assert_eq!(matcher.insert(method.parse().unwrap(), &template, index), None);
        }
        matcher
    }

    #[track_caller]
    fn check(matcher: &Matcher<usize>, request: &str, expected: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let (method, segments) = (method.parse().unwrap(), segments(path).unwrap());
        let found = match matcher.find(&method, &segments) {
            Found::Target(index, values) => format!("{index} {}", values.join(",")).trim_end().to_owned(),
            Found::Otherwise(methods) => methods.iter().map(|m| m.as_str()).collect::<Vec<_>>().join("|"),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn fixed_segments_beat_fields_and_a_dead_end_is_left_again() {
        let matcher = matcher(&[
            ("GET", "/orders/{id}"),
            ("GET", "/orders/mine"),
            ("POST", "/orders/{order}/lines/{line}"),
            ("POST", "/orders/mine/archive"),
            ("GET", "/"),
        ]);
        check(&matcher, "GET /orders/7", "0 7");
        check(&matcher, "GET /orders/mine", "1");
        check(&matcher, "POST /orders/mine/lines/3", "2 mine,3");
        check(&matcher, "POST /orders/mine/archive", "3");
        check(&matcher, "GET /", "4");
        check(&matcher, "HEAD /orders/7", "0 7");
        for unknown in
            ["GET /orders", "GET /orders/", "GET /orders//", "GET /orders/7/", "GET /Orders/7", "GET //"]
        {
            check(&matcher, unknown, "nothing");
        }
    }

    #[test]
    fn a_known_path_tells_its_methods() {
        let matcher = matcher(&[("GET", "/a/{x}"), ("PUT", "/a/{y}"), ("POST", "/a/b")]);
        check(&matcher, "DELETE /a/c", "GET|PUT");
        check(&matcher, "DELETE /a/b", "POST|GET|PUT");
        check(&matcher, "GET /a/b", "0 b");
    }

    #[test]
    fn the_first_target_keeps_its_place() {
        let mut matcher = matcher(&[("GET", "/a/{x}")]);
        let twin = Template::parse("/a/{y}").unwrap();
        assert_eq!(matcher.insert(Method::GET, &twin, 9), Some(&0));
        check(&matcher, "GET /a/1", "0 1");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["", "a", "/{}", "/a{b}", "/{a", "/%ff"] {
            assert_eq!(Template::parse(bad), None, "{bad:?}");
        }
        assert_eq!(segments("/%ff"), None);
        assert_eq!(segments("*"), None);
    }

    proptest! {
        #[test]
        fn any_text_survives_as_one_segment(value in ".{1,20}") {
            let matcher = matcher(&[("GET", "/a/{x}/b")]);
            let path = format!("/a/{}/b", utf8_percent_encode(&value, NON_ALPHANUMERIC));
            let segments = segments(&path).unwrap();
            prop_assert_eq!(matcher.find(&Method::GET, &segments), Found::Target(&0, vec![value.as_str()]));
        }
    }
}
