//! Runtime expressions: jq, compiled once, pure and bounded.
//!
//! What is simple is evaluated [directly](direct) on the data, which jq's own values are only made for where it takes jq.
//!
//! The library is jaq's without what reaches outside (`halt`, `env`, `input`, `stderr`, `debug`, local time), and `now`
//! is the logged time. Every evaluation has a [budget](budget): of steps, of work on large values, of how large and how
//! deep a value may get. The syntax tree is [rewritten](metered) to ask for it, because jaq bounds nothing itself.
//!
//! What this comes to: an evaluation that uses all of it takes seconds and a few hundred megabytes at worst, most of them
//! milliseconds, and then fails like any other expression. Not bounded exactly, because jaq does it in one go: a single
//! native function may produce up to 16 times the largest value before anybody looks (`explode`), and sorting compares
//! what it sorts as often as sorting takes.

mod budget;
mod calls;
mod depth;
mod direct;
mod fields;
mod gauges;
mod library;
mod metered;
mod recursion;
pub(crate) mod secrets;
mod size;
mod value;

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::{Arc, OnceLock};

use jaq_core::load::{self, Arena, File, Loader, lex, parse};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::Val;
use serde_json::Value;

use crate::{Fault, Timestamp};
use budget::Budget;
use direct::Direct;
use fields::Fields;
use library::{Bounds, Engine, Needed};
use metered::Metered;
use value::to_jq;

/// The function a rewritten expression stands in.
const MAIN: &str = "main__";

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
    compiled: OnceLock<Result<Compiled, String>>,
    /// The variables it mentions, without their `$`, in the order the program takes them.
    variables: Vec<String>,
}

/// A program of jq.
struct Compiled {
    filter: Filter<Engine>,
    /// How many terms the expression has, and how many of them may build a level of nesting.
    terms: u32,
    builders: u32,
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
        let direct = term.as_ref().and_then(|term| Direct::of(term, &scope));
        let fields = term.as_ref().and_then(Fields::of);
        term.iter().try_for_each(depth::chains)?;
        let (source, compiled) = (source.to_owned(), OnceLock::new());
        let program = Program { source, direct, fields, compiled, variables };
        match (&program.direct, &term) {
            // What is simple is compiled when it first takes jq, which then must not refuse it.
            (Some(_), Some(term)) => depth::check(term)?,
            _ => drop(program.compiled()?),
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
        let Compiled { filter, terms, builders } = program.compiled().map_err(fail)?;
        let budget = Budget::new(*terms, *builders);
        let bounds = Bounds { lut: &filter.lut, now: variables.now(), budget: &budget };
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
                Ok(error) => Excerpt::of(&error),
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
    fn compiled(&self) -> Result<&Compiled, String> {
        self.compiled.get_or_init(|| compile(&self.source, &self.variables)).as_ref().map_err(String::clone)
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
fn compile(source: &str, variables: &[String]) -> Result<Compiled, String> {
    let variables: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();
    let term = parse_term(source).ok_or_else(|| why_not(source))?;
    recursion::refuse(&term)?;
    let Metered { term, terms, builders } = metered::expression(term);
    depth::check(&term)?;
    let needed = Needed::by(&term, MAIN)?;
    let main = parse::Def { name: MAIN, args: Vec::new(), body: term };
    let arena = Arena::default();
    let modules = Loader::new(needed.definitions().into_iter().chain([main]))
        .load(&arena, File { code: MAIN, path: () })
        .map_err(|errors| errors.first().map_or_else(String::new, |(_, error)| syntax(error)))?;
    let filter = Compiler::default()
        .with_funs(needed.functions())
        .with_global_vars(variables.iter().map(String::as_str))
        .compile(modules)
        .map_err(|errors| undefined(&errors))?;
    Ok(Compiled { filter, terms, builders })
}

/// Finds out why an expression cannot be read.
fn why_not(source: &str) -> String {
    let arena = Arena::default();
    match Loader::new([]).load(&arena, File { code: source, path: () }) {
        Ok(_) => "it must be one expression".to_owned(),
        Err(errors) => errors.first().map_or_else(String::new, |(_, error)| syntax(error)),
    }
}

/// The beginning of a message: one about a large value would be as large.
struct Excerpt(String);

impl Excerpt {
    const MAX: usize = 500;

    fn of(message: &impl fmt::Display) -> String {
        let mut excerpt = Self(String::new());
        // It stops early on purpose.
        let _ = write!(excerpt, "{message}");
        excerpt.0
    }
}

impl Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.chars().take(Self::MAX - self.0.chars().count()));
        if self.0.chars().count() < Self::MAX { Ok(()) } else { Err(fmt::Error) }
    }
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
mod deep;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
