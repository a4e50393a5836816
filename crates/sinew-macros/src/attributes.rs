//! Attributes and doc comments as the derives read them. Knows their syntax, not what the keys mean.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{
    Attribute, Expr, ExprLit, Generics, Lit, Meta, Token, meta::ParseNestedMeta, parse::Parse,
    spanned::Spanned,
};

/// Collects mistakes, so that one compilation shows them all.
#[derive(Default)]
pub(crate) struct Mistakes(Option<syn::Error>);

impl Mistakes {
    /// Notes a mistake.
    pub(crate) fn note(&mut self, mistake: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(mistake),
            None => self.0 = Some(mistake),
        }
    }

    /// Notes a mistake at `span`.
    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.note(syn::Error::new(span, message));
    }

    /// Returns the value, or notes why there is none.
    pub(crate) fn check<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|mistake| self.note(mistake)).ok()
    }

    /// Returns `value` unless there was a mistake.
    pub(crate) fn finish<T>(self, value: T) -> syn::Result<T> {
        match self.0 {
            Some(mistakes) => Err(mistakes),
            None => Ok(value),
        }
    }
}

/// Goes through every key in the attributes called `name`, with the key as text.
pub(crate) fn each_key(
    attributes: &[Attribute],
    name: &str,
    mut visit: impl FnMut(&str, &ParseNestedMeta<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        attribute.parse_nested_meta(|meta| visit(&key_of(&meta), &meta))?;
    }
    Ok(())
}

/// Returns the place to point at when a key is missing: the attribute, or `otherwise` where there is none.
pub(crate) fn span_of(attributes: &[Attribute], name: &str, otherwise: Span) -> Span {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident(name));
    attribute.map_or(otherwise, |attribute| attribute.path().span())
}

/// Reads the value of a key into `slot`.
pub(crate) fn set<T: Parse>(slot: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    let key = key_of(meta);
    if slot.is_some() {
        return Err(meta.error(format!("`{key}` is given twice: remove one of the two")));
    }
    if !meta.input.peek(Token![=]) {
        return Err(meta.error(format!("`{key}` needs a value: write `{key} = ..`")));
    }
    *slot = Some(meta.value()?.parse()?);
    Ok(())
}

/// Notes that a key without value is there.
pub(crate) fn raise(flag: &mut bool, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        let key = key_of(meta);
        return Err(meta.error(format!("`{key}` takes no value: write `{key}` alone, or leave it out")));
    }
    *flag = true;
    Ok(())
}

/// Refuses a key, with a suggestion where one is near and the list of known keys where none is.
pub(crate) fn unknown(meta: &ParseNestedMeta<'_>, known: &[&str]) -> syn::Error {
    let key = key_of(meta);
    let hint = match nearest(&key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known keys: {}", known.join(", ")),
    };
    meta.error(format!("unknown key `{key}`: {hint}"))
}

/// Refuses generic parameters: a message has one shape, which the catalogue can show.
pub(crate) fn refuse_generics(generics: &Generics, what: &str, mistakes: &mut Mistakes) {
    for parameter in &generics.params {
        let remedy = match parameter {
            syn::GenericParam::Lifetime(_) => "own the data, for example `String` instead of `&'a str`",
            _ => "write one type for each shape, or put a JSON value where anything may stand",
        };
        mistakes.at(parameter.span(), format!("{what} cannot have generic parameters: {remedy}"));
    }
}

/// Returns the first paragraph of the documentation on one line; empty where there is none.
pub(crate) fn first_paragraph(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(doc_text).collect::<Vec<_>>().join("\n");
    let lines = lines.lines().map(str::trim).skip_while(|line| line.is_empty());
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns what makes the schema of `ty`, spanned so that a type without one is reported where it is named.
pub(crate) fn schema_of(ty: &(impl ToTokens + Spanned)) -> TokenStream {
    quote_spanned!(ty.span()=> ::sinew::__private::schema_of::<#ty>())
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("doc") => Some(text.value()),
        _ => None,
    }
}

fn key_of(meta: &ParseNestedMeta<'_>) -> String {
    let segments = meta.path.segments.iter().map(|segment| segment.ident.to_string());
    segments.collect::<Vec<_>>().join("::")
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(key, other);
    let near = known.iter().copied().min_by_key(|other| distance(other))?;
    (distance(&near) <= (key.len() / 3).max(1)).then_some(near)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_first_paragraph_is_joined_and_the_rest_left_out() {
        let item: syn::ItemStruct = parse_quote! {
            ///
            /// Places an
            ///   order.
            ///
            /// Not this.
            #[doc(hidden)]
            struct Place;
        };
        assert_eq!(first_paragraph(&item.attrs), "Places an order.");
        assert_eq!(first_paragraph(&[]), "");
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_nothing_else() {
        let known = ["subject", "reply", "error", "status"];
        assert_eq!(nearest("subejct", &known), Some("subject"));
        assert_eq!(nearest("replay", &known), Some("reply"));
        assert_eq!(nearest("timeout", &known), None);
    }

    #[test]
    fn all_mistakes_are_kept() {
        let mut mistakes = Mistakes::default();
        mistakes.at(Span::call_site(), "one");
        mistakes.at(Span::call_site(), "two");
        let texts = mistakes.finish(()).unwrap_err().into_iter().map(|e| e.to_string());
        assert_eq!(texts.collect::<Vec<_>>(), ["one", "two"]);
        assert!(Mistakes::default().finish(()).is_ok());
    }

    #[test]
    fn values_and_flags_are_told_apart() {
        let read = |attribute: Attribute| {
            let (mut text, mut flag) = (None::<syn::LitStr>, false);
            each_key(&[attribute], "sinew", |key, meta| match key {
                "text" => set(&mut text, meta),
                "flag" => raise(&mut flag, meta),
                _ => Err(unknown(meta, &["text", "flag"])),
            })
            .map(|()| (text.map(|text| text.value()), flag))
            .map_err(|mistake| mistake.to_string())
        };
        assert_eq!(read(parse_quote!(#[sinew(text = "a", flag)])), Ok((Some("a".into()), true)));
        assert_eq!(read(parse_quote!(#[other(text)])), Ok((None, false)));
        for (attribute, expected) in [
            (parse_quote!(#[sinew(text)]), "needs a value"),
            (parse_quote!(#[sinew(flag = true)]), "takes no value"),
            (parse_quote!(#[sinew(text = "a", text = "b")]), "given twice"),
            (parse_quote!(#[sinew(txet = "a")]), "did you mean `text`?"),
        ] {
            let message = read(attribute).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
