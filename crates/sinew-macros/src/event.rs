//! `#[derive(Event)]`: name, version and schema of what happened.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Data, DeriveInput, Ident, LitInt, LitStr};

use crate::{
    attributes::{self, Mistakes},
    name::{self, Subject},
};

/// What stands in `#[sinew(..)]`, before anything is checked.
#[derive(Default)]
struct Keys {
    subject: Option<LitStr>,
    version: Option<LitInt>,
}

/// A checked event type.
struct Event {
    ident: Ident,
    description: String,
    subject: Subject,
    version: u32,
}

/// Implements `Event` for the type in `input`.
pub(crate) fn expand(input: DeriveInput) -> syn::Result<TokenStream> {
    Event::read(input).map(|event| event.to_token_stream())
}

impl Keys {
    fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut keys = Self::default();
        attributes::each_key(attributes, "sinew", |key, meta| match key {
            "subject" => attributes::set(&mut keys.subject, meta),
            "version" => attributes::set(&mut keys.version, meta),
            _ => Err(attributes::unknown(meta, &["subject", "version"])),
        })?;
        Ok(keys)
    }
}

impl Event {
    fn read(input: DeriveInput) -> syn::Result<Self> {
        if let Data::Union(_) = input.data {
            return Err(syn::Error::new(
                input.ident.span(),
                "an event is a struct or an enum, never a union",
            ));
        }
        let keys = Keys::read(&input.attrs)?;
        let mut mistakes = Mistakes::default();
        attributes::refuse_generics(&input.generics, "an event", &mut mistakes);
        if keys.subject.is_none() {
            let place = attributes::span_of(&input.attrs, "sinew", input.ident.span());
            mistakes.at(place, "`subject` is missing: add #[sinew(subject = \"domain.event\")]");
        }
        let subject =
            keys.subject.as_ref().and_then(|text| mistakes.check(name::subject(text, ["domain", "event"])));
        let version = keys.version.as_ref().and_then(|literal| mistakes.check(version(literal)));
        // A missing part was noted above: these stand-ins never leave this function.
        mistakes.finish(Self {
            description: attributes::first_paragraph(&input.attrs),
            ident: input.ident,
            subject: subject.unwrap_or_default(),
            version: version.unwrap_or(1),
        })
    }
}

impl ToTokens for Event {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { ident, description, version, subject: Subject { first, second } } = self;
        let name = format!("{first}.{second}");
        let address = format!("evt.{name}");
        let kind = format!("{name}.v{version}");
        let schema = attributes::schema_of(ident);
        tokens.extend(quote! {
            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            impl ::sinew::__private::Event for #ident {
                const NAME: &'static str = #name;
                const SUBJECT: &'static str = #address;
                const VERSION: u32 = #version;
                const TYPE: &'static str = #kind;

                fn descriptor() -> ::sinew::__private::EventDescriptor {
                    ::sinew::__private::EventDescriptor {
                        name: ::std::string::String::from(#name),
                        subject: ::std::string::String::from(#address),
                        version: #version,
                        description: ::std::string::String::from(#description),
                        schema: #schema,
                    }
                }
            }
        });
    }
}

fn version(literal: &LitInt) -> syn::Result<u32> {
    match literal.base10_parse::<u32>() {
        Ok(version @ 1..) => Ok(version),
        _ => Err(syn::Error::new(literal.span(), "`version` is a whole number from 1")),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_version_is_one_unless_said_otherwise() {
        let read =
            |input| Event::read(input).map(|event| event.version).map_err(|mistake| mistake.to_string());
        assert_eq!(
            read(parse_quote!(
                #[sinew(subject = "orders.placed")]
                struct Placed;
            )),
            Ok(1)
        );
        assert_eq!(
            read(parse_quote!(
                #[sinew(subject = "orders.placed", version = 3)]
                enum Placed {}
            )),
            Ok(3)
        );
        let refused = read(parse_quote!(
            #[sinew(subject = "orders.placed", version = 0)]
            struct Placed;
        ));
        assert!(refused.unwrap_err().contains("from 1"));
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let refused = |input| Event::read(input).err().unwrap().to_string();
        assert!(
            refused(parse_quote!(
                struct Placed;
            ))
            .contains("`subject` is missing")
        );
        assert!(
            refused(parse_quote!(
                #[sinew(subject = "placed")]
                struct Placed;
            ))
            .contains("\"domain.event\"")
        );
        assert!(refused(parse_quote!(union Placed { a: u8 })).contains("never a union"));
        let borrowed = parse_quote!(
            #[sinew(subject = "orders.placed")]
            enum Placed<'a> {
                Sku(&'a str),
            }
        );
        assert!(refused(borrowed).contains("own the data"));
    }
}
