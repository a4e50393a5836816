//! A shard, its log and its world in the hands of a test, and a checker that compares what left with what was stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use sinew::workflow::WorkflowInstance;
use sinew_workflow::{Definition, Effect, Outcome, Parent, Source, State, TaskId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    Config, MemoryJournal,
    history::Finished,
    journal::Journal,
    listen::Listener,
    record,
    shard::{
        Answer, Appending, Ask, Compiled, Input, Opening, Reply, Shard, Start, World,
        command::Answered,
        open::{Folded, OpenError},
    },
    spans::{Exported, Origin},
    view,
};

/// A world that only notes what it is asked for.
#[derive(Clone)]
pub(super) struct Puppet {
    definition: Compiled,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Default)]
struct Asked {
    effects: Vec<(String, Effect)>,
    archives: Vec<Arc<Finished>>,
}

pub(super) type Conversation = (String, oneshot::Receiver<Answered>);

/// One owner after another on the same log.
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) journal: MemoryJournal,
    pub(super) shard: Shard<MemoryJournal, Puppet>,
    pub(super) lease: watch::Sender<Instant>,
    puppet: Puppet,
    appending: Option<Appending>,
    stored: Option<u64>,
    /// Calls and events begun by this owner and not answered yet.
    pub(super) begun: Vec<(String, Effect)>,
    /// Histories this owner wants stored.
    pub(super) archives: Vec<Arc<Finished>>,
    /// Histories that are stored, by instance.
    pub(super) history: HashMap<String, WorkflowInstance>,
    pub(super) open: Vec<Conversation>,
    pub(super) accepted: Vec<String>,
    /// Everything ever stored, folded.
    shadow: Folded,
    shadow_to: u64,
    due: Vec<(String, Effect)>,
    shown: HashMap<String, Vec<WorkflowInstance>>,
    keys: HashMap<(String, String), String>,
    /// Parked states by where they stand, so that each is read once.
    parked: HashMap<(String, u64), State>,
    pub(super) violations: Vec<String>,
}

/// Compiles a workflow of these tasks.
pub(super) fn definition(tasks: &str) -> Compiled {
    let head = "document: { dsl: '1.0.3', namespace: test, name: flow, version: '1.0.0' }\ndo:\n";
    Arc::new(Definition::parse(&format!("{head}{tasks}"), "test.yaml").unwrap())
}

impl World for Puppet {
    fn begin(&mut self, id: String, _: Origin, effect: Effect) {
        self.asked.lock().unwrap().effects.push((id, effect));
    }

    fn listen(&mut self, listener: Listener) {
        let Listener { id, task, attempt, wanted, since, .. } = listener;
        let effect = Effect::Listen { task, attempt, source: Source::Bus(wanted), since };
        self.asked.lock().unwrap().effects.push((id, effect));
    }

    fn archive(&mut self, record: Arc<Finished>, _: Vec<String>) {
        self.asked.lock().unwrap().archives.push(record);
    }

    fn cancel(&mut self, _: Vec<String>) {}

    fn draw(&self, _: &State, _: &mut Exported) {}

    async fn definition(&self, _: &str) -> Result<Option<Compiled>, sinew::Error> {
        Ok(Some(self.definition.clone()))
    }

    fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }

    async fn stop(&self) {}
}

impl Stage {
    pub(super) async fn new(definition: Compiled, config: Config) -> Self {
        let journal = MemoryJournal::default();
        let puppet = Puppet { definition, asked: Arc::default() };
        let (shard, lease) = owner(&journal, &puppet, &config).await.unwrap();
        let mut stage = Self {
            config,
            journal,
            shard,
            lease,
            puppet,
            appending: None,
            stored: None,
            begun: Vec::new(),
            archives: Vec::new(),
            history: HashMap::new(),
            open: Vec::new(),
            accepted: Vec::new(),
            shadow: Folded::default(),
            shadow_to: 0,
            due: Vec::new(),
            shown: HashMap::new(),
            keys: HashMap::new(),
            parked: HashMap::new(),
            violations: Vec::new(),
        };
        stage.look().await;
        stage
    }

