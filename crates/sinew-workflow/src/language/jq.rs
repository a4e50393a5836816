//! Runtime expressions: jq, compiled once, pure and bounded.
//!
//! The library is jaq's without what reaches outside (`halt`, `env`, `input`, `stderr`, `debug`, local time), and `now`
//! is the logged time. Loops are bounded by a budget of steps and results by a size. Not bounded: the time one built-in
//! takes on one large value, such as multiplying huge strings, products of several `.[]`, and how deep a value nests that
//! is built and dropped within one evaluation: an author can still make an expression slow, or exhaust the stack.

mod library;
mod recursion;
pub(crate) mod secrets;
mod size;
mod value;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use jaq_core::load::{Arena, File, Loader, lex, parse};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::Val;
use serde_json::Value;

use crate::{Fault, Timestamp};
use library::{Bounds, Engine};

pub(crate) use value::to_jq;

/// The steps all loops of one evaluation may take together.
const MAX_STEPS: u32 = 100_000;

/// A compiled expression. Cheap to clone: expressions with the same text share their program.
#[derive(Clone)]
pub(crate) struct Expression(Arc<Program>);

struct Program {
    source: String,
    filter: Filter<Engine>,
    /// The variables it mentions, in the order the program takes them.
    variables: Vec<String>,
}

/// Where an evaluation finds its variables and the time.
pub(crate) trait Variables {
    /// Returns the value of a variable, named without its `$`.
    fn variable(&self, name: &str) -> Val;
    /// Returns what `now` says.
    fn now(&self) -> Timestamp;
}

/// What an expression sees that is evaluated before there is anything.
pub(crate) struct Nothing;

impl Variables for Nothing {
    fn variable(&self, _: &str) -> Val {
        Val::Null
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Expression {
    /// Compiles an expression that may use the variables in scope.
    pub(crate) fn compile<'s>(
        source: &str,
        scope: impl IntoIterator<Item = &'s str>,
    ) -> Result<Self, String> {
        size::check(source)?;
        let variables: Vec<String> =
            scope.into_iter().filter(|name| mentions(source, name)).map(|name| format!("${name}")).collect();
        let arena = Arena::default();
        let modules = Loader::new(library::definitions())
            .load(&arena, File { code: source, path: () })
            .map_err(|errors| errors.first().map_or_else(String::new, |(_, error)| syntax(error)))?;
        recursion::refuse(source)?;
        let filter = Compiler::default()
            .with_funs(library::functions())
            .with_global_vars(variables.iter().map(String::as_str))
            .compile(modules)
            .map_err(|errors| undefined(&errors))?;
        Ok(Self(Arc::new(Program { source: source.to_owned(), filter, variables })))
    }

    /// Evaluates to the first output.
    pub(crate) fn evaluate(&self, input: &Value, variables: &dyn Variables) -> Result<Value, Box<Fault>> {
        let program = &*self.0;
        let steps = Cell::new(MAX_STEPS);
        let bounds = Bounds { lut: &program.filter.lut, now: variables.now(), steps: &steps };
        let values = program.variables.iter().map(|name| variables.variable(name.trim_start_matches('$')));
        let context = Ctx::<Engine>::new(bounds, Vars::new(values));
        let fail = |what: String| Box::new(Fault::expression(format!("`{}` failed: {what}", self.excerpt())));
        match program.filter.id.run((context, to_jq(input))).next() {
            None => Err(fail("it has no output".to_owned())),
            Some(Ok(output)) => value::from_jq(&output).map_err(|problem| {
                // Dropping a value recurses as deep as it nests: one that is too deep to read is better leaked.
                std::mem::forget(output);
                fail(problem)
            }),
            Some(Err(exception)) => Err(fail(match exception.get_err() {
                Ok(error) => error.to_string().chars().take(500).collect(),
                Err(_) => "it breaks out of nothing".to_owned(),
            })),
        }
    }

    /// Evaluates as a condition, where only `null` and `false` are false.
    pub(crate) fn holds(&self, input: &Value, variables: &dyn Variables) -> Result<bool, Box<Fault>> {
        self.evaluate(input, variables).map(|value| !matches!(value, Value::Null | Value::Bool(false)))
    }

    /// Returns the placeholders it names itself.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = String> {
        let authorization = self.0.variables.iter().any(|name| name == "$authorization");
        let named = secrets::placeholders(&self.0.source).map(str::to_owned);
        named.chain(authorization.then(secrets::authorization))
    }

    fn excerpt(&self) -> String {
        self.0.source.trim().chars().take(120).collect()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

/// Says whether a variable occurs in an expression, so that only those are bound.
fn mentions(source: &str, name: &str) -> bool {
    source.match_indices('$').any(|(at, _)| {
        let rest = &source[at + 1..];
        rest.strip_prefix(name)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

fn syntax(error: &jaq_core::load::Error<&str>) -> String {
    match error {
        jaq_core::load::Error::Io(_) => "modules cannot be imported here".to_owned(),
        jaq_core::load::Error::Lex(errors) => {
            errors.first().map_or_else(String::new, |(expected, found)| lexical(expected, found))
        }
        jaq_core::load::Error::Parse(errors) => {
            errors.first().map_or_else(String::new, |(expected, found)| expectation(expected, found))
        }
    }
}

fn lexical(expected: &lex::Expect<&str>, found: &str) -> String {
    match expected {
        lex::Expect::Delim(open) => format!("the `{open}` is never closed"),
        lex::Expect::Digit => format!("a digit is missing before `{}`", excerpt(found)),
        lex::Expect::Ident => format!("a name is missing before `{}`", excerpt(found)),
        lex::Expect::Escape | lex::Expect::Unicode => format!("`{}` is not an escape", excerpt(found)),
        _ => format!("`{}` makes no sense here", excerpt(found)),
    }
}

fn expectation(expected: &parse::Expect<&str>, found: &str) -> String {
    let found = if found.is_empty() { "the end".to_owned() } else { format!("`{}`", excerpt(found)) };
    format!("expected {}, found {found}", expected.as_str())
}

fn undefined(errors: &jaq_core::compile::Errors<&str, ()>) -> String {
    let Some((name, kind)) = errors.iter().flat_map(|(_, errors)| errors).next() else {
        return "it does not compile".to_owned();
    };
    let what = kind.as_str();
    match *name {
        "env" | "$ENV" | "halt" | "halt_error" | "input" | "inputs" | "debug" | "stderr" | "localtime"
        | "strflocaltime" => {
            format!("`{name}` is not available: an expression sees its data and nothing else")
        }
        _ if what == "variable" => format!("there is no variable `{name}` here"),
        _ => format!("there is no {what} `{name}`"),
    }
}

fn excerpt(found: &str) -> String {
    found.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
