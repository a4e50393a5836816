//! Where a document says a channel is: its server, its address, and how its messages tell what they belong to.

use serde_json::{Map, Value, json};
use url::Url;

use crate::call::Scope;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::scalar;
use crate::openapi::resolved;

/// A channel on a server.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) transport: Transport,
    /// The server, without the address.
    pub(super) server: String,
    pub(super) address: String,
    /// The method of HTTP to publish with.
    pub(super) method: String,
    pub(super) authentication: Option<Value>,
    /// Where a message has its correlation id, as a runtime expression of AsyncAPI.
    correlation: Option<String>,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Http,
    WebSocket,
    Nats,
}

/// The parts of a document that a channel is found by, whatever its version.
struct Found<'a> {
    address: String,
    definition: &'a Value,
    /// Of version 3 the operation, of version 2 the channel's `publish` or `subscribe`.
    operation: &'a Value,
    /// Empty for all.
    servers: Vec<String>,
}

impl Channel {
    /// Finds the channel that the arguments of a task name.
    pub(super) fn find(document: &Value, arguments: &Value) -> Result<Self, Failure> {
        let is_version_2 =
            document.get("asyncapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("2."));
        let found = if is_version_2 {
            of_version_2(document, arguments)?
        } else {
            of_version_3(document, arguments)?
        };
        let variables = arguments.pointer("/server/variables").and_then(Value::as_object);
        let (server, transport) = server(document, arguments, &found)?;
        let parameters = found.definition.get("parameters").and_then(Value::as_object);
        let message = message(document, &found);
        Ok(Self {
            transport,
            server: url_of(server, variables)?,
            address: filled(&found.address, parameters, variables)?,
            method: found
                .operation
                .pointer("/bindings/http/method")
                .and_then(Value::as_str)
                .unwrap_or("POST")
                .to_ascii_uppercase(),
            authentication: arguments.get("authentication").filter(|policy| !policy.is_null()).cloned(),
            correlation: message
                .and_then(|message| {
                    resolved(document, message.get("correlationId")?).get("location")?.as_str()
                })
                .map(str::to_owned),
        })
    }

    /// Returns the server with the address, for what is spoken in URIs.
    pub(super) fn endpoint(&self, scope: Scope<'_>) -> Result<Endpoint, Failure> {
        let uri = format!("{}/{}", self.server.trim_end_matches('/'), self.address.trim_start_matches('/'));
        let endpoint = Endpoint::read(&Value::String(uri), None, scope.revealer())?;
        Ok(Endpoint {
            authentication: self.authentication.clone().or(endpoint.authentication.clone()),
            ..endpoint
        })
    }

    /// Returns the server alone.
    pub(super) fn server(&self) -> Result<Url, Failure> {
        Url::parse(&self.server)
            .map_err(|error| Failure::configuration(format!("`{}` is no server: {error}", self.server)))
    }

    /// Writes a message as a subscription hands it in.
    pub(super) fn received(&self, payload: &[u8], headers: Map<String, Value>) -> Value {
        let text = || Value::String(String::from_utf8_lossy(payload).into_owned());
        let payload = serde_json::from_slice(payload).unwrap_or_else(|_| text());
        let mut message = json!({ "payload": payload, "headers": headers });
        let id = self.correlation.as_deref().and_then(|location| {
            let (part, pointer) = location.strip_prefix("$message.")?.split_once('#')?;
            message.get(if part == "header" { "headers" } else { "payload" })?.pointer(pointer).map(scalar)
        });
        if let Some(id) = id {
            message["correlationId"] = Value::String(id);
        }
        message
    }
}

fn of_version_3<'a>(document: &'a Value, arguments: &Value) -> Result<Found<'a>, Failure> {
    let (name, operation, definition) = match (text(arguments, "operation"), text(arguments, "channel")) {
        (None, Some(name)) => {
            let (name, definition) = by_address(document, name)?;
            (Some(name), &Value::Null, definition)
        }
        (name, _) => {
            let name = name.unwrap_or_default();
            let operation = member(document, "operations", name, "operation")?;
            let missing = || Failure::configuration(format!("the operation `{name}` names no channel"));
            let channel = operation.get("channel").ok_or_else(missing)?;
            let reference = channel.get("$ref").and_then(Value::as_str);
            let id = reference.and_then(|reference| reference.rsplit('/').next());
            (id, operation, resolved(document, channel))
        }
    };
    // Without an address the channel goes by its own name.
    let address = text(definition, "address").or(name).unwrap_or_default().to_owned();
    let servers = definition.get("servers").and_then(Value::as_array).into_iter().flatten();
    let servers =
        servers.filter_map(|server| Some(server.get("$ref")?.as_str()?.rsplit('/').next()?.to_owned()));
    Ok(Found { address, definition, operation, servers: servers.collect() })
}

/// Finds a channel by its name or its address. The language means names of version 2, which are addresses.
fn by_address<'a>(document: &'a Value, wanted: &str) -> Result<(&'a str, &'a Value), Failure> {
    let channels = document.get("channels").and_then(Value::as_object).into_iter().flatten();
    let channels = channels.map(|(name, channel)| (name.as_str(), resolved(document, channel)));
    let mut found =
        channels.filter(|(name, channel)| *name == wanted || text(channel, "address") == Some(wanted));
    let missing =
        || Failure::configuration(format!("the document has no channel `{wanted}`: name an `operation`"));
    found.next().ok_or_else(missing)
}

