//! The stage of one scenario: an instance, stubs that answer what it asks for, and a record of what it asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::tests::world::World;
use crate::{
    AttemptOutcome, Definition, Diagnostics, Effect, Fault, Input, Outcome, Resources, Source, TaskId,
    UndoStatus, Wanted,
};

/// How a scenario is run besides what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it is.
    Plain,
    /// The engine forgets everything but its log after every input.
    Crashing,
    /// Every input is given twice, and the second one must change nothing.
    Repeating,
}

/// What a stub answers.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Ok(Value),
    Refused(Fault),
    Nobody,
    Lost(Fault),
    Never,
}

/// A call or an event, as the stub saw it the first time.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Whom: an operation, a protocol, a workflow, or `event <type>`.
    pub(super) target: String,
    /// The name of the task.
    pub(super) name: String,
    /// The effect: what travelled.
    pub(super) effect: Effect,
    /// Milliseconds since the start.
    pub(super) at: i64,
}

/// A scenario on its way.
pub(super) struct Scene {
    mode: Mode,
    /// The text of the document, once one is given.
    pub(super) source: String,
    /// The document itself.
    pub(super) definition: Option<Result<Definition, Diagnostics>>,
    /// What it refers to.
    pub(super) resources: Resources,
    pub(super) input: Value,
    replies: BTreeMap<String, VecDeque<Reply>>,
    always: BTreeMap<String, Reply>,
    world: Option<World>,
    /// Everything it asked for, each once, in order.
    pub(super) asked: Vec<Asked>,
    given: BTreeMap<(TaskId, u32), Reply>,
    events: u32,
}

/// How many inputs a scenario may take: one that goes on forever is a mistake in it.
const MAX_INPUTS: u32 = 20_000;
/// When every scenario starts, in milliseconds since the epoch.
const START: i64 = 1_000;

