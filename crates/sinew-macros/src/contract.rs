//! `contract!`: a named set of operations, and a builder that knows in its type which of them have a handler.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Ident, LitStr, Token, Type, Visibility, braced,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::{attributes::Mistakes, name};

mod expansion;

/// A declared contract.
struct Contract {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    ident: Ident,
    service: LitStr,
    version: LitStr,
    operations: Vec<Operation>,
}

/// One operation: the builder's method and the request it answers.
struct Operation {
    attributes: Vec<Attribute>,
    method: Ident,
    word: Word,
    request: Type,
}

/// The word before the type of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// None: one request, one reply.
    None,
    /// `stream`: it is answered with a stream.
    Stream,
    /// `upload`: it comes with a stream.
    Upload,
}

mod word {
    syn::custom_keyword!(stream);
    syn::custom_keyword!(upload);
}

/// Methods the builder has anyway.
const TAKEN: [&str; 2] = ["unimplemented", "into_routes"];

/// Writes out the contract in `input`.
pub(crate) fn expand(input: Declaration) -> syn::Result<TokenStream> {
    let Declaration(contract) = input;
    contract.check()?;
    Ok(contract.to_token_stream())
}

/// A contract as it was written, not yet checked.
pub(crate) struct Declaration(Contract);

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let contract = Contract::read(input)?;
        if input.is_empty() {
            return Ok(Self(contract));
        }
        Err(input.error("one contract ends here: write another `contract!` for another service"))
    }
}

impl Contract {
    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let (attributes, visibility, ident) =
            (input.call(Attribute::parse_outer)?, input.parse()?, input.parse()?);
        input.parse::<Token![=]>()?;
        let service = input.parse()?;
        if !input.peek(Token![@]) {
            return Err(input.error("the version is missing: write `@ \"1.0.0\"` behind the service's name"));
        }
        input.parse::<Token![@]>()?;
        let version = input.parse()?;
        let inside;
        braced!(inside in input);
        let operations = Punctuated::<Operation, Token![,]>::parse_terminated(&inside)?;
        let operations = operations.into_iter().collect();
        Ok(Self { attributes, visibility, ident, service, version, operations })
    }

    fn check(&self) -> syn::Result<()> {
        let mut mistakes = Mistakes::default();
        mistakes.check(name::service(&self.service));
        let version = self.version.value();
        if !name::is_semantic_version(&version) {
            let message =
                format!("{version:?} is no semantic version: write major.minor.patch, such as \"1.0.0\"");
            mistakes.at(self.version.span(), message);
        }
        for (at, operation) in self.operations.iter().enumerate() {
            mistakes.check(operation.check(&self.operations[..at]));
        }
        mistakes.finish(())
    }
}

impl Operation {
    fn check(&self, before: &[Self]) -> syn::Result<()> {
        let method = self.method.unraw().to_string();
        let refuse = |message: String| Err(syn::Error::new(self.method.span(), message));
        if let Some(other) = self.attributes.iter().find(|attribute| !attribute.path().is_ident("doc")) {
            return Err(syn::Error::new(other.span(), "an operation takes no attributes but documentation"));
        }
        if TAKEN.contains(&method.as_str()) {
            return refuse(format!("the builder has a method `{method}` of its own: choose another name"));
        }
        if before.iter().any(|other| other.method == self.method) {
            return refuse(format!("operation `{method}` is listed twice: remove one of the two"));
        }
        Ok(())
    }
}

impl Parse for Operation {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let method: Ident = input.call(Ident::parse_any)?;
        if !input.peek(Token![:]) {
            let message = format!("the request type is missing: write `{method}: TheRequest`");
            return Err(syn::Error::new(method.span(), message));
        }
        input.parse::<Token![:]>()?;
        let word = Word::parse(input, &method)?;
        if word == Word::None && input.peek(Ident) && input.peek2(Ident) {
            return Err(input.error("only the words `stream` and `upload` may stand before a request type"));
        }
        Ok(Self { attributes, method, word, request: input.parse()? })
    }
}

impl Word {
    fn parse(input: ParseStream<'_>, method: &Ident) -> syn::Result<Self> {
        // `stream::Rows` is a type in a module of that name.
        let is_path = input.peek2(Token![::]);
        let (word, span) = if input.peek(word::stream) && !is_path {
            (Self::Stream, input.parse::<word::stream>()?.span)
        } else if input.peek(word::upload) && !is_path {
            (Self::Upload, input.parse::<word::upload>()?.span)
        } else {
            return Ok(Self::None);
        };
        if input.is_empty() || input.peek(Token![,]) {
            let word = if word == Self::Stream { "stream" } else { "upload" };
            let message = format!("the request type is missing: write `{method}: {word} TheRequest`");
            return Err(syn::Error::new(span, message));
        }
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Vec<String>> {
        let checked = syn::parse_str::<Declaration>(text).and_then(|declaration| declaration.0.check());
        checked.map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.to_string()).collect())
    }

    #[test]
    fn operations_end_with_or_without_a_comma() {
        assert_eq!(
            check(r#"#[doc = "."] pub Orders = "orders" @ "1.2.0" { place: Place, get: Get }"#),
            Ok(())
        );
        assert_eq!(check(r#"Orders = "orders" @ "1.2.0" { place: Place, }"#), Ok(()));
        assert_eq!(check(r#"Orders = "orders" @ "1.2.0" {}"#), Ok(()));
    }

    #[test]
    fn the_word_before_it_is_no_part_of_the_type() {
        for (text, word, shown) in [
            ("rows: stream Rows", Word::Stream, "Rows"),
            ("rows: stream reports::Rows", Word::Stream, "reports :: Rows"),
            ("rows: stream::Rows", Word::None, "stream :: Rows"),
            ("stream: stream stream", Word::Stream, "stream"),
            ("import: upload Import", Word::Upload, "Import"),
            ("upload: upload::Import", Word::None, "upload :: Import"),
        ] {
            let operation = syn::parse_str::<Operation>(text).unwrap();
            assert_eq!(operation.word, word, "{text}");
            assert_eq!(operation.request.to_token_stream().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn every_mistake_of_a_contract_is_reported_at_once() {
        let operations = "place: Place, place: Get, unimplemented: List, #[cfg(x)] get: Get";
        let mistakes = check(&format!(r#"Orders = "Orders" @ "1.2" {{ {operations} }}"#)).unwrap_err();
        let expected = [
            "no service name",
            "no semantic version",
            "`place` is listed twice",
            "method `unimplemented` of its own",
            "no attributes but documentation",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(expected), "{mistake}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(check(r#"Orders = "orders" {}"#).unwrap_err()[0].contains("the version is missing"));
        assert!(
            check(r#"Orders = "orders" @ "1.0.0" { place }"#).unwrap_err()[0].contains("`place: TheRequest`")
        );
        for (text, expected) in [
            ("rows: stream", "`rows: stream TheRequest`"),
            ("rows: many Rows", "only the words"),
            ("import: upload", "`import: upload TheRequest`"),
        ] {
            let mistakes = check(&format!(r#"Orders = "orders" @ "1.0.0" {{ {text} }}"#)).unwrap_err();
            assert!(mistakes[0].contains(expected), "{mistakes:?}");
        }
        assert!(
            check(r#"A = "a" @ "1.0.0" {} B = "b" @ "1.0.0" {}"#).unwrap_err()[0]
                .contains("another `contract!`")
        );
    }
}
