//! Calls that documents elsewhere describe. The engine reads none of them; a host can, before anything runs.

use serde_json::Value;

use crate::{Diagnostic, Protocol, Severity};

/// A call that needs a document when it is carried out: a description of an API, or the source of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What carries it out.
    pub protocol: Protocol,
    /// Its arguments as the specification writes them. What is computed when it runs is null.
    pub arguments: Value,
    /// Its place in the document.
    place: Diagnostic,
}

impl Described {
    pub(crate) fn new(protocol: Protocol, arguments: Value, place: Diagnostic) -> Self {
        Self { protocol, arguments, place }
    }

    /// Returns the address of the document, if it is known before the call is made.
    ///
    /// ```
    /// use sinew_workflow::Definition;
    ///
    /// let definition = Definition::parse(
    ///     "
    /// document: { dsl: '1.0.3', namespace: pets, name: find, version: '1.0.0' }
    /// do:
    ///   - find:
    ///       call: openapi
    ///       with: { document: { endpoint: 'https://pets.example/openapi.json' }, operationId: findPets }
    /// ",
    ///     "find.yaml",
    /// )?;
    /// assert_eq!(definition.described()[0].uri(), Some("https://pets.example/openapi.json"));
    /// # Ok::<_, sinew_workflow::Diagnostics>(())
    /// ```
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        let endpoint = self.arguments.pointer(Self::place_of(self.protocol)?)?;
        endpoint.get("uri").unwrap_or(endpoint).as_str()
    }

    /// Returns what it is found to be, at its place.
    #[must_use]
    pub fn finding(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, message: message.into(), ..self.place.clone() }
    }

    /// Says where the arguments of a protocol name a document.
    pub(crate) fn place_of(protocol: Protocol) -> Option<&'static str> {
        match protocol {
            Protocol::OpenApi | Protocol::AsyncApi => Some("/document/endpoint"),
            Protocol::Grpc => Some("/proto/endpoint"),
            Protocol::A2a => Some("/agentCard/endpoint"),
            Protocol::Script => Some("/script/source/endpoint"),
            _ => None,
        }
    }
}
