//! `#[derive(Request)]`, for one reply, a stream or an upload: the declaration is read, checked as a whole, then written out as an implementation.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, Data, DeriveInput, Ident, LitInt, LitStr, Type, parse_quote, spanned::Spanned};

use crate::{
    attributes::{self, Mistakes},
    fields::Fields,
    http::Route,
    name::{self, Subject},
};

/// What stands in `#[sinew(..)]`, before anything is checked.
#[derive(Default)]
struct Keys {
    subject: Option<LitStr>,
    reply: Option<Type>,
    stream: Option<Type>,
    upload: Option<Type>,
    error: Option<Type>,
    idempotent: bool,
    http: Option<LitStr>,
    body: Option<LitStr>,
    status: Option<LitInt>,
}

/// A checked request type.
struct Request {
    ident: Ident,
    description: String,
    subject: Subject,
    answer: Answer,
    error: Type,
    idempotent: bool,
    http: Option<Http>,
}

/// What a successful call gets.
enum Answer {
    Reply(Type),
    /// A stream of these.
    Stream(Type),
    /// One reply, to a request with a stream of items behind it.
    Upload {
        item: Box<Type>,
        reply: Type,
    },
}

/// How HTTP reaches the operation.
struct Http {
    route: Route,
    body: Option<String>,
    status: Option<u16>,
}

const KEYS: [&str; 9] =
    ["subject", "reply", "stream", "upload", "error", "idempotent", "http", "body", "status"];

/// Implements `Request`, `StreamRequest` or `UploadRequest` for the type in `input`.
pub(crate) fn expand(input: DeriveInput) -> syn::Result<TokenStream> {
    Request::read(input).map(|request| request.to_token_stream())
}

impl Keys {
    fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut keys = Self::default();
        attributes::each_key(attributes, "sinew", |key, meta| match key {
            "subject" => attributes::set(&mut keys.subject, meta),
            "reply" => attributes::set(&mut keys.reply, meta),
            "stream" => attributes::set(&mut keys.stream, meta),
            "upload" => attributes::set(&mut keys.upload, meta),
            "error" => attributes::set(&mut keys.error, meta),
            "idempotent" => attributes::raise(&mut keys.idempotent, meta),
            "http" => attributes::set(&mut keys.http, meta),
            "body" => attributes::set(&mut keys.body, meta),
            "status" => attributes::set(&mut keys.status, meta),
            _ => Err(attributes::unknown(meta, &KEYS)),
        })?;
        Ok(keys)
    }

    fn answer(&self, place: Span) -> syn::Result<Answer> {
        match (&self.upload, &self.reply, &self.stream) {
            (None, Some(reply), None) => Ok(Answer::Reply(reply.clone())),
            (None, None, Some(item)) => Ok(Answer::Stream(item.clone())),
            (Some(item), Some(reply), None) => {
                Ok(Answer::Upload { item: Box::new(item.clone()), reply: reply.clone() })
            }
            (_, None, None) => Err(syn::Error::new(
                place,
                "`reply` is missing: add `reply = TheReply`, `reply = ()` if there is none, \
                 or `stream = TheItem` for a stream",
            )),
            (_, Some(_), Some(item)) => Err(syn::Error::new(
                item.span(),
                "an operation has one reply or a stream of items: remove either `reply` or `stream`",
            )),
            (Some(_), None, Some(item)) => Err(syn::Error::new(
                item.span(),
                "an operation takes a stream or answers with one: write `reply = TheReply` in the place of `stream`, \
                 or make two operations of it",
            )),
        }
    }

    /// An upload has no form in HTTP yet.
    fn check_upload(&self) -> syn::Result<()> {
        match (&self.upload, &self.http) {
            (Some(_), Some(http)) => Err(syn::Error::new(
                http.span(),
                "an upload is not published over HTTP: remove `http`, or take the items as a list in the request",
            )),
            _ => Ok(()),
        }
    }
}

impl Request {
    fn read(input: DeriveInput) -> syn::Result<Self> {
        let Data::Struct(data) = &input.data else {
            return Err(syn::Error::new(
                input.ident.span(),
                "a request is a struct: put the variants into a field",
            ));
        };
        let keys = Keys::read(&input.attrs)?;
        let mut mistakes = Mistakes::default();
        attributes::refuse_generics(&input.generics, "a request", &mut mistakes);

        let place = attributes::span_of(&input.attrs, "sinew", input.ident.span());
        if keys.subject.is_none() {
            mistakes.at(place, "`subject` is missing: add #[sinew(subject = \"service.operation\", ..)]");
        }
        let answer = mistakes.check(keys.answer(place));
        mistakes.check(keys.check_upload());
        let subject = keys
            .subject
            .as_ref()
            .and_then(|text| mistakes.check(name::subject(text, ["service", "operation"])));
        let http = Http::read(&keys, &Fields::read(&input.attrs, data), &mut mistakes);
        // A missing part was noted above: these stand-ins never leave this function.
        mistakes.finish(Self {
            description: attributes::first_paragraph(&input.attrs),
            ident: input.ident,
            subject: subject.unwrap_or_default(),
            answer: answer.unwrap_or_else(|| Answer::Reply(parse_quote!(()))),
            error: keys.error.unwrap_or_else(|| parse_quote!(::sinew::__private::Problem)),
            idempotent: keys.idempotent,
            http,
        })
    }
}

