//! The implementations of a declared error: out to a problem, back from one, and as text.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Ident, ext::IdentExt};

use super::{DETAIL, Declared, Members, Problem};

impl ToTokens for Problem {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.service_error());
        tokens.extend(self.display());
        if let Some(transparent) = &self.transparent {
            tokens.extend(conversions(&self.ident, transparent));
        }
    }
}

impl Problem {
    fn service_error(&self) -> TokenStream {
        let ident = &self.ident;
        let out = self.declared.iter().map(Declared::writing);
        let out_transparent = self
            .transparent
            .iter()
            .map(|ident| quote!(Self::#ident(ref problem) => ::sinew::__private::Problem::clone(problem),));
        let back = self.declared.iter().map(Declared::reading);
        let back_transparent = self.transparent.as_ref().map(|_| {
            let carried = quote!(::std::convert::From::from(::std::clone::Clone::clone(problem)));
            quote!(.or_else(|| ::std::option::Option::Some(#carried)))
        });
        let declared = self.declared.iter().map(Declared::describing);
        // Whoever reads the contract is told that other codes than the declared ones may come.
        let any = self.transparent.iter().map(|_| {
            quote! {
                ::sinew::__private::ProblemDescriptor {
                    status: 500,
                    code: ::std::string::String::from("*"),
                    title: ::std::string::String::from("any other problem"),
                    retry: false,
                }
            }
        });
        let declared = declared.chain(any);
        quote! {
            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            impl ::sinew::__private::ServiceError for #ident {
                fn to_problem(&self) -> ::sinew::__private::Problem {
                    match *self {
                        #(#out)*
                        #(#out_transparent)*
                    }
                }

                fn from_problem(
                    problem: &::sinew::__private::Problem,
                ) -> ::std::option::Option<Self> {
                    let declared = || match problem.code.as_str() {
                        #(#back)*
                        _ => ::std::option::Option::None,
                    };
                    declared() #back_transparent
                }

                fn declared() -> ::std::vec::Vec<::sinew::__private::ProblemDescriptor> {
                    ::std::vec![#(#declared),*]
                }
            }
        }
    }

    fn display(&self) -> TokenStream {
        let ident = &self.ident;
        let texts = self.declared.iter().map(Declared::showing);
        let transparent = self
            .transparent
            .iter()
            .map(|ident| quote!(Self::#ident(ref problem) => ::std::fmt::Display::fmt(problem, formatter),));
        quote! {
            #[automatically_derived]
            impl ::std::fmt::Display for #ident {
                fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    match *self {
                        #(#texts)*
                        #(#transparent)*
                    }
                }
            }

            #[automatically_derived]
            impl ::std::error::Error for #ident {}
        }
    }
}

impl Declared {
    fn writing(&self) -> TokenStream {
        let Self { ident, status, code, title, retry, data } = self;
        let pattern = data.pattern();
        let retriable = retry.then(|| quote!(.retriable()));
        let detail = data.has_detail().then(|| quote!(.detail(::std::clone::Clone::clone(detail))));
        let extensions = data.extensions().map(|field| {
            let name = field.unraw().to_string();
            // A value JSON cannot hold is left to be missing: an error path has nobody to report it to.
            quote! {
                .with(#name, ::sinew::__private::serde_json::to_value(#field).unwrap_or_default())
            }
        });
        quote! {
            Self::#ident #pattern => {
                ::sinew::__private::Problem::new(#status, #code, #title) #retriable #detail #(#extensions)*
            }
        }
    }

    fn reading(&self) -> TokenStream {
        let Self { ident, code, data, .. } = self;
        let detail = quote!(::std::clone::Clone::clone(&problem.detail).unwrap_or_default());
        let value = match data {
            Members::None => TokenStream::new(),
            Members::Detail => quote!((#detail)),
            Members::Named(fields) => {
                let fields = fields.iter().map(|field| match is_detail(field) {
                    true => quote!(#field: #detail),
                    false => {
                        let value = extension(field);
                        quote!(#field: #value)
                    }
                });
                quote!({ #(#fields),* })
            }
        };
        quote!(#code => ::std::option::Option::Some(Self::#ident #value),)
    }

    fn describing(&self) -> TokenStream {
        let Self { status, code, title, retry, .. } = self;
        quote! {
            ::sinew::__private::ProblemDescriptor {
                status: #status,
                code: ::std::string::String::from(#code),
                title: ::std::string::String::from(#title),
                retry: #retry,
            }
        }
    }

    fn showing(&self) -> TokenStream {
        let Self { ident, title, data, .. } = self;
        let pattern = match data {
            Members::Named(_) if !data.has_detail() => quote!({ .. }),
            Members::Named(_) => quote!({ ref detail, .. }),
            _ => data.pattern(),
        };
        let text = match data.has_detail() {
            true => quote!(::std::write!(formatter, "{}: {}", #title, detail)),
            false => quote!(formatter.write_str(#title)),
        };
        quote!(Self::#ident #pattern => #text,)
    }
}

impl Members {
    /// Returns the pattern that binds what the variant holds, each field under its own name.
    fn pattern(&self) -> TokenStream {
        match self {
            Self::None => TokenStream::new(),
            Self::Detail => quote!((ref detail)),
            Self::Named(fields) => quote!({ #(ref #fields),* }),
        }
    }

    fn has_detail(&self) -> bool {
        match self {
            Self::None => false,
            Self::Detail => true,
            Self::Named(fields) => fields.iter().any(is_detail),
        }
    }

    fn extensions(&self) -> impl Iterator<Item = &Ident> {
        let fields = match self {
            Self::Named(fields) => fields.as_slice(),
            Self::None | Self::Detail => &[],
        };
        fields.iter().filter(|field| !is_detail(field))
    }
}

/// Returns the conversions that let `?` hand on what another service answered.
fn conversions(target: &Ident, transparent: &Ident) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::std::convert::From<::sinew::__private::Problem> for #target {
            fn from(problem: ::sinew::__private::Problem) -> Self {
                Self::#transparent(::std::convert::From::from(problem))
            }
        }

        #[automatically_derived]
        impl<E: ::sinew::__private::ServiceError> ::std::convert::From<::sinew::CallError<E>> for #target {
            fn from(error: ::sinew::CallError<E>) -> Self {
                ::std::convert::From::from(::sinew::__private::problem_of_call(&error))
            }
        }
    }
}

fn extension(field: &Ident) -> TokenStream {
    let name = field.unraw().to_string();
    // Absent reads as null, so that a sender older than an optional field is understood.
    quote_spanned! {field.span()=>
        ::sinew::__private::serde_json::from_value(
            problem.extensions.get(#name).cloned().unwrap_or_default(),
        ).ok()?
    }
}

fn is_detail(field: &Ident) -> bool {
    *field == DETAIL
}
