//! Path templates and the tree that matches paths against them. Knows segments and methods, not what stands behind.
//!
//! A router that names its parameters in the tree cannot hold `/workflows/{name}` of one service beside
//! `/workflows/{id}/cancel` of another. Here a node only says "any one segment"; the names belong to the target.

use std::{borrow::Cow, collections::HashMap};

use http::Method;
use percent_encoding::percent_decode_str;

/// A path template: `/orders/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    Field(String),
}

/// Targets by method and path. How many there are makes no difference to how long one is looked for.
pub(crate) struct Matcher<T> {
    root: Node<T>,
}

/// What a request's path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'t, T> {
    /// This target, and which segments stand for the fields of its template, in order.
    Target(&'t T, Vec<usize>),
    /// Path and method are known, and all of these have conditions that are not met.
    Unmet(Vec<&'t T>),
    /// The path is known, the method is not; these are.
    Otherwise(Vec<&'t Method>),
    /// The path is unknown.
    Nothing,
}

struct Node<T> {
    fixed: HashMap<String, Node<T>>,
    field: Option<Box<Node<T>>>,
    /// Of several targets for one method the first whose conditions are met has the request.
    targets: Vec<(Method, T)>,
}

/// One walk through the tree.
struct Search<'t, 'p, T, F> {
    method: &'p Method,
    segments: &'p [Cow<'p, str>],
    fits: F,
    values: Vec<usize>,
    target: Option<&'t T>,
    unmet: Vec<&'t T>,
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

    /// Returns the same below one more fixed segment.
    pub(crate) fn below(mut self, segment: &str) -> Self {
        self.0.insert(0, Segment::Fixed(segment.to_owned()));
        self
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

    /// Returns the targets of one method at one template, in the order in which they are tried.
    pub(crate) fn at(&mut self, method: &Method, template: &Template) -> Vec<&mut T> {
        let targets = self.node(template).targets.iter_mut();
        targets.filter(|(own, _)| own == method).map(|(_, target)| target).collect()
    }

    /// Returns every target, in no particular order.
    pub(crate) fn all(&self) -> Vec<&T> {
        let (mut found, mut nodes) = (Vec::new(), vec![&self.root]);
        while let Some(node) = nodes.pop() {
            found.extend(node.targets.iter().map(|(_, target)| target));
            nodes.extend(node.fixed.values());
            nodes.extend(node.field.as_deref());
        }
        found
    }

    /// Puts `target` in, to be tried behind those that stand there.
    pub(crate) fn insert(&mut self, method: Method, template: &Template, target: T) {
        self.node(template).targets.push((method, target));
    }

    /// Finds the first target for decoded segments that `fits`. Fixed segments beat fields; `HEAD` is served by `GET`.
    pub(crate) fn find<'t, 'p>(
        &'t self,
        method: &'p Method,
        segments: &'p [Cow<'p, str>],
        fits: impl Fn(&T) -> bool,
    ) -> Found<'t, T> {
        let (values, unmet, others) = (Vec::new(), Vec::new(), Vec::new());
        let mut search = Search { method, segments, fits, values, target: None, unmet, others };
        self.root.visit(0, &mut search);
        match search.target {
            Some(target) => Found::Target(target, search.values),
            None if !search.unmet.is_empty() => Found::Unmet(search.unmet),
            None if search.others.is_empty() => Found::Nothing,
            None => Found::Otherwise(search.others),
        }
    }

    fn node(&mut self, template: &Template) -> &mut Node<T> {
        template.0.iter().fold(&mut self.root, |node, segment| match segment {
            Segment::Fixed(text) => node.fixed.entry(text.clone()).or_insert_with(Node::new),
            Segment::Field(_) => node.field.get_or_insert_with(|| Box::new(Node::new())),
        })
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { fixed: HashMap::new(), field: None, targets: Vec::new() }
    }

    /// Goes on below this node until a target is found. What was tried in vain leaves only its methods behind.
    fn visit<'t, F: Fn(&T) -> bool>(&'t self, at: usize, search: &mut Search<'t, '_, T, F>) {
        let Some(first) = search.segments.get(at) else {
            return self.arrive(search);
        };
        if let Some(node) = self.fixed.get(first.as_ref()) {
            node.visit(at + 1, search);
        }
        if let Some(node) = self.field.as_ref().filter(|_| search.target.is_none() && !first.is_empty()) {
            search.values.push(at);
            node.visit(at + 1, search);
            if search.target.is_none() {
                search.values.pop();
            }
        }
    }

    fn arrive<'t, F: Fn(&T) -> bool>(&'t self, search: &mut Search<'t, '_, T, F>) {
        for (own, target) in &self.targets {
            let serves = own == search.method || (search.method == Method::HEAD && own == Method::GET);
            if !serves {
                search.others.push(own);
            } else if (search.fits)(target) {
                search.target = Some(target);
                return;
            } else {
                search.unmet.push(target);
            }
        }
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
            matcher.insert(method.parse().unwrap(), &template, index);
        }
        matcher
    }

    #[track_caller]
    fn check(matcher: &Matcher<usize>, request: &str, expected: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let (method, segments) = (method.parse().unwrap(), segments(path).unwrap());
        let found = match matcher.find(&method, &segments, |_| true) {
            Found::Target(index, values) => {
                let values: Vec<&str> = values.into_iter().map(|at| segments[at].as_ref()).collect();
                format!("{index} {}", values.join(",")).trim_end().to_owned()
            }
            Found::Unmet(targets) => format!("unmet {targets:?}"),
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
    fn of_several_targets_the_first_that_fits_is_found_and_else_a_less_precise_path() {
        let mut matcher = matcher(&[("GET", "/a/b"), ("GET", "/a/{x}"), ("PUT", "/a/b")]);
        let twin = Template::parse("/a/{y}").unwrap();
        matcher.insert(Method::GET, &twin, 9);
        assert_eq!(matcher.at(&Method::GET, &twin), [&1, &9]);
        let segments = segments("/a/b").unwrap();
        let find = |fits: fn(&usize) -> bool| matcher.find(&Method::GET, &segments, fits);
        assert_eq!(find(|_| true), Found::Target(&0, vec![]));
        assert_eq!(find(|target| *target > 0), Found::Target(&1, vec![1]));
        assert_eq!(find(|target| *target > 1), Found::Target(&9, vec![1]));
        assert_eq!(find(|_| false), Found::Unmet(vec![&0, &1, &9]));
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
            prop_assert_eq!(matcher.find(&Method::GET, &segments, |_| true), Found::Target(&0, vec![1]));
            prop_assert_eq!(segments[1].as_ref(), value.as_str());
        }
    }
}
