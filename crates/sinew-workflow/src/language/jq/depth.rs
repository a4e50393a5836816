//! Refuses expressions that would exhaust the stack when they are compiled or run: by their tree, with the functions they
//! call put in. Their text was [bounded](super::size) before it was parsed.

use std::sync::LazyLock;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::{Part, Path};

use super::{library, metered};

/// The deepest tree. A stack of 2 MiB holds half as much again in an unoptimized build.
const MAX_DEPTH: u32 = 200;
/// The longest path.
const MAX_PATH: usize = 100;
/// What a call adds, of which jaq makes several of its own.
const CALL: u32 = 2;

/// Refuses paths that are too long: jaq takes each step inside the one before.
pub(super) fn chains(term: &Term<&str>) -> Result<(), String> {
    let mut longest = 0;
    longest_path(term, &mut longest);
    if longest > MAX_PATH {
        return Err(format!("a path has at most {MAX_PATH} steps; split it"));
    }
    Ok(())
}

/// Refuses a tree that is too deep.
pub(super) fn check(term: &Term<&str>) -> Result<(), String> {
    if of(term) > MAX_DEPTH {
        return Err(
            "it nests, chains or calls too deep; split it, or move a part into a task of its own".to_owned()
        );
    }
    Ok(())
}

fn longest_path(term: &Term<&str>, longest: &mut usize) {
    if let Term::Path(_, Path(parts)) = term {
        *longest = parts.len().max(*longest);
    }
    metered::each(term, &mut |inner| longest_path(inner, longest));
}

fn of(term: &Term<&str>) -> u32 {
    Walk { library: &LIBRARY, known: Vec::new(), parameters: 0 }.term(term).own
}

/// How deep a term is, and how deep it calls the functions that are handed to the definition it stands in.
#[derive(Clone, Debug, Default, PartialEq)]
struct Depth {
    own: u32,
    calls: Vec<(usize, u32)>,
}

/// A function in scope.
struct Known<'s> {
    name: &'s str,
    arity: usize,
    what: Function,
}

enum Function {
    /// A parameter of a definition around, by its number.
    Parameter(usize),
    /// A definition, with the number of its first parameter.
    Defined(usize, Depth),
    /// A definition that calls itself. Only the library's do, and those loops are bounded when they run.
    Open,
}

/// The functions of the library, whose parameters count from 0.
static LIBRARY: LazyLock<Vec<Known<'static>>> = LazyLock::new(|| {
    let mut walk = Walk { library: &[], known: Vec::new(), parameters: 0 };
    library::definitions().for_each(|def| walk.define(def));
    walk.known
});

struct Walk<'s> {
    library: &'s [Known<'static>],
    known: Vec<Known<'s>>,
    /// How many parameters have been numbered.
    parameters: usize,
}

