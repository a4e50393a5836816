//! `#[derive(Problem)]`: an enum of declared errors, read and checked. Knows the declaration, not the code for it.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Data, DataEnum, DeriveInput, GenericArgument, Ident, LitInt, LitStr, PathArguments, Type, Variant,
    ext::IdentExt, spanned::Spanned,
};

use crate::{
    attributes::{self, Mistakes},
    name,
};

mod expansion;

/// A checked enum of errors.
struct Problem {
    ident: Ident,
    declared: Vec<Declared>,
    /// The variant that carries problems declared elsewhere.
    transparent: Option<Ident>,
}

/// A variant that is one problem of its own.
struct Declared {
    ident: Ident,
    status: u16,
    code: String,
    title: String,
    retry: bool,
    data: Members,
}

/// What a variant holds and where it stands in the problem.
enum Members {
    None,
    /// One unnamed `String`: the problem's detail.
    Detail,
    /// Named fields: extension members, except a `detail`.
    Named(Vec<Ident>),
}

/// What stands in `#[problem(..)]`, before anything is checked.
#[derive(Default)]
struct Keys {
    status: Option<LitInt>,
    code: Option<LitStr>,
    title: Option<LitStr>,
    retry: bool,
    transparent: bool,
}

const KEYS: [&str; 5] = ["status", "code", "title", "retry", "transparent"];
const DETAIL: &str = "detail";
/// Members every problem has: an extension of the same name would stand twice in the body.
const MEMBERS: [&str; 6] = ["type", "title", "status", "code", "instance", "retry"];

/// Implements `ServiceError`, `Display` and `Error` for the enum in `input`.
pub(crate) fn expand(input: DeriveInput) -> syn::Result<TokenStream> {
    Problem::read(input).map(|problem| problem.to_token_stream())
}

impl Problem {
    fn read(input: DeriveInput) -> syn::Result<Self> {
        let Data::Enum(data) = &input.data else {
            let message = "the errors of a service are an enum: write one variant for each of them";
            return Err(syn::Error::new(input.ident.span(), message));
        };
        let mut mistakes = Mistakes::default();
        attributes::refuse_generics(&input.generics, "a declared error", &mut mistakes);
        let mut problem = Self { ident: input.ident, declared: Vec::new(), transparent: None };
        problem.read_variants(data, &mut mistakes);
        mistakes.finish(problem)
    }

    fn read_variants(&mut self, data: &DataEnum, mistakes: &mut Mistakes) {
        for variant in &data.variants {
            let Some(keys) = mistakes.check(Keys::read(variant)) else { continue };
            if keys.transparent {
                let Some(ident) = mistakes.check(transparent(variant, &keys)) else { continue };
                if let Some(first) = self.transparent.replace(ident) {
                    let message = format!("`{first}` is transparent already: leave one such variant");
                    mistakes.at(variant.ident.span(), message);
                }
            } else if let Some(declared) = Declared::read(variant, &keys, mistakes) {
                if let Some(first) = self.declared.iter().find(|other| other.code == declared.code) {
                    let place = keys.code.as_ref().map_or(variant.ident.span(), LitStr::span);
                    let message = format!(
                        "the code {:?} belongs to `{}` already: callers tell errors apart by code, choose another",
                        declared.code, first.ident
                    );
                    mistakes.at(place, message);
                }
                self.declared.push(declared);
            }
        }
    }
}

impl Keys {
    fn read(variant: &Variant) -> syn::Result<Self> {
        if !variant.attrs.iter().any(|attribute| attribute.path().is_ident("problem")) {
            let message = format!("`{}` says no status: add #[problem(status = 409)]", variant.ident);
            return Err(syn::Error::new(variant.ident.span(), message));
        }
        let mut keys = Self::default();
        attributes::each_key(&variant.attrs, "problem", |key, meta| match key {
            "status" => attributes::set(&mut keys.status, meta),
            "code" => attributes::set(&mut keys.code, meta),
            "title" => attributes::set(&mut keys.title, meta),
            "retry" => attributes::raise(&mut keys.retry, meta),
            "transparent" => attributes::raise(&mut keys.transparent, meta),
            _ => Err(attributes::unknown(meta, &KEYS)),
        })?;
        Ok(keys)
    }
}

impl Declared {
    fn read(variant: &Variant, keys: &Keys, mistakes: &mut Mistakes) -> Option<Self> {
        let status = match &keys.status {
            Some(literal) => mistakes.check(failure(literal)),
            None => {
                let place = attributes::span_of(&variant.attrs, "problem", variant.ident.span());
                mistakes.at(
                    place,
                    "`status` is missing: add `status = 409`, or `transparent` to carry any problem",
                );
                None
            }
        };
        let code = match &keys.code {
            Some(literal) => mistakes.check(code(literal)),
            None => Some(name::words(&variant.ident.to_string()).join("-")),
        };
        let data = mistakes.check(Members::read(variant));
        Some(Self {
            ident: variant.ident.clone(),
            status: status?,
            code: code?,
            title: keys.title.as_ref().map_or_else(|| title(variant), LitStr::value),
            retry: keys.retry,
            data: data?,
        })
    }
}

