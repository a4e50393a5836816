//! The names a struct's fields have on the wire, as serde's attributes spell them. Knows serde, not HTTP.

use syn::{Attribute, DataStruct, Expr, LitStr, Token, ext::IdentExt, meta::ParseNestedMeta, parenthesized};

use crate::{attributes::each_key, name};

/// The fields of a struct as a reader of the message sees them.
pub(crate) struct Fields {
    names: Vec<String>,
    flattened: bool,
}

impl Fields {
    /// Reads the fields of a struct that carries `attributes`.
    ///
    /// Mistakes in serde's attributes are left to serde, which reports them better.
    pub(crate) fn read(attributes: &[Attribute], data: &DataStruct) -> Self {
        let rule = serde(attributes).rename_all;
        let mut fields = Self { names: Vec::new(), flattened: false };
        for field in &data.fields {
            let own = serde(&field.attrs);
            fields.flattened |= own.flatten;
            let Some(ident) = field.ident.as_ref().filter(|_| !own.skip && !own.flatten) else { continue };
            let plain = ident.unraw().to_string();
            fields.names.push(own.rename.unwrap_or_else(|| renamed(&plain, rule.as_deref())));
        }
        fields
    }

    /// Says whether there is a field called `name`, as far as can be known: a flattened field may bring any name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.flattened || self.names.iter().any(|own| own == name)
    }

    /// Lists the fields for an error message.
    pub(crate) fn list(&self) -> String {
        match self.names.as_slice() {
            [] => "there are no named fields".to_owned(),
            names => format!("fields: {}", names.join(", ")),
        }
    }
}

#[derive(Default)]
struct Serde {
    rename: Option<String>,
    rename_all: Option<String>,
    flatten: bool,
    skip: bool,
}

fn serde(attributes: &[Attribute]) -> Serde {
    let mut serde = Serde::default();
    let _ = each_key(attributes, "serde", |key, meta| {
        match key {
            "rename" => serde.rename = reading_name(meta)?,
            "rename_all" => serde.rename_all = reading_name(meta)?,
            "flatten" => serde.flatten = true,
            "skip" | "skip_deserializing" => serde.skip = true,
            _ => skip_value(meta)?,
        }
        Ok(())
    });
    serde
}

/// Reads `= "name"` or the part that counts for readers of `(serialize = "..", deserialize = "..")`.
fn reading_name(meta: &ParseNestedMeta<'_>) -> syn::Result<Option<String>> {
    if meta.input.peek(Token![=]) {
        return Ok(Some(meta.value()?.parse::<LitStr>()?.value()));
    }
    let mut name = None;
    meta.parse_nested_meta(|side| {
        let text = side.value()?.parse::<LitStr>()?.value();
        if side.path.is_ident("deserialize") {
            name = Some(text);
        }
        Ok(())
    })?;
    Ok(name)
}

fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let inside;
        parenthesized!(inside in meta.input);
        inside.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}

fn renamed(field: &str, rule: Option<&str>) -> String {
    let capitalised = |word: &String| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let words = name::words(field);
    match rule {
        Some("camelCase") => {
            words[..1].iter().cloned().chain(words.iter().skip(1).map(capitalised)).collect()
        }
        Some("PascalCase") => words.iter().map(capitalised).collect(),
        Some("kebab-case") => field.replace('_', "-"),
        Some("SCREAMING-KEBAB-CASE") => field.replace('_', "-").to_ascii_uppercase(),
        Some("SCREAMING_SNAKE_CASE" | "UPPERCASE") => field.to_ascii_uppercase(),
        _ => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use syn::{Data, DeriveInput, parse_quote};

    use super::*;

    fn fields(input: DeriveInput) -> Fields {
        match input.data {
            Data::Struct(data) => Fields::read(&input.attrs, &data),
            _ => unreachable!("the tests only write structs"),
        }
    }

    #[test]
    fn names_are_the_ones_serde_reads() {
        let fields = fields(parse_quote! {
            #[serde(deny_unknown_fields, rename_all = "camelCase", bound(serialize = "T: X"))]
            struct Place {
                order_id: u32,
                #[serde(default = "one", rename = "n")]
                count: u32,
                #[serde(rename(serialize = "out", deserialize = "in"))]
                way: u32,
                #[serde(skip)]
                hidden: u32,
                r#type: u32,
            }
        });
        assert_eq!(fields.list(), "fields: orderId, n, in, type");
        assert!(fields.contains("orderId") && !fields.contains("order_id") && !fields.contains("hidden"));
    }

    #[test]
    fn a_flattened_field_may_bring_any_name() {
        let open = fields(parse_quote!(
            struct Place {
                #[serde(flatten)]
                rest: Rest,
            }
        ));
        assert!(open.contains("anything"));
        assert!(
            !fields(parse_quote!(
                struct Place(u32);
            ))
            .contains("0")
        );
    }

    #[test]
    fn each_rule_spells_as_serde_does() {
        let spelled = |rule| renamed("order_id", Some(rule));
        assert_eq!(spelled("PascalCase"), "OrderId");
        assert_eq!(spelled("kebab-case"), "order-id");
        assert_eq!(spelled("SCREAMING_SNAKE_CASE"), "ORDER_ID");
        assert_eq!(spelled("SCREAMING-KEBAB-CASE"), "ORDER-ID");
        assert_eq!(spelled("snake_case"), "order_id");
    }
}
