//! Definitions: stored under the digest of their text, named by version. An instance pins a digest, so that applying
//! another text under the same version changes nothing for what already runs.
//!
//! A task owns the index of names and follows the bucket; compiled definitions are shared and never change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sinew::{
    Bus,
    bus::{Kv, KvChange},
    wire::{ContentType, decode, encode},
    workflow::{AppliedWorkflow, WorkflowError},
};
use sinew_protocols::Protocols;
use sinew_workflow::{Contracts, Definition, Need, Protocol, Reference, Resources};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Allow, Error, resources};

const BUCKET: &str = "WORKFLOW_DEFINITIONS";
/// Longest wait for the index to show what was stored.
const FOLLOW: Duration = Duration::from_secs(2);

/// Stored and compiled definitions; a cheap handle.
#[derive(Clone)]
pub(crate) struct Definitions {
    bus: Bus,
    kv: Kv,
    index: watch::Receiver<Arc<Index>>,
    compiled: Arc<Cache>,
    /// What is allowed decides which definitions are accepted.
    allow: Allow,
    /// What fetches the documents they refer to.
    protocols: Protocols,
}

/// Name, then version in order of precedence, to what stands there.
pub(crate) type Index = BTreeMap<String, BTreeMap<(Precedence, String), Named>>;

/// Immutable values under their digest; the lock is held for one map operation and never across an await.
type Cache = Mutex<HashMap<String, Arc<Definition>>>;

/// A version as numbers, so that 1.10.0 comes after 1.9.0; the text breaks ties.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence(Vec<u64>, String);

/// A named version, as it stands in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    namespace: String,
    name: String,
    version: String,
    digest: String,
    /// How far the stream of events went when it was applied, where events start instances of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

/// The newest version of a definition, which is the one whose schedule counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Namespace and name.
    pub(crate) place: String,
    pub(crate) name: String,
    pub(crate) digest: String,
    /// As in [`Named`].
    pub(crate) since: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Source {
    file: String,
    source: String,
    /// What it refers to, as it was when it was applied.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    resources: Resources,
}

impl Definitions {
    pub(crate) async fn open(
        bus: &Bus,
        (allow, protocols): (Allow, Protocols),
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let kv = bus.kv(BUCKET).await?;
        // Whole from the first moment: half an index would take an old version for the newest.
        let (sender, index) = watch::channel(Arc::new(stored(&kv, "*").await?));
        tasks.spawn(follow(kv.clone(), sender, stop.clone()));
        Ok(Self { bus: bus.clone(), kv, index, compiled: Arc::default(), allow, protocols })
    }

    /// Checks and stores a document; what the contracts of services speak against only warns, as they change without it.
    pub(crate) async fn apply(
        &self,
        source: String,
        file: &str,
        contracts: &(dyn Contracts + Sync),
    ) -> Result<AppliedWorkflow, WorkflowError> {
        let file = if file.is_empty() { "workflow.yaml" } else { file };
        let invalid = |diagnostics: sinew_workflow::Diagnostics| WorkflowError::InvalidDefinition {
            diagnostics: diagnostics.as_slice().iter().map(ToString::to_string).collect(),
        };
        let fetched = resources::fetch(&source, file, Resources::default(), &self.protocols, None).await;
        let resources = fetched.map_err(|diagnostics| WorkflowError::InvalidDefinition { diagnostics })?;
        let definition = Definition::parse_with(&source, file, &resources).map_err(invalid)?;
        definition.runnable_by(|need| has(&self.allow, need)).map_err(invalid)?;
        let doubtful = definition.check_against(contracts);
        let warnings = definition.warnings().iter().chain(&doubtful).map(ToString::to_string).collect();
        let Reference { namespace, name, version } = definition.reference().clone();
        let digest = resources::digest(&source, &resources);
        let since = self.events_so_far(&definition).await.map_err(bus_error)?;
        self.cache().insert(digest.clone(), Arc::new(definition));
        let named = Named { namespace, name, version, digest, since };
        let changed = self
            .store(&named, Source { file: file.to_owned(), source, resources })
            .await
            .map_err(bus_error)?;
        self.followed(&named).await;
        Ok(AppliedWorkflow { warnings, changed, ..named.into() })
    }

    /// Waits until the index shows what was just stored: whoever applies a version and then starts "the newest" must
    /// get it. Other replicas follow on their own.
    async fn followed(&self, named: &Named) {
        let place = named.place();
        let shown = |index: &Arc<Index>| {
            let shown = index.get(&named.name).and_then(|versions| versions.get(&place));
            shown.is_some_and(|shown| shown.is_same(named))
        };
        let mut index = self.index.clone();
        if tokio::time::timeout(FOLLOW, index.wait_for(shown)).await.is_err() {
            tracing::warn!(workflow = named.name, "a definition is stored, but the index is slow to show it");
        }
    }