impl Scene {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            source: String::new(),
            definition: None,
            resources: Resources::default(),
            input: json!({}),
            replies: BTreeMap::new(),
            always: BTreeMap::new(),
            world: None,
            asked: Vec::new(),
            given: BTreeMap::new(),
            events: 0,
        }
    }

    /// Lets whoever is called so, by target or task name, answer like this, in this order; the last one again and again
    /// when it is said to.
    pub(super) fn stub(&mut self, who: &str, mut replies: VecDeque<Reply>, forever: bool) {
        if forever && let Some(last) = replies.pop_back() {
            self.always.insert(who.to_owned(), last);
        }
        self.replies.insert(who.to_owned(), replies);
    }

    /// Starts the instance and does everything that takes no time.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let definition =
            self.definition.take().ok_or("no workflow was given")?.map_err(|found| found.to_string())?;
        definition.runnable().map_err(|found| found.to_string())?;
        self.world = Some(World::start(definition, self.input.clone()));
        self.after_input()?;
        self.settle()
    }

    /// Lets time pass until nothing is due any more.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for _ in 0..MAX_INPUTS {
            if !self.fire(i64::MAX)? {
                return Ok(());
            }
        }
        Err("it goes on forever".to_owned())
    }

    /// Lets so many milliseconds pass.
    pub(super) fn pass(&mut self, millis: i64) -> Result<(), String> {
        let until = self.world()?.now.saturating_add(millis);
        while self.fire(until)? {}
        self.world_mut()?.now = until;
        Ok(())
    }

    /// Gives an input and does everything that takes no time.
    pub(super) fn give(&mut self, input: Input) -> Result<(), String> {
        self.feed(input)?;
        self.settle()
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        let world = self.world_mut()?;
        world.give(input.clone());
        if self.mode == Mode::Repeating && !matches!(input, Input::Operator { .. }) {
            let world = self.world_mut()?;
            let before = world.log.len();
            world.give(input.clone());
            if world.log.len() != before {
                return Err(format!("given twice, it changes something: {input:?}"));
            }
        }
        self.after_input()
    }

    /// Answers a call that is still open.
    pub(super) fn answer_open(&mut self, who: &str, reply: &Reply) -> Result<(), String> {
        let open = self.open(who).ok_or_else(|| format!("no call of `{who}` is open"))?;
        let input = self.reply(&open, reply)?.ok_or("`never` is no answer")?;
        self.give(input)
    }

    /// Answers the latest call of somebody, open or not: a reply that comes late, or twice.
    pub(super) fn answer_late(&mut self, who: &str, reply: &Reply) -> Result<(), String> {
        let asked = self.asked.iter().rev().find(|asked| asked.is(who));
        let effect = asked.ok_or_else(|| format!("`{who}` was never called"))?.effect.clone();
        let input = self.reply(&effect, reply)?.ok_or("`never` is no answer")?;
        self.give(input)
    }

    /// Hands an event to every task that listens for such.
    pub(super) fn event(&mut self, event: &Value) -> Result<usize, String> {
        self.events += 1;
        let origin = Some(format!("test:{}", self.events));
        let listening: Vec<(TaskId, u32)> = self
            .world()?
            .state
            .due()
            .iter()
            .filter_map(|effect| match effect {
                Effect::Listen { task, attempt, source, .. } if wants(source, event) => {
                    Some((*task, *attempt))
                }
                _ => None,
            })
            .collect();
        for &(task, attempt) in &listening {
            let (event, origin, at) = (Arc::new(event.clone()), origin.clone(), self.world()?.at());
            self.give(Input::Event { task, attempt, event, origin, at })?;
        }
        Ok(listening.len())
    }

    pub(super) fn crash(&mut self) -> Result<(), String> {
        self.world_mut()?.crash();
        Ok(())
    }

    pub(super) fn world(&self) -> Result<&World, String> {
        self.world.as_ref().ok_or_else(|| "the workflow was not started".to_owned())
    }

    pub(super) fn world_mut(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "the workflow was not started".to_owned())
    }

    /// Checks at the end of a scenario that its log replays.
    pub(super) fn close(&mut self) -> Result<(), String> {
        if let Some(world) = &mut self.world {
            world.check_storage();
            world.crash();
        }
        Ok(())
    }

    /// Tells what happened so far, in one line.
    pub(super) fn story(&self) -> String {
        let Some(world) = &self.world else { return "nothing".to_owned() };
        let calls: Vec<String> =
            self.asked.iter().map(|asked| format!("{} at {} ms", asked.target, asked.at)).collect();
        let state = &world.state;
        let fault = state.fault().map(|fault| format!(" because of {fault}")).unwrap_or_default();
        let output = state.output().map(|output| format!(" with {output}")).unwrap_or_default();
        format!("{} → {}, {}{fault}{output}", calls.join(", "), state.status(), state.saga())
    }

    /// Returns the names of the steps whose compensation ended well, in the order in which they ended.
    pub(super) fn undone(&self) -> Result<Vec<&str>, String> {
        let steps = self.world()?.state.steps().iter();
        let mut undone: Vec<_> = steps
            .filter_map(|step| Some((step, step.undo.as_ref()?)))
            .filter(|(_, undo)| undo.status == UndoStatus::Compensated)
            .collect();
        // What ended at the same moment began in the order of its runs.
        undone.sort_by_key(|(step, undo)| (undo.ended_at, std::cmp::Reverse(step.task)));
        Ok(undone.into_iter().map(|(step, _)| &*step.name).collect())
    }

    /// Says how many attempts of the newest task of a name ended like this.
    pub(super) fn attempts(&self, name: &str, outcome: Option<AttemptOutcome>) -> Result<usize, String> {
        let step = self.world()?.state.steps().iter().rev().find(|step| &*step.name == name);
        let step = step.ok_or_else(|| format!("no task `{name}` ran"))?;
        Ok(step.attempts.iter().filter(|attempt| outcome.is_none() || attempt.outcome == outcome).count())
    }

    /// Does everything that takes no time: answers what is asked until nothing is.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            let silent = |asked| matches!(self.given.get(&asked), Some(Reply::Never));
            let due = self.world()?.state.due();
            let next = due.into_iter().find(|effect| asks(effect).is_some_and(|asked| !silent(asked)));
            let Some(effect) = next else { return Ok(()) };
            let reply = self.ask(&effect)?;
            if let Some(input) = self.reply(&effect, &reply)? {
                self.feed(input)?;
            }
        }
    }

    /// Notes what is asked, and finds out what the stub says: to the same attempt always the same.
    fn ask(&mut self, effect: &Effect) -> Result<Reply, String> {
        let asked = asks(effect).ok_or("not a call")?;
        if let Some(reply) = self.given.get(&asked) {
            return Ok(reply.clone());
        }
        let (target, name) = names(effect);
        let at = self.world()?.now - START;
        let reply = [&target, &name]
            .into_iter()
            .find_map(|who| {
                let next = self.replies.get_mut(who).and_then(VecDeque::pop_front);
                next.or_else(|| self.always.get(who).cloned())
            })
            .unwrap_or(Reply::Ok(json!({})));
        self.given.insert(asked, reply.clone());
        self.asked.push(Asked { target, name, effect: effect.clone(), at });
        if self.asked.len() > MAX_INPUTS as usize {
            return Err("it asks forever".to_owned());
        }
        Ok(reply)
    }

    fn reply(&self, effect: &Effect, reply: &Reply) -> Result<Option<Input>, String> {
        let (task, attempt) = asks(effect).ok_or("not a call")?;
        let outcome = match reply {
            Reply::Ok(value) => Outcome::Completed(value.clone()),
            Reply::Refused(fault) => Outcome::Refused(fault.clone()),
            Reply::Nobody => Outcome::NotSent(Fault::communication("no such operation").with_status(503)),
            Reply::Lost(fault) => Outcome::Unknown(fault.clone()),
            Reply::Never => return Ok(None),
        };
        Ok(Some(Input::Reply { task, attempt, outcome, at: self.world()?.at() }))
    }

    /// Lets the next timer that is due until then fire; says whether there was one.
    fn fire(&mut self, until: i64) -> Result<bool, String> {
        let mut timers: Vec<_> = self
            .world()?
            .state
            .due()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Timer { task, timer, at } if at.as_millis() <= until => Some((at, timer, task)),
                _ => None,
            })
            .collect();
        timers.sort_unstable();
        let Some(&(at, timer, task)) = timers.first() else { return Ok(false) };
        let world = self.world_mut()?;
        world.now = world.now.max(at.as_millis());
        let at = world.at();
        self.give(Input::Timer { task, timer, at })?;
        Ok(true)
    }

    fn open(&self, who: &str) -> Option<Effect> {
        let due = self.world.as_ref()?.state.due();
        due.into_iter().find(|effect| {
            let (target, name) = names(effect);
            asks(effect).is_some() && (target == who || name == who)
        })
    }

    fn after_input(&mut self) -> Result<(), String> {
        if self.mode == Mode::Crashing { self.crash() } else { Ok(()) }
    }
}

