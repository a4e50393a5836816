//! What a contract becomes: a unit struct, a builder with one type parameter per operation, a client, assertions.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Ident, Visibility, ext::IdentExt, spanned::Spanned};

use super::{Contract, Operation, Word};
use crate::{attributes, name};

/// The names the parts of the expansion share.
struct Names {
    routes: Ident,
    client: Ident,
    missing: Ident,
    /// One type parameter per operation: served, or still missing.
    states: Vec<Ident>,
}

impl ToTokens for Contract {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let names = Names::new(self);
        tokens.extend(self.declaration(&names));
        tokens.extend(self.assertions());
        tokens.extend(self.builder(&names));
        tokens.extend(self.methods(&names));
        tokens.extend(self.completion(&names));
        tokens.extend(self.markers(&names));
        tokens.extend(self.client(&names));
    }
}

impl Names {
    fn new(contract: &Contract) -> Self {
        let words = name::words(&contract.ident.to_string()).join("_");
        Self {
            routes: format_ident!("{}Routes", contract.ident),
            client: format_ident!("{}Client", contract.ident),
            missing: Ident::new(&format!("{words}_missing"), contract.ident.span()),
            states: (0..contract.operations.len()).map(|at| format_ident!("P{at}")).collect(),
        }
    }
}

impl Contract {
    fn declaration(&self, names: &Names) -> TokenStream {
        let Self { attributes, visibility, ident, service, version, operations } = self;
        let Names { routes, missing, .. } = names;
        let description = attributes::first_paragraph(attributes);
        let requests = operations.iter().map(Operation::as_request);
        let methods = operations.iter().map(|operation| &operation.method);
        quote! {
            #(#attributes)*
            #[derive(Clone, Copy, Debug, Default)]
            #visibility struct #ident;

            #[automatically_derived]
            impl ::sinew::__private::Contract for #ident {
                const NAME: &'static str = #service;
                const VERSION: &'static str = #version;
                type Routes<S> = #routes<S, #(#missing::#methods),*>;

                fn descriptor() -> ::sinew::__private::ServiceDescriptor {
                    ::sinew::__private::ServiceDescriptor {
                        name: ::std::string::String::from(#service),
                        version: ::std::string::String::from(#version),
                        description: ::std::string::String::from(#description),
                        operations: ::std::vec![#(#requests::descriptor()),*],
                        ..::std::default::Default::default()
                    }
                }

                fn routes<S>() -> Self::Routes<S> {
                    #routes {
                        routes: ::std::default::Default::default(),
                        states: ::std::marker::PhantomData,
                    }
                }
            }
        }
    }

    /// Only the request types know their subjects, so the compiler compares them.
    fn assertions(&self) -> TokenStream {
        let requests = self.operations.iter().map(Operation::as_request);
        let assertions = (0..self.operations.len()).map(|at| self.assertion(at));
        quote! {
            #[allow(dead_code, reason = "a contract may have no operations")]
            const _: () = {
                const OPERATIONS: &[&str] = &[#(#requests::OPERATION),*];

                const fn same(left: &str, right: &str) -> bool {
                    let (left, right) = (left.as_bytes(), right.as_bytes());
                    let mut at = 0;
                    while at < left.len() && at < right.len() && left[at] == right[at] {
                        at += 1;
                    }
                    at == left.len() && at == right.len()
                }

                const fn is_first(at: usize) -> bool {
                    let mut other = 0;
                    while !same(OPERATIONS[other], OPERATIONS[at]) {
                        other += 1;
                    }
                    other == at
                }

                #(#assertions)*
            };
        }
    }

    fn assertion(&self, at: usize) -> TokenStream {
        let Operation { method, request, .. } = &self.operations[at];
        let place = format!("operation `{}` of contract `{}`", method.unraw(), self.ident);
        let (shown, service) = (request.to_token_stream(), &self.service);
        let as_request = self.operations[at].as_request();
        let foreign = format!(
            "{place}: `{shown}` belongs to another service than {:?}; \
             correct its `subject`, or list it in the contract of its service",
            service.value(),
        );
        let double = format!(
            "{place}: `{shown}` has the subject of an operation further up; correct one `subject`, or list it once"
        );
        quote_spanned! {request.span()=>
            ::std::assert!(same(#as_request::SERVICE, #service), #foreign);
            ::std::assert!(is_first(#at), #double);
        }
    }

    fn builder(&self, names: &Names) -> TokenStream {
        let Self { visibility, ident, .. } = self;
        let Names { routes, states, .. } = names;
        let docs = format!(
            "The routes of [`{ident}`]: each type parameter says whether one operation has a handler."
        );
        quote! {
            #[doc = #docs]
            #[must_use = "routes answer nothing until a service serves them"]
            #visibility struct #routes<S, #(#states),*> {
                routes: ::sinew::__private::Routes<S>,
                states: ::std::marker::PhantomData<fn() -> (#(#states,)*)>,
            }
        }
    }

    fn methods(&self, names: &Names) -> TokenStream {
        let Self { visibility, .. } = self;
        let Names { routes, states, .. } = names;
        let serving = (0..self.operations.len()).map(|at| self.serving(at, names));
        let requests = self.operations.iter().map(Operation::as_request);
        let served = states.iter().map(|_| quote!(::sinew::__private::Served));
        quote! {
            // A crate that only calls has no use for them.
            #[allow(dead_code, reason = "a contract serves callers as well")]
            impl<S, #(#states),*> #routes<S, #(#states),*>
            where
                S: ::std::clone::Clone + ::std::marker::Send + ::std::marker::Sync + 'static,
            {
                #(#serving)*

                /// Answers every operation that has no handler yet with problem 501, "not implemented".
                #visibility fn unimplemented(self) -> #routes<S, #(#served),*> {
                    #routes {
                        routes: self.routes.unimplemented(
                            ::std::vec![#(#requests::descriptor()),*],
                        ),
                        states: ::std::marker::PhantomData,
                    }
                }
            }
        }
    }

    fn serving(&self, at: usize, names: &Names) -> TokenStream {
        let Self { visibility, .. } = self;
        let Names { routes, missing, states, .. } = names;
        let Operation { attributes, method, word, request } = &self.operations[at];
        let state = &states[at];
        let after = states.iter().enumerate().map(|(other, state)| match other == at {
            true => quote!(::sinew::__private::Served),
            false => state.to_token_stream(),
        });
        let docs = format!("Serves `{}` with `handler`.", method.unraw());
        let (handler, serve) = match word {
            Word::None => (quote!(Handler), quote!(serve)),
            Word::Stream => (quote!(StreamHandler), quote!(serve_stream)),
            Word::Upload => (quote!(UploadHandler), quote!(serve_upload)),
        };
        let handler = quote_spanned!(request.span()=> ::sinew::__private::#handler<#request, S, M>);
        quote! {
            #[doc = #docs]
            ///
            #(#attributes)*
            #visibility fn #method<H, M>(self, handler: H) -> #routes<S, #(#after),*>
            where
                H: #handler,
                M: 'static,
                #state: #missing::Open<#missing::#method>,
            {
                #routes {
                    routes: self.routes.#serve::<#request, H, M>(handler),
                    states: ::std::marker::PhantomData,
                }
            }
        }
    }

    fn completion(&self, names: &Names) -> TokenStream {
        let Names { routes, states, .. } = names;
        quote! {
            #[automatically_derived]
            impl<S, #(#states: ::sinew::__private::IsServed),*> ::sinew::__private::Complete<S>
                for #routes<S, #(#states),*>
            {
                fn into_routes(self) -> ::sinew::__private::Routes<S> {
                    self.routes
                }
            }
        }
    }

    fn markers(&self, names: &Names) -> TokenStream {
        let missing = &names.missing;
        let visibility = in_module(&self.visibility, Span::call_site());
        let markers = self.operations.iter().map(|Operation { method, .. }| {
            // Errors show where these stand: the span makes that the operation's place in the contract.
            let visibility = in_module(&self.visibility, method.span());
            quote_spanned! {method.span()=>
                #visibility enum #method {}
                #[diagnostic::do_not_recommend]
                impl Open<#method> for #method {}
            }
        });
        let outer = &self.visibility;
        quote! {
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_docs, dead_code, unreachable_pub, reason = "compiler errors name these types")]
            #outer mod #missing {
                #[diagnostic::on_unimplemented(
                    message = "operation `{Operation}` has a handler already",
                    label = "served a second time here",
                    note = "one handler answers an operation: remove one of the two calls"
                )]
                #visibility trait Open<Operation> {}

                #(#markers)*
            }
        }
    }

    /// The other end: who calls needs the contract, and no handlers.
    fn client(&self, names: &Names) -> TokenStream {
        let Self { visibility, ident, .. } = self;
        let client = &names.client;
        let asking = self.operations.iter().map(|operation| operation.asking(visibility));
        let docs = format!("A client of [`{ident}`]: one method per operation. Clones are cheap.");
        let made = "Returns a client that calls on behalf of `ctx`: within its deadline and its trace.";
        quote! {
            #[doc = #docs]
            #[derive(Clone, Debug)]
            #[allow(dead_code, reason = "a contract serves services as well")]
            #visibility struct #client(::sinew::__private::Ctx);

            #[allow(dead_code, reason = "a contract serves services as well")]
            impl #ident {
                #[doc = #made]
                #visibility fn client(ctx: &::sinew::__private::Ctx) -> #client {
                    #client(::std::clone::Clone::clone(ctx))
                }
            }

            #[allow(dead_code, clippy::should_implement_trait, reason = "operations have the names they have")]
            impl #client {
                #(#asking)*
            }
        }
    }
}

