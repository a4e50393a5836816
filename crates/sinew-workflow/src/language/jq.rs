//! Runtime expressions: jq, compiled once, pure and bounded.
//!
//! What is simple is evaluated [directly](direct) on the data, which jq's own values are only made for where it takes jq.
//!
//! The library is jaq's without what reaches outside (`halt`, `env`, `input`, `stderr`, `debug`, local time), and `now`
//! is the logged time. Loops are bounded by a budget of steps, results and repeated texts by a size. Not bounded: the time
//! one built-in takes on one large value, products of several `.[]`, a text that is doubled again and again, and how deep a
//! value nests that is built and dropped within one evaluation: an author can still make an expression slow, or exhaust
//! the stack.

mod calls;
mod direct;
mod fields;
mod library;
mod products;
mod recursion;
pub(crate) mod secrets;
mod size;
mod value;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use jaq_core::load::{self, Arena, File, Loader, lex, parse};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::Val;
use serde_json::Value;

use crate::{Fault, Timestamp};
use direct::Direct;
use fields::Fields;
use library::{Bounds, Engine, Needed};
use value::to_jq;

/// The steps all loops of one evaluation may take together.
const MAX_STEPS: u32 = 100_000;

/// A compiled expression. Cheap to clone: expressions with the same text share their program.
#[derive(Clone)]
pub(crate) struct Expression(Arc<Program>);

struct Program {
    source: String,
    /// How it is evaluated without jq, if it can be.
    direct: Option<Direct>,
    /// The fields of an object it looks at, if it does not look at the whole.
    fields: Option<Fields>,
    /// The program of jq. Written once, when it is first needed: for most expressions that is never.
    filter: OnceLock<Result<Filter<Engine>, String>>,
    /// The variables it mentions, without their `$`, in the order the program takes them.
    variables: Vec<String>,
}

/// Where an evaluation finds its variables and the time. Variables are named without their `$`.
pub(crate) trait Variables {
    /// Returns the value of a variable.
    fn variable(&self, name: &str) -> Cow<'_, Value>;
    /// Returns one field of a variable, where that is less work than all of it.
    fn field(&self, name: &str, key: &str) -> Option<Cow<'_, Value>>;
    /// Returns what `now` says.
    fn now(&self) -> Timestamp;
}

/// What an expression sees that is evaluated before there is anything.
pub(crate) struct Nothing;