    pub(super) fn start(&mut self, id: &str, input: Value, waits: bool) {
        self.start_of(id, input, waits, None);
    }

    /// Starts a child of an instance that lives elsewhere.
    pub(super) fn start_child(&mut self, id: &str, input: Value) {
        let parent = Parent { id: "parent".to_owned(), task: TaskId::of(1), attempt: 1 };
        self.start_of(id, input, false, Some(parent));
    }

    fn start_of(&mut self, id: &str, input: Value, waits: bool, parent: Option<Parent>) {
        let (reply, answer) = Reply::pair();
        let start = Start {
            id: id.to_owned(),
            digest: "d".to_owned(),
            workflow: "flow".to_owned(),
            input,
            input_at: None,
            trace: None,
            parent,
            wait_ms: waits.then_some(1_000),
        };
        let definition = self.puppet.definition.clone();
        self.shard.take(Input::Start { start, definition, reply });
        self.open.push((id.to_owned(), answer));
    }

    pub(super) fn ask(&mut self, id: &str, ask: Ask) {
        let (reply, answer) = Reply::pair();
        self.shard.take(Input::Ask { ask, reply });
        self.open.push((id.to_owned(), answer));
    }

    pub(super) fn get(&mut self, id: &str) {
        self.ask(id, Ask::Get { id: id.to_owned() });
    }

    /// Asks for a list; whether what it shows is true is not looked at here.
    pub(super) fn list(&mut self, limit: usize) {
        self.ask("", Ask::List { name: String::new(), status: None, limit });
    }

    pub(super) fn cancel(&mut self, id: &str) {
        self.ask(id, Ask::Cancel { id: id.to_owned(), reason: None });
    }

    /// Answers the effect at `index` of those begun.
    pub(super) fn reply(&mut self, index: usize, outcome: Outcome) {
        let (id, effect) = self.begun.remove(index);
        if let Effect::Listen { task, attempt, .. } = effect {
            return self.hear_of(&id, (task, attempt), &format!("EVENTS/{}", self.shadow_to));
        }
        let (Effect::Call { task, attempt, .. } | Effect::Emit { task, attempt, .. }) = effect else {
            return;
        };
        self.shard.take(Input::Reply { id, task, attempt, outcome });
    }

    /// Hands an event to a task.
    pub(super) fn hear_of(&mut self, id: &str, (task, attempt): (TaskId, u32), origin: &str) {
        let (id, origin) = (id.to_owned(), Some(origin.to_owned()));
        let event = Arc::new(serde_json::json!({ "type": "heard", "data": {} }));
        self.shard.take(Input::Event { id, task, attempt, event, origin });
    }

    /// Lets the log answer everything that was asked of it.
    pub(super) async fn read(&mut self) {
        while self.shard.waking.is_reading() {
            let fetched = self.shard.waking.fetched().await;
            self.shard.took(fetched);
            // The loop of a shard looks at its timers next.
            self.shard.fire();
        }
    }

    /// Stores the history at `index` of those wanted.
    pub(super) fn archive(&mut self, index: usize) {
        let record = self.archives.remove(index);
        let (id, instance) = (record.id.clone(), record.instance().unwrap());
        if let Some(other) = self.history.insert(id.clone(), instance.clone())
            && other != instance
        {
            self.violations.push(format!("{id} ended twice, as {other:?} and as {instance:?}"));
        }
        self.shard.take(Input::Archived { id });
    }

    /// Sends what has gathered to the log, unless something is on its way.
    pub(super) fn send(&mut self) {
        if self.appending.is_none() && self.stored.is_none() && !self.shard.batch.is_empty() {
            self.appending = Some(self.shard.append());
        }
    }

