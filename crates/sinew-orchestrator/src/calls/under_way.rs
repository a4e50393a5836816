//! What is under way on behalf of instances, and may have to be stopped, by instance and task. Knows futures, not what
//! they do.

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use sinew_workflow::{Effect, Protocol, Source, Target, TaskId, Verb};

use super::child::id_of;
use crate::{id::Id, shard::Input};

/// Something to be done, and what the shard is to be told of it.
pub(super) type Work = BoxFuture<'static, Option<Input>>;

/// Everything under way.
#[derive(Default)]
pub(super) struct UnderWay {
    all: FuturesUnordered<Running>,
    begun: HashMap<(Id, TaskId), Begun>,
    /// Counts what was begun: a later attempt of a task takes the place of an earlier one that has not ended.
    count: u64,
}

/// The identity of an effect.
pub(super) struct Name {
    id: Id,
    task: TaskId,
    attempt: u32,
    child: Option<String>,
}

struct Begun {
    number: u64,
    attempt: u32,
    child: Option<String>,
    abort: AbortHandle,
}

struct Running {
    place: Option<((Id, TaskId), u64)>,
    work: Abortable<Work>,
}

impl Name {
    /// Reads what is begun; `None` for an effect nobody carries out.
    pub(super) fn of(id: &str, effect: &Effect) -> Option<Self> {
        let (task, attempt, child) = match effect {
            // People are asked by the state itself: their answer comes from elsewhere.
            Effect::Call { target: Target::Protocol(Protocol::Human), .. } => return None,
            Effect::Call { task, attempt, key, target, .. } => {
                let waits =
                    matches!(target, Target::Workflow(child) if child.wait && child.verb == Verb::Run);
                (*task, *attempt, waits.then(|| id_of(key)))
            }
            Effect::Emit { task, attempt, .. }
            | Effect::Listen { task, attempt, source: Source::Protocol { .. }, .. } => {
                (*task, *attempt, None)
            }
            Effect::Listen { .. } | Effect::Stop { .. } | Effect::Recall { .. } | Effect::Timer { .. } => {
                return None;
            }
        };
        Some(Self { id: Id::of(id), task, attempt, child })
    }
}

impl UnderWay {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Begins what may have to be stopped.
    pub(super) fn begin(&mut self, name: Name, work: Work) {
        let Name { id, task, attempt, child } = name;
        self.count += 1;
        let abort = self.push(Some(((id.clone(), task), self.count)), work);
        self.begun.insert((id, task), Begun { number: self.count, attempt, child, abort });
    }

    /// Begins what nobody stops.
    pub(super) fn aside(&mut self, work: Work) {
        self.push(None, work);
    }

    /// Drops the work of this very attempt; returns the child instance it waited for, if any.
    pub(super) fn stop(&mut self, id: &str, task: TaskId, attempt: u32) -> Option<String> {
        match self.begun.entry((Id::of(id), task)) {
            Entry::Occupied(begun) if begun.get().attempt == attempt => {
                let begun = begun.remove();
                begun.abort.abort();
                begun.child
            }
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        }
    }

    /// Waits until something has ended, and returns what there is to tell. Nothing ends where nothing is under way.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Input> {
        let Some((place, told)) = self.all.next().await else { return std::future::pending().await };
        if let Some((name, number)) = place
            && let Entry::Occupied(begun) = self.begun.entry(name)
            && begun.get().number == number
        {
            begun.remove();
        }
        told
    }

    fn push(&mut self, place: Option<((Id, TaskId), u64)>, work: Work) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        self.all.push(Running { place, work: Abortable::new(work, registration) });
        abort
    }
}

impl Future for Running {
    type Output = (Option<((Id, TaskId), u64)>, Option<Input>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // One call that panics must not take all the others with it. It has no answer, as if its process had died: the
        // instance asks again when the time of the call is over.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.work).poll(context)));
        let told = match polled {
            Ok(polled) => ready!(polled).ok().flatten(),
            Err(_) => {
                tracing::error!("a call panicked: its outcome is unknown");
                None
            }
        };
        Poll::Ready((self.place.take(), told))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    const TASK: TaskId = TaskId::WORKFLOW;

    fn name(attempt: u32) -> Name {
        Name { id: Id::of("i"), task: TASK, attempt, child: Some(format!("child-{attempt}")) }
    }

    /// Work that lasts as long as the other end of it, and says when it is dropped.
    fn lasting() -> (Work, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel::<()>();
        let told = async move {
            ended.await.ok();
            Some(Input::Archived { id: "i".to_owned() })
        };
        (told.boxed(), end)
    }

    #[tokio::test]
    async fn only_the_attempt_that_is_named_is_stopped() {
        let (mut under_way, (work, end)) = (UnderWay::default(), lasting());
        under_way.begin(name(2), work);
        assert_eq!(under_way.stop("i", TASK, 1), None);
        assert!(under_way.next().now_or_never().is_none());
        assert!(!end.is_closed(), "an older attempt is no reason to stop this one");
        assert_eq!(under_way.stop("i", TASK, 2), Some("child-2".to_owned()));
        assert!(under_way.next().await.is_none(), "what is stopped tells nobody anything");
        assert!(end.is_closed() && under_way.is_empty());
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten_and_a_later_attempt_is_not() {
        let mut under_way = UnderWay::default();
        let ((first, end), (second, still)) = (lasting(), lasting());
        under_way.begin(name(1), first);
        under_way.begin(name(2), second);
        drop(end);
        assert!(matches!(under_way.next().await, Some(Input::Archived { .. })));
        assert_eq!(under_way.begun.len(), 1);
        assert_eq!(under_way.stop("i", TASK, 2), Some("child-2".to_owned()));
        assert!(under_way.next().await.is_none());
        assert!(still.is_closed() && under_way.begun.is_empty() && under_way.is_empty());
    }

    #[tokio::test]
    async fn work_that_panics_leaves_the_rest_alone() {
        let (mut under_way, (work, end)) = (UnderWay::default(), lasting());
        under_way.aside(async { panic!("on purpose") }.boxed());
        under_way.begin(name(1), work);
        assert!(under_way.next().await.is_none());
        drop(end);
        assert!(under_way.next().await.is_some());
        assert!(under_way.is_empty());
    }
}