impl Http {
    fn read(keys: &Keys, fields: &Fields, mistakes: &mut Mistakes) -> Option<Self> {
        let Some(literal) = &keys.http else {
            let spans = [keys.body.as_ref().map(LitStr::span), keys.status.as_ref().map(LitInt::span)];
            for span in spans.into_iter().flatten() {
                mistakes.at(span, "`body` and `status` belong to `http`: add `http = \"METHOD /path\"`");
            }
            return None;
        };
        let status = keys.status.as_ref().and_then(|literal| mistakes.check(success(literal)));
        let route = mistakes.check(Route::read(literal))?;
        for field in route.fields.iter().filter(|field| !fields.contains(field)) {
            let message =
                format!("the path names `{{{field}}}`, which the request does not have; {}", fields.list());
            mistakes.at(literal.span(), message);
        }
        if let Some(body) = &keys.body {
            mistakes.check(check_body(body, &route, fields));
        }
        Some(Self { route, body: keys.body.as_ref().map(LitStr::value), status })
    }
}

impl ToTokens for Request {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { ident, description, subject, answer, error, idempotent, .. } = self;
        let (service, operation) = (&subject.first, &subject.second);
        let address = format!("svc.{service}.{operation}");
        let http = optional(self.http.as_ref());
        let (kind, answered, ty, stream) = match answer {
            Answer::Reply(ty) => (quote!(Request), quote!(Reply), ty, false),
            Answer::Stream(ty) => (quote!(StreamRequest), quote!(Item), ty, true),
            Answer::Upload { reply, .. } => (quote!(UploadRequest), quote!(Reply), reply, false),
        };
        let uploaded = match answer {
            Answer::Upload { item, .. } => Some(&**item),
            Answer::Reply(_) | Answer::Stream(_) => None,
        };
        let uploads = uploaded.map(|item| quote!(type Item = #item;));
        let upload_schema = optional(uploaded.map(attributes::schema_of));
        let (request_schema, answer_schema) = (attributes::schema_of(ident), attributes::schema_of(ty));
        tokens.extend(quote! {
            // Other requests are no help to somebody who lacks one: errors should not list them.
            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            impl ::sinew::__private::#kind for #ident {
                type #answered = #ty;
                #uploads
                type Error = #error;
                const SERVICE: &'static str = #service;
                const OPERATION: &'static str = #operation;
                const SUBJECT: &'static str = #address;
                const IDEMPOTENT: bool = #idempotent;

                fn descriptor() -> ::sinew::__private::OperationDescriptor {
                    // Generic, so that an undeclared error is reported once: where it is named.
                    fn declared<R: ::sinew::__private::#kind>() -> ::std::vec::Vec<::sinew::__private::ProblemDescriptor> {
                        <R::Error as ::sinew::__private::ServiceError>::declared()
                    }
                    ::sinew::__private::OperationDescriptor {
                        name: ::std::string::String::from(#operation),
                        subject: ::std::string::String::from(#address),
                        description: ::std::string::String::from(#description),
                        idempotent: #idempotent,
                        stream: #stream,
                        accepts: false,
                        http: #http,
                        request: #request_schema,
                        upload: #upload_schema,
                        reply: #answer_schema,
                        errors: declared::<Self>(),
                    }
                }
            }
        });
    }
}

impl ToTokens for Http {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Route { method, path, .. } = &self.route;
        let body = optional(self.body.as_ref().map(|body| quote!(::std::string::String::from(#body))));
        let status = optional(self.status);
        tokens.extend(quote! {
            ::sinew::__private::HttpBinding {
                method: ::std::string::String::from(#method),
                path: ::std::string::String::from(#path),
                body: #body,
                status: #status,
            }
        });
    }
}

fn success(literal: &LitInt) -> syn::Result<u16> {
    match literal.base10_parse::<u16>() {
        Ok(status @ 200..=299) => Ok(status),
        _ => Err(syn::Error::new(literal.span(), "`status` is the status of a success: use 200 to 299")),
    }
}

fn check_body(body: &LitStr, route: &Route, fields: &Fields) -> syn::Result<()> {
    let name = body.value();
    let reason = if !fields.contains(&name) {
        format!("`body` names `{name}`, which the request does not have; {}", fields.list())
    } else if route.fields.contains(&name) {
        format!("`{name}` is taken from the path: let `body` name another field")
    } else if !route.has_body() {
        format!("a {} request has no body: leave `body` out, fields are taken from the query", route.method)
    } else {
        return Ok(());
    };
    Err(syn::Error::new(body.span(), reason))
}

fn optional(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::std::option::Option::Some(#value)),
        None => quote!(::std::option::Option::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: DeriveInput) -> Result<Request, Vec<String>> {
        Request::read(input)
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.to_string()).collect())
    }

    #[test]
    fn a_whole_declaration_is_read() {
        let request = read(parse_quote! {
            /// Changes an order.
            #[sinew(subject = "orders.change", reply = Order, error = OrderError, idempotent)]
            #[sinew(http = "PUT /orders/{id}", body = "input", status = 202)]
            struct Change { id: u32, input: Input }
        });
        let request = request.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!((request.subject.first.as_str(), request.subject.second.as_str()), ("orders", "change"));
        assert_eq!(request.description, "Changes an order.");
        assert_eq!(request.error.to_token_stream().to_string(), "OrderError");
        let http = request.http.unwrap();
        assert_eq!((http.body.as_deref(), http.status), (Some("input"), Some(202)));
    }

    #[test]
    fn every_mistake_of_a_declaration_is_reported_at_once() {
        let mistakes = read(parse_quote! {
            #[sinew(subject = "Orders.change", http = "PUT /orders/{key}", body = "key", status = 404)]
            struct Change<'a> { id: &'a str }
        });
        let mistakes = mistakes.err().unwrap();
        let expected = [
            "cannot have generic parameters",
            "`reply` is missing",
            "no service name",
            "use 200 to 299",
            "the path names `{key}`",
            "`body` names `key`",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(expected), "{mistake}");
        }
    }

    #[test]
    fn a_body_fits_its_route() {
        for (input, expected) in [
            (
                parse_quote!(
                    #[sinew(http = "GET /a", body = "x")]
                    struct A {
                        x: u8,
                    }
                ),
                "has no body",
            ),
            (
                parse_quote!(
                    #[sinew(http = "PUT /{x}", body = "x")]
                    struct A {
                        x: u8,
                    }
                ),
                "taken from the path",
            ),
            (
                parse_quote!(
                    #[sinew(body = "x")]
                    struct A {
                        x: u8,
                    }
                ),
                "belong to `http`",
            ),
        ] {
            let mistakes = read(input).err().unwrap();
            assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{mistakes:?}");
        }
    }

    #[test]
    fn an_operation_has_a_reply_or_a_stream() {
        let stream = read(parse_quote!(
            #[sinew(subject = "reports.rows", stream = Row)]
            struct Rows {}
        ));
        assert!(matches!(stream.map(|request| request.answer), Ok(Answer::Stream(_))));
        let mistakes = read(parse_quote!(
            #[sinew(subject = "reports.rows", stream = Row, reply = Row)]
            struct Rows {}
        ));
        assert!(mistakes.err().unwrap()[0].contains("remove either"));
    }

    #[test]
    fn an_upload_has_one_reply_and_no_form_in_http() {
        let upload = read(parse_quote!(
            #[sinew(subject = "orders.import", upload = Row, reply = Imported)]
            struct Import {}
        ));
        assert!(matches!(upload.map(|request| request.answer), Ok(Answer::Upload { .. })));
        for (input, expected) in [
            (
                parse_quote!(
                    #[sinew(subject = "a.b", upload = Row, stream = Row)]
                    struct A {}
                ),
                "takes a stream or answers with one",
            ),
            (
                parse_quote!(
                    #[sinew(subject = "a.b", upload = Row)]
                    struct A {}
                ),
                "`reply` is missing",
            ),
            (
                parse_quote!(
                    #[sinew(subject = "a.b", upload = Row, reply = (), http = "POST /a")]
                    struct A {}
                ),
                "not published over HTTP",
            ),
        ] {
            let mistakes = read(input).err().unwrap();
            assert!(mistakes.len() == 1 && mistakes[0].contains(expected), "{mistakes:?}");
        }
    }

    #[test]
    fn an_enum_is_no_request() {
        let mistakes = read(parse_quote!(
            enum A {
                B,
            }
        ))
        .err()
        .unwrap();
        assert_eq!(mistakes.len(), 1);
    }
}