    /// Lets the log store what was sent; the acknowledgement is on its way then.
    pub(super) async fn store(&mut self) {
        if let Some(appending) = self.appending.take() {
            self.stored = Some(appending.await.unwrap());
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some(sequence) = self.stored.take() {
            self.shard.acknowledged(sequence);
        }
    }

    /// Does all three until nothing is left to store, and looks at nothing: for the long hauls.
    pub(super) async fn haul(&mut self) {
        self.read().await;
        while !self.shard.batch.is_empty() {
            self.send();
            self.store().await;
            self.acknowledge();
            self.read().await;
        }
    }

    /// Does all three until nothing is left to store.
    pub(super) async fn settle(&mut self) {
        loop {
            self.read().await;
            self.send();
            self.store().await;
            self.look().await;
            if self.stored.is_none() {
                return;
            }
            self.acknowledge();
            self.look().await;
        }
    }

    pub(super) async fn pass(&mut self, time: Duration) {
        tokio::time::advance(time).await;
        self.shard.fire();
    }

    /// Kills the owner, wherever its append is, and lets another one open the log.
    pub(super) async fn crash(&mut self) {
        (self.appending, self.stored) = (None, None);
        self.replace().await;
    }

    /// Stops the owner in order, and lets another one open the log.
    pub(super) async fn drain(&mut self) {
        // An acknowledgement on its way arrives; the flush below waits for the rest.
        self.acknowledge();
        let appending = self.appending.take();
        let (shard, _) = owner(&MemoryJournal::default(), &self.puppet, &self.config).await.unwrap();
        std::mem::replace(&mut self.shard, shard).finish(appending).await;
        self.replace().await;
    }

    async fn replace(&mut self) {
        self.watch().await;
        (self.begun, self.archives) = (Vec::new(), Vec::new());
        (self.shard, self.lease) = owner(&self.journal, &self.puppet, &self.config).await.unwrap();
        self.look().await;
    }

    /// Looks at what was stored, at what left, and at what the owner remembers, and notes every violation.
    pub(super) async fn look(&mut self) {
        self.watch().await;
        if self.appending.is_none() && self.stored.is_none() && self.shard.batch.is_empty() {
            self.compare().await;
        }
    }

    async fn watch(&mut self) {
        self.follow().await;
        let asked = std::mem::take(&mut *self.puppet.asked.lock().unwrap());
        for (id, effect) in asked.effects {
            if let Effect::Stop { task, attempt } | Effect::Recall { task, attempt, .. } = effect {
                self.check_stopped(&id, (task, attempt));
                continue;
            }
            if !self.due.contains(&(id.clone(), effect.clone())) {
                self.violations.push(format!("{id}: left before its entry was stored: {effect:?}"));
            }
            self.check_key(&id, &effect);
            self.begun.push((id, effect));
        }
        for record in &asked.archives {
            self.check_shown(&record.instance().unwrap());
        }
        self.archives.extend(asked.archives);
        self.hear();
    }

    /// Checks that what is stopped is not wanted any more by what is stored.
    fn check_stopped(&mut self, id: &str, stopped: (TaskId, u32)) {
        let due = self.shadow.live.get(id).map_or_else(Vec::new, |found| found.state.due());
        let wanted = due.iter().any(|effect| match effect {
            Effect::Call { task, attempt, .. }
            | Effect::Emit { task, attempt, .. }
            | Effect::Listen { task, attempt, .. } => (*task, *attempt) == stopped,
            Effect::Timer { .. } | Effect::Stop { .. } | Effect::Recall { .. } => false,
        });
        if wanted {
            self.violations.push(format!("{id}: stopped before its end was stored: {stopped:?}"));
        }
    }

    /// Folds what is new in the log.
    async fn follow(&mut self) {
        for one in self.journal.read(self.shadow_to + 1).await.unwrap() {
            self.shadow_to = one.sequence;
            for mut item in record::read(&one.record).unwrap().1 {
                // The checker wants to see every state.
                item.snapshot =
                    item.snapshot.or(item.parked.take().map(|parked| parked.state().unwrap().into()));
                let id = item.id.clone();
                match item.claim.clone() {
                    Some(claim) => {
                        let value = self.journal.kept(&claim).await.unwrap();
                        self.shadow.claimed(item, claim, value.as_deref(), one.sequence).unwrap();
                    }
                    None => self.shadow.fold(item, one.sequence).unwrap(),
                }
                let Some(found) = self.shadow.live.get(&id) else { continue };
                let instance = view::instance(&found.state);
                let shown = self.shown.entry(id.clone()).or_default();
                if shown.last() != Some(&instance) {
                    shown.push(instance);
                }
                for effect in found.state.due() {
                    let effect = (id.clone(), effect);
                    if !self.due.contains(&effect) {
                        self.due.push(effect);
                    }
                }
            }
        }
    }

    fn hear(&mut self) {
        for (id, mut answer) in std::mem::take(&mut self.open) {
            match answer.try_recv() {
                Ok(Ok(answer @ (Answer::Instance(_) | Answer::Completed(_)))) => {
                    self.check_shown(&answer.instance().unwrap());
                    self.accepted.push(id);
                }
                Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {}
                Err(oneshot::error::TryRecvError::Empty) => self.open.push((id, answer)),
            }
        }
    }

    fn check_shown(&mut self, instance: &WorkflowInstance) {
        if !self.shown.get(&instance.id).is_some_and(|shown| shown.contains(instance)) {
            self.violations.push(format!("{}: shown before it was stored: {instance:?}", instance.id));
        }
    }

    fn check_key(&mut self, id: &str, effect: &Effect) {
        let (place, key) = match effect {
            Effect::Call { task, attempt, key, .. } => (format!("{task:?} {attempt}"), &**key),
            Effect::Emit { task, attempt, id, .. } => (format!("{task:?} {attempt}"), id.as_str()),
            Effect::Timer { .. } | Effect::Listen { .. } | Effect::Stop { .. } | Effect::Recall { .. } => {
                return;
            }
        };
        let known = self.keys.entry((id.to_owned(), place)).or_insert_with(|| key.to_owned());
        if known != key {
            self.violations.push(format!("{id}: asked under {known} and under {key}"));
        }
    }

    /// Compares the memory of an owner with the whole log, forgotten records included.
    async fn compare(&mut self) {
        let live = self.shard.live.iter().map(|(id, live)| (id.clone(), live.state.clone()));
        let mut ours: HashMap<String, State> = live.collect();
        for (id, spot) in self.shard.parked.iter() {
            let place = (id.to_string(), spot.sequence);
            if !self.parked.contains_key(&place) {
                let record = self.journal.at(spot.sequence).await.unwrap().unwrap();
                for item in record::parked_in(&record).unwrap() {
                    let state = item.parked().unwrap().state().unwrap();
                    self.parked.insert((item.id, spot.sequence), state);
                }
            }
            ours.insert(id.to_string(), self.parked[&place].clone());
        }
        let shadow = &self.shadow.live;
        let mut ids: Vec<&String> = ours.keys().chain(shadow.keys()).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let (ours, stored) = (ours.get(id), shadow.get(id).map(|found| &found.state));
            if ours != stored {
                self.violations.push(format!("{id}: in memory {ours:?}, in the log {stored:?}"));
            }
        }
    }
}

async fn owner(
    journal: &MemoryJournal,
    puppet: &Puppet,
    config: &Config,
) -> Result<(Shard<MemoryJournal, Puppet>, watch::Sender<Instant>), OpenError> {
    let (lease, valid) = watch::channel(Instant::now() + Duration::from_secs(1_000_000));
    let (_, inbox) = mpsc::channel(1);
    let (config, world) = (config.clone(), puppet.clone());
    let opening = Opening { config, world, lease: valid, epoch: 1, inbox };
    let mut shard = Shard::open(journal.clone(), opening).await?;
    let mut puppet = puppet.clone();
    shard.parked_listeners().for_each(|listener| puppet.listen(listener));
    Ok((shard, lease))
}