impl Operation {
    /// The client's method.
    fn asking(&self, visibility: &Visibility) -> TokenStream {
        let Self { attributes, method, word, request } = self;
        let (prepared, ask) = match word {
            Word::None => (quote!(Call), quote!(call)),
            Word::Stream => (quote!(StreamCall), quote!(stream)),
            Word::Upload => return self.uploading(visibility),
        };
        let docs = format!("Prepares a call of `{}`; awaiting it sends `request`.", method.unraw());
        let prepared = quote_spanned!(request.span()=> ::sinew::__private::#prepared<#request>);
        let ask = quote_spanned!(request.span()=> ::sinew::__private::Ctx::#ask::<#request>);
        quote! {
            #[doc = #docs]
            ///
            #(#attributes)*
            #visibility fn #method(&self, request: #request) -> #prepared {
                #ask(&self.0, request)
            }
        }
    }

    /// The client's method where items follow the request.
    fn uploading(&self, visibility: &Visibility) -> TokenStream {
        let Self { attributes, method, request, .. } = self;
        let docs = format!(
            "Prepares a call of `{}`; awaiting it sends `request` and, as fast as they are taken, `items`.",
            method.unraw()
        );
        let prepared = quote_spanned!(request.span()=> ::sinew::__private::UploadCall<#request>);
        let item = self.as_request();
        quote! {
            #[doc = #docs]
            ///
            #(#attributes)*
            #visibility fn #method<I>(&self, request: #request, items: I) -> #prepared
            where
                I: ::sinew::__private::Items<#item::Item>,
            {
                ::sinew::__private::Ctx::upload(&self.0, request, items)
            }
        }
    }

    /// Returns `<TheRequest as Request>`, or its sibling, spanned so that a type which is none is reported where it is listed.
    fn as_request(&self) -> TokenStream {
        let request = &self.request;
        let kind = match self.word {
            Word::None => quote!(Request),
            Word::Stream => quote!(StreamRequest),
            Word::Upload => quote!(UploadRequest),
        };
        quote_spanned!(request.span()=> <#request as ::sinew::__private::#kind>)
    }
}

/// Returns the visibility inside a child module that amounts to `outer` around it.
fn in_module(outer: &Visibility, span: Span) -> TokenStream {
    match outer {
        Visibility::Inherited => quote_spanned!(span=> pub(super)),
        // Whoever sees the module may see what is in it.
        Visibility::Public(_) | Visibility::Restricted(_) => quote_spanned!(span=> pub),
    }
}