fn of_version_2<'a>(document: &'a Value, arguments: &Value) -> Result<Found<'a>, Failure> {
    let publishes = arguments.get("message").is_some();
    let verb = if publishes { "publish" } else { "subscribe" };
    let name = match text(arguments, "channel") {
        Some(name) => name,
        None => by_operation(document, text(arguments, "operation").unwrap_or_default())?,
    };
    let definition = resolved(document, member(document, "channels", name, "channel")?);
    let operation = definition.get(verb).unwrap_or(&Value::Null);
    let servers = definition.get("servers").and_then(Value::as_array).into_iter().flatten();
    let servers = servers.filter_map(|server| server.as_str().map(str::to_owned)).collect();
    Ok(Found { address: name.to_owned(), definition, operation, servers })
}

fn by_operation<'a>(document: &'a Value, id: &str) -> Result<&'a str, Failure> {
    let channels = document.get("channels").and_then(Value::as_object).into_iter().flatten();
    let mut named = channels.filter(|(_, channel)| {
        ["publish", "subscribe"]
            .iter()
            .any(|verb| channel.get(verb).and_then(|operation| text(operation, "operationId")) == Some(id))
    });
    let missing =
        || Failure::configuration(format!("the document has no operation `{id}`: name a `channel`"));
    named.next().map(|(name, _)| name.as_str()).ok_or_else(missing)
}

/// Chooses the server: the one that is named, or the first of the channel that speaks the wanted protocol.
fn server<'a>(
    document: &'a Value,
    arguments: &Value,
    found: &Found<'_>,
) -> Result<(&'a Value, Transport), Failure> {
    if let Some(name) = arguments.pointer("/server/name").and_then(Value::as_str) {
        let server = resolved(document, member(document, "servers", name, "server")?);
        let spoken = text(server, "protocol").unwrap_or_default();
        return Ok((server, transport(spoken).ok_or_else(|| unspoken(spoken))?));
    }
    let wanted = text(arguments, "protocol");
    let servers = document.get("servers").and_then(Value::as_object).into_iter().flatten();
    let of_channel = servers.filter(|(name, _)| found.servers.is_empty() || found.servers.contains(name));
    let mut others = Vec::new();
    for (_, server) in of_channel {
        let server = resolved(document, server);
        let spoken = text(server, "protocol").unwrap_or_default();
        match transport(spoken) {
            Some(found) if wanted.is_none_or(|wanted| transport(wanted) == Some(found)) => {
                return Ok((server, found));
            }
            _ => others.push(spoken),
        }
    }
    match wanted {
        Some(wanted) if transport(wanted).is_none() => Err(unspoken(wanted)),
        _ if others.is_empty() => Err(Failure::configuration("the document has no server for this channel")),
        _ => Err(unspoken(&others.join("`, `"))),
    }
}

fn transport(protocol: &str) -> Option<Transport> {
    match protocol {
        "http" | "https" => Some(Transport::Http),
        "ws" | "wss" => Some(Transport::WebSocket),
        "nats" | "tls" => Some(Transport::Nats),
        _ => None,
    }
}

fn unspoken(protocol: &str) -> Failure {
    let detail = format!("a server that speaks `{protocol}` cannot be called: `http`, `ws` and `nats` can");
    Failure::configuration(detail)
}

/// Writes the URL of a server with its variables: version 3 has it in parts.
fn url_of(server: &Value, given: Option<&Map<String, Value>>) -> Result<String, Failure> {
    let protocol = text(server, "protocol").unwrap_or_default();
    let url = match (text(server, "url"), text(server, "host")) {
        (Some(url), _) if url.contains("://") => url.to_owned(),
        (Some(url), _) => format!("{protocol}://{url}"),
        (None, Some(host)) => format!("{protocol}://{host}{}", text(server, "pathname").unwrap_or_default()),
        (None, None) => return Err(Failure::configuration("the server has neither `host` nor `url`")),
    };
    filled(&url, server.get("variables").and_then(Value::as_object), given)
}

/// Puts values in the place of `{names}`: the given ones, or else the defaults.
fn filled(
    text: &str,
    described: Option<&Map<String, Value>>,
    given: Option<&Map<String, Value>>,
) -> Result<String, Failure> {
    let mut filled = text.to_owned();
    for (name, value) in given.into_iter().flatten() {
        filled = filled.replace(&format!("{{{name}}}"), &scalar(value));
    }
    for (name, variable) in described.into_iter().flatten() {
        let default = variable.get("default").or_else(|| variable.pointer("/schema/default"));
        if let Some(default) = default {
            filled = filled.replace(&format!("{{{name}}}"), &scalar(default));
        }
    }
    if filled.contains('{') {
        return Err(Failure::configuration(format!(
            "`{filled}` has a variable without a value: give it in `server.variables`"
        )));
    }
    Ok(filled)
}