impl Variables for Nothing {
    fn variable(&self, _: &str) -> Cow<'_, Value> {
        Cow::Owned(Value::Null)
    }

    fn field(&self, _: &str, _: &str) -> Option<Cow<'_, Value>> {
        None
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
        let scope: Vec<&str> = scope.into_iter().filter(|name| mentions(source, name)).collect();
        let variables = scope.iter().map(|name| (*name).to_owned()).collect();
        let term = parse_term(source);
        let direct = term.as_ref().and_then(|term| Direct::compile(term, &scope));
        let fields = term.as_ref().and_then(Fields::of);
        let (source, filter) = (source.to_owned(), OnceLock::new());
        let program = Program { source, direct, fields, filter, variables };
        if program.direct.is_none() {
            program.filter()?;
        }
        Ok(Self(Arc::new(program)))
    }

    /// Evaluates to the first output.
    pub(crate) fn evaluate(&self, input: &Value, variables: &dyn Variables) -> Result<Value, Box<Fault>> {
        if let Some(Ok(output)) = self.0.direct.as_ref().map(|direct| direct.evaluate(input, variables)) {
            return Ok(output);
        }
        self.run(input, variables, |output| {
            // Dropping a value recurses as deep as it nests: one that is too deep to read is better leaked.
            value::from_jq(&output).inspect_err(|_| std::mem::forget(output))
        })
    }

    /// Evaluates as a condition, where only `null` and `false` are false.
    pub(crate) fn holds(&self, input: &Value, variables: &dyn Variables) -> Result<bool, Box<Fault>> {
        if let Some(Ok(holds)) = self.0.direct.as_ref().map(|direct| direct.holds(input, variables)) {
            return Ok(holds);
        }
        self.run(input, variables, |output| Ok(!matches!(output, Val::Null | Val::Bool(false))))
    }

    /// Runs jq and reads its first output.
    fn run<T>(
        &self,
        input: &Value,
        variables: &dyn Variables,
        read: impl FnOnce(Val) -> Result<T, String>,
    ) -> Result<T, Box<Fault>> {
        let program = &*self.0;
        let fail = |what: String| Box::new(Fault::expression(format!("`{}` failed: {what}", self.excerpt())));
        let filter = program.filter().map_err(fail)?;
        let steps = Cell::new(MAX_STEPS);
        let bounds = Bounds { lut: &filter.lut, now: variables.now(), steps: &steps };
        let values = program.variables.iter().map(|name| to_jq(&variables.variable(name)));
        let context = Ctx::<Engine>::new(bounds, Vars::new(values));
        let input = match (&program.fields, input) {
            (Some(fields), Value::Object(entries)) => fields.to_jq(entries),
            _ => to_jq(input),
        };
        match filter.id.run((context, input)).next() {
            None => Err(fail("it has no output".to_owned())),
            Some(Ok(output)) => read(output).map_err(fail),
            Some(Err(exception)) => Err(fail(match exception.get_err() {
                Ok(error) => error.to_string().chars().take(500).collect(),
                Err(_) => "it breaks out of nothing".to_owned(),
            })),
        }
    }

    /// Returns the placeholders it names itself.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = String> {
        let authorization = self.0.variables.iter().any(|name| name == "authorization");
        let named = secrets::placeholders(&self.0.source).map(str::to_owned);
        named.chain(authorization.then(secrets::authorization))
    }

    fn excerpt(&self) -> String {
        self.0.source.trim().chars().take(120).collect()
    }
}

impl Program {
    fn filter(&self) -> Result<&Filter<Engine>, String> {
        self.filter.get_or_init(|| compile(&self.source, &self.variables)).as_ref().map_err(String::clone)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

/// Reads an expression, unless it is more than one term or none.
fn parse_term(source: &str) -> Option<parse::Term<&str>> {
    parse(source, |parser| parser.term())
}

/// Compiles a program of jq.
fn compile(source: &str, variables: &[String]) -> Result<Filter<Engine>, String> {
    let Some(mut term) = parse_term(source) else { return Err(unreadable(source)) };
    recursion::refuse(&term)?;
    products::bound(&mut term);
    let needed = Needed::by(&term)?;
    // A program is read from text, and products are bounded in what was read: so it is a definition, which the text calls.
    let program = parse::Def { name: library::MAIN, args: Vec::new(), body: term };
    let arena = Arena::default();
    let modules = Loader::new(needed.definitions().into_iter().chain([program]))
        .load(&arena, File { code: library::MAIN, path: () })
        .map_err(|_| "it does not compile".to_owned())?;
    let variables: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();
    Compiler::default()
        .with_funs(needed.functions())
        .with_global_vars(variables.iter().map(String::as_str))
        .compile(modules)
        .map_err(|errors| undefined(&errors))
}

/// Says why a text is no expression.
fn unreadable(source: &str) -> String {
    let arena = Arena::default();
    let loaded = Loader::new([]).load(&arena, File { code: source, path: () });
    let Err(errors) = loaded else { return "an expression is one term of jq".to_owned() };
    errors.first().map_or_else(String::new, |(_, error)| syntax(error))
}

/// Says whether a variable occurs in an expression, so that only those are bound.
pub(crate) fn mentions(source: &str, name: &str) -> bool {
    source.match_indices('$').any(|(at, _)| {
        let rest = &source[at + 1..];
        rest.strip_prefix(name)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

fn syntax(error: &load::Error<&str>) -> String {
    match error {
        load::Error::Io(_) => "modules cannot be imported here".to_owned(),
        load::Error::Lex(errors) => {
            errors.first().map_or_else(String::new, |(expected, found)| lexical(expected, found))
        }
        load::Error::Parse(errors) => {
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
