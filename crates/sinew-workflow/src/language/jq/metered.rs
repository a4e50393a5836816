//! Rewrites an expression so that everything in it that can go on, grow or nest asks a gauge first.
//!
//! jaq bounds nothing itself, but its syntax tree can be changed before it is compiled: `.[]` becomes `.[] | counted`,
//! `a + b` becomes `(a + b) | glanced`, and so on, in the expression and in the library alike. What is simple enough to
//! be harmless stays as it is.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

/// Native functions that look at all of their input.
const LOOKING: &[&str] = &[
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "tobytes",
    "reverse",
    "key_values",
    "keys_unsorted",
    "length",
    "utf8bytelength",
    "ascii_downcase",
    "ascii_upcase",
    "trim",
    "ltrim",
    "rtrim",
    "ltrimstr",
    "rtrimstr",
    "startswith",
    "endswith",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    "bsearch",
    "has",
    "strptime",
    "strftime",
    "mktime",
    "gmtime",
    "fromdateiso8601",
    "todateiso8601",
];
/// Native functions that compile a regular expression.
const SEARCHING: &[&str] = &["matches", "split_matches", "split_"];
/// Native functions that compare each part of their input with each part of their argument.
const COMPARING: &[&str] = &["contains", "indices"];
/// Functions of the library whose loops build nesting.
const BUILDING: &[&str] = &["pick", "getpath"];
/// The variable an operand is kept in.
const OPERAND: &str = "$__operand__";
/// How much a simple expression may multiply its data.
const HARMLESS: u64 = 64;
/// How many parts of a text, or entries of an object, jaq may chain.
const CHAINED: usize = 16;
/// How many terms a simple expression has at most.
const SIMPLE: u32 = 200;

type Boxed<'s> = Box<Term<&'s str>>;

/// An expression that asks before it goes on, and what is known of its size.
pub(super) struct Metered<'s> {
    pub(super) term: Term<&'s str>,
    /// How many terms it has.
    pub(super) terms: u32,
    /// How many of them may build a level of nesting.
    pub(super) builders: u32,
}

/// Rewrites an expression.
pub(super) fn expression(term: Term<&str>) -> Metered<'_> {
    let mut count = Count::default();
    count.term(&term);
    let Count { terms, builders, names } = count;
    let is_simple = terms <= SIMPLE && growth(&term).is_some_and(|growth| growth <= HARMLESS);
    let term = if is_simple { term } else { Meter { names, turns: true }.term(term) };
    Metered { term, terms, builders }
}

/// Rewrites a function of the library.
pub(super) fn definition(def: Def<&'static str>) -> Def<&'static str> {
    let meter = Meter { names: Vec::new(), turns: BUILDING.contains(&def.name) };
    Def { body: meter.term(def.body), ..def }
}

/// Returns how many times the size of its data a simple expression may produce; none when it is not simple.
fn growth(term: &Term<&str>) -> Option<u64> {
    let all = |mut terms: Vec<&Term<&str>>| {
        terms.drain(..).try_fold(0_u64, |sum, term| sum.checked_add(growth(term)?))
    };
    Some(match term {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Arr(None) => 1,
        Term::Str(_, parts) if parts.len() <= CHAINED => {
            1 + parts.iter().try_fold(0_u64, |sum, part| match part {
                StrPart::Term(term) => Some(sum + growth(term)?),
                _ => Some(sum),
            })?
        }
        Term::Arr(Some(inner)) => growth(inner)?,
        Term::Obj(entries) if entries.len() <= CHAINED => {
            let keys = entries.iter().map(|(key, _)| key);
            all(keys.chain(entries.iter().filter_map(|(_, value)| value.as_ref())).collect())?.max(1)
        }
        Term::Neg(inner) => growth(inner)?,
        Term::BinOp(left, operator, right) => {
            let (left, right) = (growth(left)?, growth(right)?);
            match operator {
                BinaryOp::Pipe(None) => left.checked_mul(right)?,
                BinaryOp::Alt | BinaryOp::And | BinaryOp::Or | BinaryOp::Cmp(_) => left.max(right),
                BinaryOp::Math(Math::Add | Math::Sub) => left + right,
                _ => return None,
            }
        }
        Term::IfThenElse(cases, otherwise) => {
            let branches = cases.iter().flat_map(|(condition, then)| [condition, then]);
            all(branches.chain(otherwise.as_deref()).collect())?
        }
        Term::Path(base, Path(parts)) => {
            let mut growths = growth(base)?;
            for (part, _) in parts {
                match part {
                    Part::Index(index) => growths = growths.max(growth(index)?),
                    Part::Range(None, None) => return None,
                    Part::Range(from, to) => {
                        for bound in [from, to].into_iter().flatten() {
                            growths = growths.max(growth(bound)?);
                        }
                    }
                }
            }
            growths
        }
        _ => return None,
    })
}

/// What stands in an expression.
#[derive(Default)]
struct Count<'s> {
    terms: u32,
    builders: u32,
    /// The functions it defines, and those they take: calling one may multiply work without any loop.
    names: Vec<&'s str>,
}

