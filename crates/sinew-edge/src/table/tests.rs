//! Who has which request.

use http::Request;
use serde_json::{Value, json};
use sinew::wire::ServiceDescriptor;

use super::*;
use crate::{Config, matcher::segments, operation::tests::descriptor};

fn services(services: &[(&str, &[&str])]) -> Services {
    let describe = |(name, routes): &(&str, &[&str])| {
        let operations = routes.iter().enumerate().map(|(at, http)| descriptor(&format!("op-{at}"), http));
        let service = ServiceDescriptor {
            name: (*name).to_owned(),
            version: "1.0.0".into(),
            operations: operations.collect(),
            ..ServiceDescriptor::default()
        };
        ((*name).to_owned(), service)
    };
    Services { contracts: services.iter().map(describe).collect(), ..Services::default() }
}

fn table(of: &[(&str, &[&str])]) -> Table {
    Table::build(&Config::default(), &services(of))
}

fn configured(config: Value, of: &[(&str, &[&str])]) -> Table {
    Table::build(&Config::read(&config).unwrap(), &services(of))
}

/// `METHOD uri header=value ..`
fn name(table: &Table, request: &str) -> String {
    let mut words = request.split(' ');
    let mut builder = Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        builder = builder.header(name, value);
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    match table.find(&head, &segments(head.uri.path()).unwrap()) {
        Lookup::Route(route, _) => route.name.clone(),
        Lookup::OtherMediaType(types) => format!("other media type: {}", types.join(",")),
        other => format!("{other:?}").split('(').next().unwrap_or_default().to_lowercase(),
    }
}

#[test]
fn every_own_route_is_in_the_table() {
    let table = table(&[]);
    assert_eq!(name(&table, "GET /"), "index");
    assert_eq!(name(&table, "HEAD /healthz/live"), "live");
    assert_eq!(name(&table, "GET /healthz/ready"), "ready");
    assert_eq!(name(&table, "GET /openapi.json"), "openapi");
    assert_eq!(name(&table, "POST /events/orders/placed"), "publish");
}

#[test]
fn a_service_cannot_take_a_path_of_the_edge() {
    let table = table(&[("evil", &["POST /events/orders/placed", "GET /healthz/ready", "PUT /{a}/ready"])]);
    assert_eq!(name(&table, "POST /events/orders/placed"), "publish");
    assert_eq!(name(&table, "GET /healthz/ready"), "ready");
    assert_eq!(name(&table, "PUT /healthz/ready"), "otherwise");
    assert_eq!(name(&table, "PUT /b/ready"), "evil.op-2");
    assert_eq!(table.notes().len(), 2);
}

#[test]
fn of_two_services_the_first_by_name_has_the_route() {
    let table = table(&[("b", &["GET /x/{id}"]), ("a", &["GET /x/{key}"]), ("c", &["DELETE /x/{id}"])]);
    assert_eq!(name(&table, "GET /x/1"), "a.op-0");
    assert_eq!(name(&table, "DELETE /x/1"), "c.op-0");
    assert_eq!(table.notes()[0].message, "GET /x/{id} is taken by a.op-0");
}

#[test]
fn one_bad_operation_does_not_take_the_others_down() {
    let table = table(&[("a", &["GET /{}", "GET /ok", "G=T /a"])]);
    assert_eq!(name(&table, "GET /ok"), "a.op-1");
    assert_eq!(table.notes().len(), 2);
}

#[test]
fn a_route_of_the_configuration_comes_before_a_contract_and_lets_pass_what_it_does_not_take() {
    let contracts: &[(&str, &[&str])] = &[("a", &["GET /x/{id}", "GET /y"])];
    let to = json!({ "operation": "a.op-1" });
    let table = configured(
        json!({ "routes": [
            { "name": "plain", "match": { "method": "GET", "path": "/y" }, "to": to },
            { "name": "tenant", "match": { "method": "GET", "path": "/x/{id}", "headers": { "x-tenant": "acme" } }, "to": to },
            { "name": "both", "match": { "method": "GET", "path": "/x/{id}", "headers": { "x-tenant": "acme" }, "query": { "new": "*" } }, "to": to },
        ] }),
        contracts,
    );
    assert_eq!(name(&table, "GET /y"), "plain");
    assert_eq!(name(&table, "GET /x/1"), "a.op-0");
    assert_eq!(name(&table, "GET /x/1 x-tenant=acme"), "tenant");
    assert_eq!(name(&table, "GET /x/1?new x-tenant=acme"), "both");
    assert_eq!(table.notes()[0].message, "GET /y is taken by plain");
}

#[test]
fn hosts_versions_and_media_types_choose_among_routes() {
    let to = json!({ "operation": "a.b" });
    let route = |name: &str, condition: (&str, &str)| {
        let mut matches = json!({ "method": "POST", "path": "/p" });
        matches[condition.0] = json!(condition.1);
        json!({ "name": name, "match": matches, "to": to })
    };
    let table = configured(
        json!({
            "versions": { "header": "api-version", "path": true, "default": "1" },
            "routes": [
                route("exact", ("host", "api.shop.example")),
                route("below", ("host", "*.shop.example")),
                route("v1", ("version", "1")),
                route("v2", ("version", "2")),
                route("image", ("content_type", "image/png")),
            ],
        }),
        &[],
    );
    assert_eq!(name(&table, "POST /p host=API.shop.example:8080"), "exact");
    assert_eq!(name(&table, "POST /p host=a.b.shop.example"), "below");
    assert_eq!(name(&table, "POST /p host=other api-version=2"), "v2");
    assert_eq!(name(&table, "POST /v2/p host=other"), "v2");
    assert_eq!(name(&table, "POST /p host=other"), "v1");
    assert_eq!(name(&table, "POST /p host=other api-version=9"), "other media type: image/png");
    assert_eq!(name(&table, "GET /p host=api.shop.example"), "otherwise");
    assert_eq!(table.notes().len(), 7, "nobody serves a.b yet");
}

#[test]
fn a_closed_door_for_events_is_no_path() {
    let table = configured(json!({ "open_events": false }), &[]);
    assert_eq!(name(&table, "POST /events/orders/placed"), "nothing");
}