    /// Removes a version, or all; their texts stay for what runs by them.
    pub(crate) async fn remove(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Vec<AppliedWorkflow>, WorkflowError> {
        let mut removed = Vec::new();
        let stored = stored(&self.kv, &token(name)).await.map_err(bus_error)?;
        for named in stored.get(name).into_iter().flat_map(BTreeMap::values) {
            if version.is_some_and(|version| named.version != version) {
                continue;
            }
            let key = named.key();
            let Some(entry) = self.kv.get(&key).await.map_err(bus_error)? else { continue };
            if entry.value.is_some() {
                self.kv.delete(&key, entry.revision).await.map_err(bus_error)?;
                self.gone(named).await;
                removed.push(AppliedWorkflow { changed: true, ..named.clone().into() });
            }
        }
        if removed.is_empty() {
            let index = self.index.borrow().clone();
            let known: Vec<&str> = index.keys().map(String::as_str).collect();
            return Err(WorkflowError::UnknownWorkflow(unknown(name, version, &known)));
        }
        Ok(removed)
    }

    /// Waits until the index does not show any more what was just removed.
    async fn gone(&self, named: &Named) {
        let place = named.place();
        let gone = |index: &Arc<Index>| index.get(&named.name).and_then(|v| v.get(&place)).is_none();
        let mut index = self.index.clone();
        if tokio::time::timeout(FOLLOW, index.wait_for(gone)).await.is_err() {
            tracing::warn!(
                workflow = named.name,
                "a definition is removed, but the index is slow to show it"
            );
        }
    }

    /// Returns how far the stream of events goes, for a definition whose instances events start: what is published once it
    /// is applied counts, whenever somebody comes to read it.
    async fn events_so_far(&self, definition: &Definition) -> Result<Option<u64>, sinew::Error> {
        if definition.schedule().is_none_or(|schedule| !schedule.is_triggered()) {
            return Ok(None);
        }
        Ok(Some(self.bus.stream_state(sinew::EVENTS).await?.last_sequence))
    }

    /// Returns the newest version of each workflow of each namespace.
    pub(crate) fn newest(&self) -> Vec<Newest> {
        let index = self.index.borrow().clone();
        let mut newest = BTreeMap::new();
        for named in index.values().flat_map(BTreeMap::values) {
            let Named { namespace, name, digest, since, .. } = named.clone();
            let place = format!("{namespace}/{name}");
            newest.insert(place.clone(), Newest { place, name, digest, since });
        }
        newest.into_values().collect()
    }

    /// Follows what is applied and removed.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Index>> {
        self.index.clone()
    }

    /// Lists what can be started, by name and rising version.
    pub(crate) fn list(&self) -> Vec<AppliedWorkflow> {
        let index = self.index.borrow().clone();
        index.values().flat_map(BTreeMap::values).cloned().map(AppliedWorkflow::from).collect()
    }

    /// Returns the digest of a workflow's version, the newest one where nothing is said.
    pub(crate) async fn resolve(&self, name: &str, version: Option<&str>) -> Result<String, WorkflowError> {
        self.resolve_in(None, name, version).await
    }

    /// As [`resolve`](Self::resolve), within a namespace where one is said.
    pub(crate) async fn resolve_in(
        &self,
        namespace: Option<&str>,
        name: &str,
        version: Option<&str>,
    ) -> Result<String, WorkflowError> {
        let index = self.index.borrow().clone();
        if let Some(named) = pick(&index, namespace, name, version) {
            return Ok(named.digest.clone());
        }
        // The index follows the bucket with a short delay; before saying no, the bucket itself is asked.
        let stored = stored(&self.kv, &token(name)).await.map_err(bus_error)?;
        if let Some(named) = pick(&stored, namespace, name, version) {
            return Ok(named.digest.clone());
        }
        let known: Vec<&str> = index.keys().map(String::as_str).collect();
        Err(WorkflowError::UnknownWorkflow(unknown(name, version, &known)))
    }