/// Finds the description of the messages, the first one where there are several.
fn message<'a>(document: &'a Value, found: &Found<'a>) -> Option<&'a Value> {
    let of_operation = found.operation.get("messages").and_then(|messages| messages.get(0));
    let of_version_2 = || found.operation.get("message");
    let of_channel = || found.definition.get("messages")?.as_object()?.values().next();
    let message = resolved(document, of_operation.or_else(of_version_2).or_else(of_channel)?);
    let first = message.get("oneOf").and_then(|kinds| kinds.get(0));
    Some(first.map_or(message, |first| resolved(document, first)))
}

fn member<'a>(document: &'a Value, list: &str, name: &str, what: &str) -> Result<&'a Value, Failure> {
    let members = document.get(list).and_then(Value::as_object);
    members.and_then(|members| members.get(name)).ok_or_else(|| {
        let names: Vec<_> = members.into_iter().flat_map(Map::keys).map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::configuration(format!("the document has no {what} `{name}`: it has {names}"))
    })
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_3() -> Value {
        json!({
            "asyncapi": "3.0.0",
            "servers": {
                "queue": { "host": "queue:9092", "protocol": "kafka" },
                "web": { "host": "{zone}.example:8080", "pathname": "/v1", "protocol": "http", "variables": { "zone": { "default": "eu" } } },
                "bus": { "host": "bus:4222", "protocol": "nats" },
            },
            "channels": { "orders": {
                "address": "orders.{kind}", "parameters": { "kind": { "default": "all" } },
                "messages": { "placed": { "correlationId": { "location": "$message.header#/id" } } },
            } },
            "operations": { "place": { "action": "send", "channel": { "$ref": "#/channels/orders" } } },
        })
    }

    #[test]
    fn a_channel_is_found_with_its_server() {
        let channel = Channel::find(&version_3(), &json!({ "operation": "place", "message": {} })).unwrap();
        assert_eq!(
            (channel.transport, channel.server.as_str()),
            (Transport::Http, "http://eu.example:8080/v1")
        );
        assert_eq!((channel.address.as_str(), channel.method.as_str()), ("orders.all", "POST"));
        let variables = json!({ "zone": "us", "kind": "new" });
        let arguments = json!({ "operation": "place", "server": { "name": "web", "variables": variables } });
        let channel = Channel::find(&version_3(), &arguments).unwrap();
        assert_eq!(
            (channel.server.as_str(), channel.address.as_str()),
            ("http://us.example:8080/v1", "orders.new")
        );
        let channel =
            Channel::find(&version_3(), &json!({ "operation": "place", "protocol": "nats" })).unwrap();
        assert_eq!((channel.transport, channel.server.as_str()), (Transport::Nats, "nats://bus:4222"));
    }

    #[test]
    fn a_channel_goes_by_its_name_or_its_address() {
        for name in ["orders", "orders.{kind}"] {
            let arguments = json!({ "channel": name, "subscription": {} });
            assert_eq!(Channel::find(&version_3(), &arguments).unwrap().address, "orders.all");
        }
        let fault = Channel::find(&version_3(), &json!({ "channel": "x" })).unwrap_err().fault;
        assert!(fault.detail.unwrap().contains("`operation`"));
    }

    #[test]
    fn version_2_says_it_otherwise() {
        let document = json!({
            "asyncapi": "2.6.0",
            "servers": { "bus": { "url": "bus:4222", "protocol": "nats" } },
            "channels": { "orders": { "servers": ["bus"], "publish": { "operationId": "place" } } },
        });
        for arguments in
            [json!({ "channel": "orders", "message": {} }), json!({ "operation": "place", "message": {} })]
        {
            let channel = Channel::find(&document, &arguments).unwrap();
            assert_eq!((channel.server.as_str(), channel.address.as_str()), ("nats://bus:4222", "orders"));
        }
    }

    #[test]
    fn what_cannot_be_found_or_spoken_is_said() {
        for (arguments, hint) in [
            (json!({ "operation": "cancel" }), "`place`"),
            (json!({ "operation": "place", "server": { "name": "queue" } }), "`kafka`"),
            (json!({ "operation": "place", "server": { "name": "x" } }), "`web`"),
            (json!({ "operation": "place", "protocol": "mqtt" }), "`mqtt`"),
        ] {
            let fault = Channel::find(&version_3(), &arguments).unwrap_err().fault;
            assert_eq!(fault.kind(), "configuration");
            assert!(fault.detail.as_ref().unwrap().contains(hint), "{fault}");
        }
    }

    #[test]
    fn a_message_tells_what_it_belongs_to_where_the_document_says() {
        let channel = Channel::find(&version_3(), &json!({ "operation": "place" })).unwrap();
        let headers = Map::from_iter([("id".to_owned(), json!("7"))]);
        let message = channel.received(b"{\"a\":1}", headers);
        assert_eq!(message, json!({ "payload": { "a": 1 }, "headers": { "id": "7" }, "correlationId": "7" }));
        assert_eq!(channel.received(b"hi", Map::new()), json!({ "payload": "hi", "headers": {} }));
    }
}