impl Asked {
    /// Says whether it was asked of this target, or by this task.
    pub(super) fn is(&self, who: &str) -> bool {
        self.target == who || self.name == who
    }

    /// Returns the idempotency key, or the id of the event.
    pub(super) fn key(&self) -> &str {
        match &self.effect {
            Effect::Call { key, .. } => key,
            Effect::Emit { id, .. } => id,
            _ => "",
        }
    }

    /// Returns what travelled.
    pub(super) fn body(&self) -> Value {
        match &self.effect {
            Effect::Call { body, .. } => Value::clone(body),
            Effect::Emit { event, .. } => Value::clone(event),
            _ => Value::Null,
        }
    }
}

fn asks(effect: &Effect) -> Option<(TaskId, u32)> {
    match effect {
        Effect::Call { task, attempt, .. } | Effect::Emit { task, attempt, .. } => Some((*task, *attempt)),
        _ => None,
    }
}

fn names(effect: &Effect) -> (String, String) {
    match effect {
        Effect::Call { target, name, .. } => (target.to_string(), name.to_string()),
        Effect::Emit { event, .. } => {
            (format!("event {}", event["type"].as_str().unwrap_or_default()), String::new())
        }
        _ => Default::default(),
    }
}

/// Says whether a listener might want an event, as a host that only compares fixed attributes would.
fn wants(source: &Source, event: &Value) -> bool {
    match source {
        Source::Bus(wanted) => {
            // Not by correlation keys: the engine is to have the last word on those.
            let attributes = |wanted: &Wanted| {
                let mut attributes = wanted.0.iter().filter(|(name, _)| !name.starts_with('.'));
                attributes.all(|(name, text)| event[name].as_str() == Some(text))
            };
            wanted.is_empty() || wanted.iter().any(attributes)
        }
        Source::Protocol { .. } => true,
    }
}