impl<'s> Walk<'s> {
    fn term(&mut self, term: &Term<&'s str>) -> Depth {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {
                Depth::default().plus(1)
            }
            Term::Str(_, parts) => {
                let terms = parts.iter().filter_map(|part| match part {
                    StrPart::Term(term) => Some(term),
                    StrPart::Str(_) | StrPart::Char(_) => None,
                });
                self.deepest(terms).plus(length(parts) + CALL)
            }
            Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => self.term(inner).plus(1),
            Term::Obj(entries) => {
                let terms = entries.iter().flat_map(|(key, value)| [Some(key), value.as_ref()]);
                self.deepest(terms.flatten()).plus(length(entries) + 1)
            }
            Term::BinOp(left, operator, right) => {
                let sides = self.deepest([&**left, right]);
                match operator {
                    BinaryOp::Pipe(Some(pattern)) => self.pattern(pattern).or(sides),
                    _ => sides,
                }
                .plus(1)
            }
            Term::Fold(_, source, pattern, rest) => {
                let terms = self.deepest(rest.iter().chain([&**source]));
                self.pattern(pattern).or(terms).plus(CALL)
            }
            Term::TryCatch(body, handler) => {
                self.deepest([&**body].into_iter().chain(handler.as_deref())).plus(1)
            }
            Term::IfThenElse(cases, otherwise) => {
                let terms = cases.iter().flat_map(|(condition, then)| [condition, then]);
                self.deepest(terms.chain(otherwise.as_deref())).plus(length(cases))
            }
            Term::Def(definitions, rest) => self.local(definitions, rest),
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Path(base, Path(parts)) => {
                let inner = parts.iter().flat_map(|(part, _)| match part {
                    Part::Index(index) => [Some(index), None],
                    Part::Range(from, to) => [from.as_ref(), to.as_ref()],
                });
                self.deepest(inner.flatten().chain([&**base])).plus(length(parts))
            }
        }
    }

    fn deepest<'t>(&mut self, terms: impl IntoIterator<Item = &'t Term<&'s str>>) -> Depth
    where
        's: 't,
    {
        terms.into_iter().fold(Depth::default(), |deepest, term| deepest.or(self.term(term)))
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>) -> Depth {
        match pattern {
            Pattern::Var(_) => Depth::default().plus(1),
            Pattern::Arr(inner) => {
                let depth = inner.iter().fold(Depth::default(), |depth, inner| depth.or(self.pattern(inner)));
                depth.plus(length(inner))
            }
            Pattern::Obj(entries) => {
                let depth = entries.iter().fold(Depth::default(), |depth, (key, pattern)| {
                    depth.or(self.term(key)).or(self.pattern(pattern))
                });
                depth.plus(length(entries))
            }
        }
    }

    fn local(&mut self, definitions: &[Def<&'s str>], rest: &Term<&'s str>) -> Depth {
        let before = self.known.len();
        let mut depth = Depth::default();
        for def in definitions {
            self.define(def);
            // What nobody calls is compiled all the same.
            if let Some(Known { what: Function::Defined(_, body), .. }) = self.known.last() {
                depth = depth.or(body.clone());
            }
        }
        let depth = depth.or(self.term(rest)).plus(length(definitions).min(CALL));
        self.known.truncate(before);
        depth
    }

    fn define(&mut self, def: &Def<&'s str>) {
        let (before, first) = (self.known.len(), self.parameters);
        let arity = def.args.len();
        self.known.push(Known { name: def.name, arity, what: Function::Open });
        for name in &def.args {
            let what = Function::Parameter(self.parameters);
            self.known.push(Known { name: name.trim_start_matches('$'), arity: 0, what });
            self.parameters += 1;
        }
        let body = self.term(&def.body);
        self.known.truncate(before);
        self.known.push(Known { name: def.name, arity, what: Function::Defined(first, body) });
    }

    fn call(&mut self, name: &str, arguments: &[Term<&'s str>]) -> Depth {
        let arguments: Vec<Depth> = arguments.iter().map(|argument| self.term(argument)).collect();
        let deepest =
            || arguments.iter().fold(Depth::default(), |deepest, argument| deepest.or(argument.clone()));
        let fits = |known: &&Known<'_>| known.name == name && known.arity == arguments.len();
        let found = self.known.iter().rev().find(fits).or_else(|| self.library.iter().rev().find(fits));
        match found.map(|known| &known.what) {
            Some(Function::Parameter(number)) => Depth { own: 1, calls: vec![(*number, 1)] },
            Some(Function::Defined(first, body)) => body.given(*first, &arguments).or(deepest()).plus(CALL),
            Some(Function::Open) | None => deepest().plus(CALL),
        }
    }
}

impl Depth {
    /// Puts it below so many levels.
    fn plus(mut self, levels: u32) -> Self {
        self.own = self.own.saturating_add(levels);
        self.calls.iter_mut().for_each(|(_, depth)| *depth = depth.saturating_add(levels));
        self
    }

    /// Puts it beside another.
    fn or(mut self, other: Self) -> Self {
        self.own = self.own.max(other.own);
        for (number, depth) in other.calls {
            match self.calls.iter_mut().find(|(known, _)| *known == number) {
                Some((_, deepest)) => *deepest = depth.max(*deepest),
                None => self.calls.push((number, depth)),
            }
        }
        self
    }

    /// Puts arguments in the place of parameters, which count from the first.
    fn given(&self, first: usize, arguments: &[Self]) -> Self {
        let own = Self { own: self.own, calls: Vec::new() };
        self.calls.iter().fold(own, |all, (number, depth)| {
            match number.checked_sub(first).and_then(|index| arguments.get(index)) {
                Some(argument) => all.or(argument.clone().plus(*depth)),
                None => all.or(Self { own: 0, calls: vec![(*number, *depth)] }),
            }
        })
    }
}

fn length<T>(parts: &[T]) -> u32 {
    u32::try_from(parts.len()).unwrap_or(u32::MAX)
}