impl Members {
    fn read(variant: &Variant) -> syn::Result<Self> {
        match &variant.fields {
            syn::Fields::Unit => Ok(Self::None),
            syn::Fields::Unnamed(fields) => match fields.unnamed.first() {
                Some(field) if fields.unnamed.len() == 1 && is_named(&field.ty, "String") => Ok(Self::Detail),
                _ => {
                    let message = "unnamed data is one `String`, the detail: name the fields to send more";
                    Err(syn::Error::new(fields.span(), message))
                }
            },
            syn::Fields::Named(fields) => {
                let named = fields.named.iter().filter_map(|field| Some((field.ident.clone()?, &field.ty)));
                named
                    .map(|(ident, ty)| check_member(&ident, ty).map(|()| ident))
                    .collect::<syn::Result<_>>()
                    .map(Self::Named)
            }
        }
    }
}

fn transparent(variant: &Variant, keys: &Keys) -> syn::Result<Ident> {
    if keys.status.is_some() || keys.code.is_some() || keys.title.is_some() || keys.retry {
        let place = attributes::span_of(&variant.attrs, "problem", variant.ident.span());
        return Err(syn::Error::new(
            place,
            "`transparent` stands alone: the problem inside says all the rest",
        ));
    }
    match &variant.fields {
        syn::Fields::Unnamed(fields) if fields.unnamed.len() == 1 && is_problem(&fields.unnamed[0].ty) => {
            Ok(variant.ident.clone())
        }
        _ => {
            let message =
                format!("a transparent variant holds a problem: write `{}(sinew::Problem)`", variant.ident);
            Err(syn::Error::new(variant.ident.span(), message))
        }
    }
}

fn failure(literal: &LitInt) -> syn::Result<u16> {
    match literal.base10_parse::<u16>() {
        Ok(status @ 400..=599) => Ok(status),
        _ => Err(syn::Error::new(literal.span(), "`status` is the status of an error: use 400 to 599")),
    }
}

fn code(literal: &LitStr) -> syn::Result<String> {
    let code = literal.value();
    if name::is_kebab(&code) {
        return Ok(code);
    }
    let message = format!("{code:?} is no code: use lower case words and hyphens, such as \"out-of-stock\"");
    Err(syn::Error::new(literal.span(), message))
}

fn title(variant: &Variant) -> String {
    let documented = attributes::first_paragraph(&variant.attrs);
    if documented.is_empty() {
        return name::words(&variant.ident.to_string()).join(" ");
    }
    // A title is continued with ": detail" when it is shown.
    documented.trim_end_matches('.').to_owned()
}

fn check_member(ident: &Ident, ty: &Type) -> syn::Result<()> {
    let name = ident.unraw().to_string();
    if MEMBERS.contains(&name.as_str()) {
        let message = format!("every problem has a member `{name}` of its own: give the field another name");
        return Err(syn::Error::new(ident.span(), message));
    }
    if name == DETAIL && !is_named(ty, "String") {
        let message =
            "`detail` is the problem's text for people: make it a `String`, or give it another name";
        return Err(syn::Error::new(ty.span(), message));
    }
    Ok(())
}

/// Says whether `ty` is `Problem` or `Box<Problem>`.
fn is_problem(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    match path.path.segments.last().map(|last| (&last.ident, &last.arguments)) {
        Some((name, PathArguments::AngleBracketed(boxed))) if name == "Box" => {
            matches!(boxed.args.first(), Some(GenericArgument::Type(inner)) if is_named(inner, "Problem"))
        }
        _ => is_named(ty, "Problem"),
    }
}

/// Says whether `ty` is a path that ends in `name`; a macro cannot look through an alias.
fn is_named(ty: &Type, name: &str) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == name && last.arguments.is_none())
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn read(input: DeriveInput) -> Result<Problem, Vec<String>> {
        Problem::read(input)
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.to_string()).collect())
    }

    #[test]
    fn code_and_title_have_defaults() {
        let problem = read(parse_quote! {
            enum OrderError {
                #[problem(status = 409)]
                OutOfStock,
                /// The shop is closed.
                ///
                /// It opens at nine.
                #[problem(status = 503, code = "closed", retry)]
                ShopClosed(String),
                #[problem(transparent)]
                Other(Box<sinew::Problem>),
            }
        });
        let problem = problem.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let texts = problem.declared.iter().map(|one| (one.code.as_str(), one.title.as_str(), one.retry));
        let expected = [("out-of-stock", "out of stock", false), ("closed", "The shop is closed", true)];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
        assert_eq!(problem.transparent.unwrap(), "Other");
    }

    #[test]
    fn every_mistake_of_an_enum_is_reported_at_once() {
        let mistakes = read(parse_quote! {
            enum OrderError<T> {
                Plain,
                #[problem(status = 200, code = "Bad Code")]
                Status,
                #[problem(code = "x")]
                NoStatus,
                #[problem(status = 400, code = "same")]
                A,
                #[problem(status = 400, code = "same")]
                B,
                #[problem(status = 400)]
                Tuple(u32),
                #[problem(status = 400)]
                Member { r#type: String },
                #[problem(status = 400)]
                Text { detail: u32 },
                #[problem(transparent, retry)]
                Mixed(Problem),
                #[problem(transparent)]
                Empty,
                #[problem(transparent)]
                List(Vec<Problem>),
                #[problem(transparent)]
                One(Problem),
                #[problem(transparent)]
                Two(Problem),
            }
        });
        let mistakes = mistakes.err().unwrap();
        let expected = [
            "generic parameters",
            "`Plain` says no status",
            "use 400 to 599",
            "is no code",
            "`status` is missing",
            "belongs to `A` already",
            "one `String`",
            "member `type` of its own",
            "make it a `String`",
            "stands alone",
            "write `Empty(sinew::Problem)`",
            "write `List(sinew::Problem)`",
            "`One` is transparent already",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(expected), "{mistake}");
        }
    }
}