impl<'s> Count<'s> {
    fn term(&mut self, term: &Term<&'s str>) {
        self.terms += 1;
        match term {
            Term::Arr(_) | Term::Obj(_) | Term::Call(..) => self.builders += 1,
            Term::BinOp(
                _,
                BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt,
                _,
            ) => {
                self.builders += 1;
            }
            Term::Def(defs, _) => defs.iter().for_each(|def| {
                self.names.push(def.name);
                self.names.extend(def.args.iter().map(|name| name.trim_start_matches('$')));
            }),
            _ => {}
        }
        each(term, &mut |inner| self.term(inner));
    }
}

/// Visits the terms directly inside a term.
pub(super) fn each<'t, 's>(term: &'t Term<&'s str>, visit: &mut dyn FnMut(&'t Term<&'s str>)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
        Term::Str(_, parts) => parts.iter().for_each(|part| {
            if let StrPart::Term(term) = part {
                visit(term);
            }
        }),
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => visit(inner),
        Term::Obj(entries) => entries.iter().for_each(|(key, value)| {
            visit(key);
            value.iter().for_each(&mut *visit);
        }),
        Term::BinOp(left, operator, right) => {
            visit(left);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                each_of_pattern(pattern, visit);
            }
            visit(right);
        }
        Term::Fold(_, source, pattern, rest) => {
            visit(source);
            each_of_pattern(pattern, visit);
            rest.iter().for_each(visit);
        }
        Term::TryCatch(body, handler) => {
            visit(body);
            handler.as_deref().into_iter().for_each(visit);
        }
        Term::IfThenElse(cases, otherwise) => {
            cases.iter().for_each(|(condition, then)| [condition, then].into_iter().for_each(&mut *visit));
            otherwise.as_deref().into_iter().for_each(visit);
        }
        Term::Def(defs, rest) => {
            defs.iter().for_each(|def| visit(&def.body));
            visit(rest);
        }
        Term::Call(_, arguments) => arguments.iter().for_each(visit),
        Term::Path(base, Path(parts)) => {
            visit(base);
            parts.iter().for_each(|(part, _)| match part {
                Part::Index(index) => visit(index),
                Part::Range(from, to) => [from, to].into_iter().flatten().for_each(&mut *visit),
            });
        }
    }
}

fn each_of_pattern<'t, 's>(pattern: &'t Pattern<&'s str>, visit: &mut dyn FnMut(&'t Term<&'s str>)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(inner) => inner.iter().for_each(|pattern| each_of_pattern(pattern, visit)),
        Pattern::Obj(entries) => entries.iter().for_each(|(key, pattern)| {
            visit(key);
            each_of_pattern(pattern, visit);
        }),
    }
}

/// Puts the gauges in.
struct Meter<'s> {
    names: Vec<&'s str>,
    /// Whether `reduce` and `foreach` are looked at for how deep they build.
    turns: bool,
}