    /// Returns the compiled definition of a digest; `None` when it is not stored, or cannot be compiled any more.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub(crate) async fn compiled(&self, digest: &str) -> Result<Option<Arc<Definition>>, sinew::Error> {
        let cached = self.cache().get(digest).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let stored = self.kv.get(&format!("source.{digest}")).await?.and_then(|entry| entry.value);
        let Some(bytes) = stored else { return Ok(None) };
        let source: Source = decode(ContentType::Json, &bytes)?;
        // What was accepted once stays runnable: a stricter check in a newer release must not strand instances.
        match Definition::parse_accepted(&source.source, &source.file, &source.resources) {
            Ok(definition) => {
                let definition = Arc::new(definition);
                self.cache().insert(digest.to_owned(), definition.clone());
                Ok(Some(definition))
            }
            Err(error) => {
                tracing::error!(digest, %error, "a stored definition is refused now");
                Ok(None)
            }
        }
    }

    async fn store(&self, named: &Named, source: Source) -> Result<bool, sinew::Error> {
        let key = named.key();
        let wanted = encode(ContentType::Json, named)?;
        let stands = self.kv.get(&key).await?.and_then(|entry| entry.value);
        if stands.is_some_and(|stands| read(&key, &stands).is_some_and(|stands| stands.is_same(named))) {
            return Ok(false);
        }
        // The text first: a name must never point at a text that is not there.
        self.kv.put(&format!("source.{}", named.digest), encode(ContentType::Json, &source)?).await?;
        self.kv.put(&key, wanted).await?;
        Ok(true)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Definition>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whether an orchestrator where this much is allowed has what a definition needs.
fn has(allow: &Allow, need: Need) -> bool {
    matches!(need, Need::Events | Need::Schedule | Need::Protocol(Protocol::Human)) || allow.has(need)
}

impl Named {
    /// Says whether applying `other` over this changes nothing.
    fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.key() == other.key()
    }

    /// Where it stands among the versions of its name.
    fn place(&self) -> (Precedence, String) {
        (Precedence::of(&self.version), self.namespace.clone())
    }

    fn key(&self) -> String {
        format!("version.{}.{}.{}", token(&self.namespace), token(&self.name), token(&self.version))
    }
}

impl From<Named> for AppliedWorkflow {
    fn from(named: Named) -> Self {
        let Named { namespace, name, version, .. } = named;
        Self { namespace, name, version, changed: false, warnings: Vec::new() }
    }
}

impl Precedence {
    pub(crate) fn of(version: &str) -> Self {
        let numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect();
        Self(numbers, version.to_owned())
    }
}

/// Picks a version of a workflow, the newest one where nothing is said.
fn pick<'a>(
    index: &'a Index,
    namespace: Option<&str>,
    name: &str,
    version: Option<&str>,
) -> Option<&'a Named> {
    index.get(name)?.values().rev().find(|named| {
        namespace.is_none_or(|namespace| named.namespace == namespace)
            && version.is_none_or(|version| named.version == version)
    })
}

/// Reads what the bucket itself names; `*` as the name reads all.
async fn stored(kv: &Kv, name: &str) -> Result<Index, sinew::Error> {
    let mut index = Index::new();
    if name.is_empty() {
        return Ok(index);
    }
    for (key, bytes) in kv.entries(&format!("version.*.{name}.>")).await? {
        if let Some(named) = read(&key, &bytes) {
            note(&mut index, named);
        }
    }
    Ok(index)
}

fn note(index: &mut Index, named: Named) {
    index.entry(named.name.clone()).or_default().insert(named.place(), named);
}

/// Follows the bucket.
async fn follow(kv: Kv, index: watch::Sender<Arc<Index>>, stop: CancellationToken) {
    let mut watch = kv.watch();
    loop {
        let change = tokio::select! {
            change = watch.next() => change,
            () = stop.cancelled() => return,
        };
        let Some(change) = change else { return };
        let mut next = Index::clone(&index.borrow());
        match change {
            KvChange::Put(key, bytes) => {
                let Some(named) = key.starts_with("version.").then(|| read(&key, &bytes)).flatten() else {
                    continue;
                };
                note(&mut next, named);
            }
            KvChange::Gone(key) => forget(&mut next, &key),
        }
        index.send_replace(Arc::new(next));
    }
}

fn forget(index: &mut Index, key: &str) {
    index.retain(|_, versions| {
        versions.retain(|_, named| named.key() != key);
        !versions.is_empty()
    });
}

fn read(key: &str, bytes: &Bytes) -> Option<Named> {
    let read = decode(ContentType::Json, bytes);
    read.inspect_err(|error| tracing::warn!(key, %error, "a stored definition cannot be read")).ok()
}

/// Makes text safe as part of a key.
fn token(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .collect()
}

fn unknown(name: &str, version: Option<&str>, known: &[&str]) -> String {
    let wanted = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
    if known.is_empty() {
        return format!("{wanted}: no workflow was applied yet; apply one with `sinew workflow apply FILE`");
    }
    format!("{wanted}: known are {}", known.join(", "))
}

fn bus_error(error: sinew::Error) -> WorkflowError {
    tracing::warn!(%error, "definitions cannot be reached");
    WorkflowError::Other(error.to_problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let mut versions = ["1.10.0", "1.9.3", "2.0.0", "0.1.0"].map(Precedence::of);
        versions.sort();
        assert_eq!(versions.map(|version| version.1), ["0.1.0", "1.9.3", "1.10.0", "2.0.0"]);
    }
}
