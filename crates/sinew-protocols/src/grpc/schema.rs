//! Protobuf files as the description of services: fetched with what they import, compiled, and searched.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::Value;
use url::Url;

use crate::call::Scope;
use crate::document::endpoint_of;
use crate::endpoint::Endpoint;
use crate::failure::Failure;

/// What the given file is called among those it imports.
const ROOT: &str = "service.proto";
/// The most files a description may consist of.
const MOST: usize = 64;

/// The files of a description, by the name they are imported by.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, File>);

/// Finds the method that is called.
pub(super) async fn method(
    scope: Scope<'_>,
    arguments: &Value,
    service: &Value,
) -> Result<MethodDescriptor, Failure> {
    let pool = pool(scope, arguments).await?;
    let service = service.get("name").and_then(Value::as_str).unwrap_or_default();
    find(&pool, service, arguments.get("method").and_then(Value::as_str).unwrap_or_default())
}

/// Looks whether the files have the method, as far as it is known which.
pub(super) async fn examine(scope: Scope<'_>, arguments: &Value) -> Result<(), Failure> {
    let pool = pool(scope, arguments).await?;
    let known = |pointer: &str| arguments.pointer(pointer).and_then(Value::as_str);
    match known("/service/name").zip(known("/method")) {
        Some((service, method)) => find(&pool, service, method).map(drop),
        None => Ok(()),
    }
}

async fn pool(scope: Scope<'_>, arguments: &Value) -> Result<DescriptorPool, Failure> {
    let proto = Endpoint::read(endpoint_of(arguments, "proto")?, None, scope.revealer())?;
    compile(files(scope, &proto).await?)
}

fn find(pool: &DescriptorPool, service: &str, wanted: &str) -> Result<MethodDescriptor, Failure> {
    let service = self::service(pool, service)?;
    let found = service.methods().find(|method| method.name() == wanted);
    found.ok_or_else(|| {
        let names: Vec<_> = service.methods().map(|method| format!("`{}`", method.name())).collect();
        let names = names.join(", ");
        Failure::configuration(format!("`{}` has no method `{wanted}`: it has {names}", service.full_name()))
    })
}

/// Finds a service by its full name, or by its own where that is the only one.
fn service(pool: &DescriptorPool, wanted: &str) -> Result<ServiceDescriptor, Failure> {
    if let Some(service) = pool.get_service_by_name(wanted) {
        return Ok(service);
    }
    let last = wanted.rsplit('.').next().unwrap_or_default();
    let mut alike = pool.services().filter(|service| service.name() == last);
    match (alike.next(), alike.next()) {
        (Some(service), None) => Ok(service),
        _ => {
            let names: Vec<_> = pool.services().map(|service| format!("`{}`", service.full_name())).collect();
            let names = names.join(", ");
            Err(Failure::configuration(format!("the file has no service `{wanted}`: it has {names}")))
        }
    }
}

/// Fetches a file and all it imports, which is looked for beside it.
async fn files(scope: Scope<'_>, proto: &Endpoint) -> Result<Files, Failure> {
    let mut files = Files::default();
    let mut wanted = vec![ROOT.to_owned()];
    while let Some(name) = wanted.pop() {
        if files.0.contains_key(&name) || name.starts_with("google/protobuf/") {
            continue;
        }
        if files.0.len() >= MOST {
            return Err(Failure::configuration(format!("{} imports more than {MOST} files", proto.shown)));
        }
        let at = if name == ROOT { proto.clone() } else { beside(proto, &name)? };
        let source = scope.core.documents.text(scope, &at).await?;
        let source = source.as_str().unwrap_or_default();
        let file = File::from_source(&name, source)
            .map_err(|error| Failure::configuration(format!("{} is no protobuf file: {error}", at.shown)))?;
        wanted.extend(file.file_descriptor_proto().dependency.iter().cloned());
        files.0.insert(name, file);
    }
    Ok(files)
}

fn beside(proto: &Endpoint, name: &str) -> Result<Endpoint, Failure> {
    let url: Url = proto
        .url
        .join(name)
        .map_err(|error| Failure::configuration(format!("the import `{name}` cannot be found: {error}")))?;
    Ok(Endpoint { shown: url.to_string(), url, authentication: proto.authentication.clone() })
}

fn compile(files: Files) -> Result<DescriptorPool, Failure> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(files);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    let compiled = compiler.open_file(ROOT);
    compiled.map_err(|error| {
        Failure::configuration(format!("the protobuf files do not fit together: {error}"))
    })?;
    Ok(compiler.descriptor_pool())
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0.get(name).cloned().ok_or_else(|| protox::Error::file_not_found(name))
    }
}