impl<'s> Meter<'s> {
    fn term(&self, term: Term<&'s str>) -> Term<&'s str> {
        match term {
            Term::Recurse => pipe(Term::Recurse, call("counted")),
            Term::Str(format, parts) => self.text(format, parts),
            Term::Arr(Some(inner)) => pipe(Term::Arr(Some(self.boxed(inner))), call("weighed")),
            Term::Obj(entries) if !entries.is_empty() => {
                let entries = entries.into_iter().map(|(key, value)| match value {
                    // `{ a }` is short for `{ a: .a }`, and only some keys are written so.
                    None => (key, None),
                    Some(value) => (self.term(key), Some(self.term(value))),
                });
                pipe(assembled(entries.collect()), call("weighed"))
            }
            Term::Neg(inner) => Term::Neg(self.boxed(inner)),
            Term::Label(name, inner) => Term::Label(name, self.boxed(inner)),
            Term::BinOp(left, operator, right) => self.binary(left, operator, right),
            Term::Fold(name, source, pattern, rest) => self.fold(name, source, pattern, rest),
            Term::TryCatch(body, handler) => {
                Term::TryCatch(self.boxed(body), handler.map(|handler| self.boxed(handler)))
            }
            Term::IfThenElse(cases, otherwise) => {
                let cases =
                    cases.into_iter().map(|(condition, then)| (self.term(condition), self.term(then)));
                Term::IfThenElse(cases.collect(), otherwise.map(|otherwise| self.boxed(otherwise)))
            }
            Term::Def(defs, rest) => {
                let defs = defs.into_iter().map(|def| Def { body: self.term(def.body), ..def });
                Term::Def(defs.collect(), self.boxed(rest))
            }
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Path(base, path) => self.path(base, path),
            Term::Id | Term::Arr(None) | Term::Obj(_) | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
        }
    }

    #[allow(clippy::boxed_local, reason = "the tree is made of boxes")]
    fn boxed(&self, term: Boxed<'s>) -> Boxed<'s> {
        Box::new(self.term(*term))
    }

    /// Text is put together of halves: with several values in it, it may grow by each, and jaq would chain its parts.
    fn text(&self, format: Option<&'s str>, parts: Vec<StrPart<&'s str, Term<&'s str>>>) -> Term<&'s str> {
        let metered = parts.into_iter().map(|part| match part {
            StrPart::Term(term) => StrPart::Term(self.term(term)),
            other => other,
        });
        halved(format, metered.collect())
    }

    fn binary(&self, left: Boxed<'s>, operator: BinaryOp<&'s str>, right: Boxed<'s>) -> Term<&'s str> {
        let short = |term: &Term<&str>| matches!(term, Term::Num(_) | Term::Arr(None)) || is_word(term);
        match operator {
            BinaryOp::Comma => pipe(self.comma(left, right), call("counted")),
            BinaryOp::Math(Math::Mul) => Term::Call("times", vec![self.term(*left), self.term(*right)]),
            BinaryOp::Math(Math::Add)
                if !matches!(*left, Term::Num(_)) && !matches!(*right, Term::Num(_)) =>
            {
                let sum = Term::BinOp(self.boxed(left), operator, self.boxed(right));
                pipe(sum, call("glanced"))
            }
            BinaryOp::Math(Math::Sub | Math::Div) | BinaryOp::Cmp(_) if !short(&left) && !short(&right) => {
                let gauge = if matches!(operator, BinaryOp::Math(Math::Div)) { "cut" } else { "weighed" };
                let weighed = |term| Box::new(pipe(self.term(term), call(gauge)));
                Term::BinOp(weighed(*left), operator, weighed(*right))
            }
            BinaryOp::UpdateMath(math) => {
                let sum = Term::BinOp(Box::new(Term::Id), BinaryOp::Math(math), Box::new(Term::Var(OPERAND)));
                let update = Term::BinOp(self.boxed(left), BinaryOp::Update, Box::new(self.term(sum)));
                bind(self.term(*right), update)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let pattern = BinaryOp::Pipe(Some(self.pattern(pattern)));
                Term::BinOp(self.boxed(left), pattern, self.boxed(right))
            }
            other => Term::BinOp(self.boxed(left), other, self.boxed(right)),
        }
    }

    /// A list of alternatives is counted once, however it nests.
    #[allow(clippy::boxed_local, reason = "the tree is made of boxes")]
    fn comma(&self, left: Boxed<'s>, right: Boxed<'s>) -> Term<&'s str> {
        let inner = |term: Term<&'s str>| match term {
            Term::BinOp(left, BinaryOp::Comma, right) => self.comma(left, right),
            other => self.term(other),
        };
        Term::BinOp(Box::new(inner(*left)), BinaryOp::Comma, Box::new(inner(*right)))
    }

    fn fold(
        &self,
        name: &'s str,
        source: Boxed<'s>,
        pattern: Pattern<&'s str>,
        rest: Vec<Term<&'s str>>,
    ) -> Term<&'s str> {
        let is_update = |at: usize| at == 1 && self.turns;
        let rest = rest.into_iter().enumerate().map(|(at, term)| match self.term(term) {
            update if is_update(at) => pipe(update, call("turned")),
            other => other,
        });
        Term::Fold(name, self.boxed(source), self.pattern(pattern), rest.collect())
    }

    fn pattern(&self, pattern: Pattern<&'s str>) -> Pattern<&'s str> {
        match pattern {
            Pattern::Var(name) => Pattern::Var(name),
            Pattern::Arr(inner) => Pattern::Arr(inner.into_iter().map(|inner| self.pattern(inner)).collect()),
            Pattern::Obj(entries) => {
                let entries =
                    entries.into_iter().map(|(key, pattern)| (self.term(key), self.pattern(pattern)));
                Pattern::Obj(entries.collect())
            }
        }
    }

    fn call(&self, name: &'s str, arguments: Vec<Term<&'s str>>) -> Term<&'s str> {
        let mut arguments: Vec<Term<&str>> = arguments.into_iter().map(|term| self.term(term)).collect();
        if self.names.contains(&name) {
            return pipe(call("counted"), Term::Call(name, arguments));
        }
        match name {
            _ if LOOKING.contains(&name) => pipe(call("weighed"), Term::Call(name, arguments)),
            _ if SEARCHING.contains(&name) => pipe(call("searched"), Term::Call(name, arguments)),
            _ if COMPARING.contains(&name) && arguments.len() == 1 => {
                let kept = || vec![Term::Var(OPERAND)];
                bind(arguments.remove(0), pipe(Term::Call("compared", kept()), Term::Call(name, kept())))
            }
            "explode" | "implode" | "tojson" => pipe(call("cut"), Term::Call(name, arguments)),
            "fromjson" => pipe(pipe(call("flat"), call("weighed")), Term::Call(name, arguments)),
            "getpath" if arguments.len() == 1 => {
                Term::Call(name, arguments.into_iter().map(|path| pipe(path, call("short"))).collect())
            }
            _ => Term::Call(name, arguments),
        }
    }

    /// Counts what `.[]` yields wherever it stands in a path. What is computed further right in the path still sees the
    /// data at its beginning.
    fn path(&self, base: Boxed<'s>, Path(parts): Path<Term<&'s str>>) -> Term<&'s str> {
        let base = self.boxed(base);
        let each = |part: &Part<Term<&str>>| matches!(part, Part::Range(None, None));
        let Some(at) = parts.iter().position(|(part, _)| each(part)) else {
            let parts = parts.into_iter().map(|(part, opt)| (self.part(part, None), opt));
            return Term::Path(base, Path(parts.collect()));
        };
        let mut parts = parts;
        let rest = parts.split_off(at + 1);
        let computed = rest.iter().any(|(part, _)| is_computed(part));
        let kept = computed.then_some(OPERAND);
        let first = parts.into_iter().map(|(part, opt)| (self.part(part, None), opt)).collect();
        let mut term = pipe(Term::Path(base, Path(first)), call("counted"));
        let mut open = Vec::new();
        for (part, opt) in rest {
            let is_each = each(&part);
            open.push((self.part(part, kept), opt));
            if is_each {
                term = pipe(
                    term,
                    pipe(Term::Path(Box::new(Term::Id), Path(std::mem::take(&mut open))), call("counted")),
                );
            }
        }
        if !open.is_empty() {
            term = pipe(term, Term::Path(Box::new(Term::Id), Path(open)));
        }
        if computed { bind(Term::Id, term) } else { term }
    }

