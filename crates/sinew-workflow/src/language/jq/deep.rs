//! The deepest expressions that are allowed compile, run and go on a stack as small as those of worker threads.

use std::thread;

use serde_json::{Value, json};

use super::{Expression, Nothing};

/// The stack of worker threads.
const STACK: usize = 2 << 20;

/// A shape that nests or repeats: what stands around it, and what is written how often before and after the middle.
struct Shape {
    begin: &'static str,
    open: &'static str,
    middle: &'static str,
    close: &'static str,
    end: &'static str,
}

const fn shape(
    begin: &'static str,
    open: &'static str,
    middle: &'static str,
    close: &'static str,
    end: &'static str,
) -> Shape {
    Shape { begin, open, middle, close, end }
}

const SHAPES: &[Shape] = &[
    shape("", "[", "1", "]", ""),
    shape("", "{a:", "1", "}", ""),
    shape("", "{(", "\"a\"", "):1}|keys[0]", ""),
    shape("", "(", "1", ")", ""),
    shape("", "\"\\(", "1", ")\"", ""),
    shape("", "@json \"\\(", "1", ")\"", ""),
    shape("", "-", "1", "", ""),
    shape("", "try ", ".a", "", ""),
    shape("", "try error(", "1", ") catch .", ""),
    shape("", "", ".a", "?", ""),
    shape("", "", ".a", ".a", ""),
    shape("", "", ".", "[\"a\"]", ""),
    shape("", "", ".", "[0]?", ""),
    shape("", "", ".", "[]?", ""),
    shape("", "", ".", "[1:]", ""),
    shape("[1][0] | ", "", ".a", ".a", ""),
    shape("", "", "[]", "[0:]", ""),
    shape("", ".[", "\"a\"", "]", ""),
    shape("", ".[-", "1", "]?", ""),
    shape("", "", ".a", ".a", " |= 1"),
    shape("", "", ".a", ".a", " += 1"),
    shape("path(", "", ".a", ".a", ")"),
    shape("", "1 | ", "1", "", ""),
    shape("", "1, ", "1", "", ""),
    shape("", "1 + ", "1", "", ""),
    shape("", "[1] - ", "[1]", "", ""),
    shape("", "2 * ", "1", "", ""),
    shape("", "1 and ", "1", "", ""),
    shape("", "null // ", "1", "", ""),
    shape("", ".a = ", "1", "", ""),
    shape("", ".a |= ", "1", "", ""),
    shape("", ".a += ", "1", "", ""),
    shape("", ". as $x | ", "$x", "", ""),
    shape("", ". as [$x, $y] | ", "$x", "", ""),
    shape(". as ", "[", "$x", "]", " | $x"),
    shape(". as ", "{a: ", "$x", "}", " | $x"),
    shape(". as {", "a: $x, ", "b: $y", "", "} | $x"),
    shape(". as [", "$x, ", "$y", "", "] | $x"),
    shape("", "if 1 then ", "1", " end", ""),
    shape("", "if ", "1", " then 1 else 2 end", ""),
    shape("", "if 0 then 1 else ", "1", " end", ""),
    shape("if false then 1", " elif false then 1", "", "", " else 2 end"),
    shape("", "reduce 1 as $x (0; ", "1", ")", ""),
    shape("", "reduce ", "1", " as $x (0; 1)", ""),
    shape("", "foreach 1 as $x (0; ", "1", ")", ""),
    shape("", "label $x | ", "1", "", ""),
    shape("", "def f: ", "1", "; 1", ""),
    shape("", "def f: 1; ", "1", "", ""),
    shape("", "def f: def g: 1; ", "1", "; 1", ""),
    shape("", "map(", "1", ")", ""),
    shape("", "first(", "1", ")", ""),
    shape("", "[limit(1; ", "1", ")]", ""),
    shape("def f(g): g; ", "f(", "1", ")", ""),
    shape("def f(g): [g]; ", "f(", "1", ")", ""),
    shape("def f($x): $x; ", "f(", "1", ")", ""),
    shape("", "select(", "1", ")", ""),
    shape("", "recurse(", "empty", ")", ""),
    shape("", "path(", ".", ")", ""),
    shape("", "paths(", "1", ")", ""),
    shape("", "walk(", "1", ")", ""),
    shape("", "with_entries(", ".", ")", ""),
    shape("", "to_entries | ", "1", "", ""),
    shape("", "(.a | ", ".b", ") |= 1", ""),
    shape("", "getpath([", "1", "])?", ""),
    shape("\"", "\\(1)", "", "", "\""),
    shape("\"", "\\(.a)", "", "", "\""),
    shape("\"", "\\n", "", "", "\""),
    shape("\"", "a\\n\\(1)", "", "", "\""),
    shape("@json \"", "\\n", "", "", "\\(.)\""),
    shape("def f(g): [[[[g]]]]; ", "f(", "1", ")", ""),
    shape("def a(g): [g]; def b(g): a(a(a(a(g)))); def c(g): b(b(b(b(g)))); ", "c(", "1", ")", ""),
    shape("def f(g): . as [$a, $b] | g; ", "f(", "1", ")", ""),
    shape("", "until(true; ", "1", ")", ""),
    shape("", "gsub(\"a\"; ", "\"b\"", ")?", ""),
    shape("", "sort_by(", "1", ")?", ""),
    shape("", "group_by(", "1", ")?", ""),
    shape("", "any(", "1", ")?", ""),
    shape("", "limit(1; ", "1", ")", ""),
    shape("", "pick(", ".a", ")?", ""),
    shape("", "del(", ".a", ")?", ""),
    shape("", "to_entries | map(", "1", ")?", ""),
    shape("", "splits(", "\"a\"", ")?", ""),
    shape("", "tojson | fromjson | ", "1", "", ""),
    shape("", "{a: 1} * ", "{b: 2}", "", ""),
    shape("[", "1,", "1", "", "]"),
    shape("{", "a:1,", "b:1", "", "}"),
    shape("{", "a:(1,2),", "b:1", "", "}"),
    shape("{", "(.a|tostring):1,", "b:1", "", "}"),
    shape("{", "a,", "b", "", "}"),
    shape("splits(\"a\"", "; \"a\"", "", "", ")"),
    shape("def f(a", "; a", "", "", "): 1; 1"),
    shape("", "# comment\n", "1", "", ""),
    shape("", " ", "1", "", ""),
    shape("", ".. | ", "1", "", ""),
    shape("", ".[]? | ", "1", "", ""),
    shape("", "not | ", "1", "", ""),
    shape("", "1 == ", "1", "", ""),
    shape("", "(1 | ", "1", ")", ""),
    shape("", "[.[]? | ", "1", "]", ""),
    shape("", "try (", "1", ") catch (1)", ""),
    shape("", "\"a\" as $x | \"\\(", "1", ")\"", ""),
    shape("", "def f: .; f | ", "1", "", ""),
    shape("", "def f(g): g; f(", "1", ")", ""),
    shape("", "def f: def f: 1; f; ", "1", "", ""),
];

impl Shape {
    fn times(&self, times: usize) -> String {
        let Self { begin, open, middle, close, end } = self;
        format!("{begin}{}{middle}{}{end}", open.repeat(times), close.repeat(times))
    }

    /// Writes the largest one that compiles.
    fn deepest(&self) -> String {
        let compiles = |times| Expression::compile(&self.times(times), []).is_ok();
        let (mut fits, mut over) = (0_usize, 20_000);
        while over - fits > 1 {
            let times = fits.midpoint(over);
            if compiles(times) { fits = times } else { over = times }
        }
        self.times(fits)
    }
}

fn data() -> Value {
    (0..40).fold(json!(null), |inner, _| json!({ "a": inner }))
}

#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    for shape in SHAPES {
        let run = move || {
            let source = shape.deepest();
            // A stack that overflows leaves no other message.
            println!("{} … {} … {}: {} bytes", shape.begin, shape.open, shape.end, source.len());
            let expression = Expression::compile(&source, []).unwrap();
            for input in [json!(null), data(), json!([[1], 2])] {
                drop(expression.evaluate(&input, &Nothing));
                drop(expression.holds(&input, &Nothing));
            }
        };
        thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
    }
}