    fn part(&self, part: Part<Term<&'s str>>, kept: Option<&'s str>) -> Part<Term<&'s str>> {
        let place = |term: Term<&'s str>| match (self.term(term), kept) {
            (term, Some(data)) if is_computed_term(&term) => pipe(Term::Var(data), term),
            (term, _) => term,
        };
        match part {
            Part::Index(index) => Part::Index(place(index)),
            Part::Range(from, to) => Part::Range(from.map(place), to.map(place)),
        }
    }
}

/// Makes a text whose parts are metered already.
fn halved<'s>(format: Option<&'s str>, mut parts: Vec<StrPart<&'s str, Term<&'s str>>>) -> Term<&'s str> {
    let inserted = parts.iter().filter(|part| matches!(part, StrPart::Term(_))).count();
    if inserted < 2 && parts.len() <= CHAINED {
        let text = Term::Str(format, parts);
        return if inserted == 0 { text } else { pipe(text, call("glanced")) };
    }
    let right = parts.split_off(parts.len() / 2);
    pipe(sum(halved(format, parts), halved(format, right)), call("glanced"))
}

/// Makes an object whose entries are metered already. Its halves come together as jaq would chain them.
fn assembled<'s>(mut entries: Vec<(Term<&'s str>, Option<Term<&'s str>>)>) -> Term<&'s str> {
    if entries.len() <= CHAINED {
        return Term::Obj(entries);
    }
    let right = entries.split_off(entries.len() / 2);
    sum(assembled(entries), assembled(right))
}

fn is_computed(part: &Part<Term<&str>>) -> bool {
    match part {
        Part::Index(index) => is_computed_term(index),
        Part::Range(from, to) => [from, to].into_iter().flatten().any(is_computed_term),
    }
}

fn is_computed_term(term: &Term<&str>) -> bool {
    !matches!(term, Term::Num(_) | Term::Var(_)) && !is_word(term)
}

/// Says whether a term is text and nothing but.
fn is_word(term: &Term<&str>) -> bool {
    matches!(term, Term::Str(_, _)) && !has_terms(term)
}

fn has_terms(term: &Term<&str>) -> bool {
    matches!(term, Term::Str(_, parts) if parts.iter().any(|part| matches!(part, StrPart::Term(_))))
}

#[allow(clippy::needless_lifetimes, reason = "both sides borrow from the same source")]
fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

fn sum<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Math(Math::Add), Box::new(right))
}

/// Keeps a value in the variable for operands while something else runs.
fn bind<'s>(value: Term<&'s str>, body: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(value), BinaryOp::Pipe(Some(Pattern::Var(OPERAND))), Box::new(body))
}

fn call(name: &str) -> Term<&str> {
    Term::Call(name, Vec::new())
}
