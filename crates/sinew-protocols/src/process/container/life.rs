//! The life of one container: created or found, started or waited for, killed when nobody waits any more, removed as the
//! task says.

use sinew_workflow::Fault;

use super::engine::{Engine, Standing};
use super::{Cleanup, Container};
use crate::call::Scope;
use crate::failure::Failure;
use crate::process::QUOTED;
use crate::process::child::Ended;

/// Kills the container when it is dropped, unless it ended; and removes it when it is time.
struct Keeper<'a> {
    scope: Scope<'a>,
    engine: &'a Engine,
    name: String,
    cleanup: Cleanup,
    runs: bool,
}

/// Runs a container to its end.
pub(super) async fn awaited(
    scope: Scope<'_>,
    engine: &Engine,
    container: Container,
) -> Result<Ended, Failure> {
    let standing = created(scope, engine, &container, false).await?;
    let mut keeper = Keeper::of(scope, engine, &container);
    let Container { name, call, stdin, .. } = container;
    let ended = match standing {
        Standing::Begun => engine.adopt(scope, &name).await?,
        _ => {
            let ended = engine.start(scope, &name, stdin).await?;
            // Whoever could not start it says so with a code that a program could have ended with as well.
            if ended.code != 0 && engine.standing(scope, &name, &call).await? == Standing::Created {
                engine.tell(&["rm", "--force", &name]).await;
                keeper.leave();
                return Err(not_started(&name, &ended));
            }
            ended
        }
    };
    keeper.ended().await;
    Ok(ended)
}

/// Starts a container that goes on by itself: the engine owns it from then on.
pub(super) async fn detached(scope: Scope<'_>, engine: &Engine, container: Container) -> Result<(), Failure> {
    let standing = created(scope, engine, &container, true).await?;
    let Container { name, stdin, cleanup, .. } = container;
    let feeds = stdin.is_some();
    if standing == Standing::Created {
        let starter = engine.starter(&name, stdin)?;
        if feeds {
            starter.detach(scope)?;
        } else {
            let started = starter.run(scope).await?;
            if started.code != 0 {
                engine.tell(&["rm", "--force", &name]).await;
                return Err(not_started(&name, &started));
            }
        }
    }
    if let Cleanup::Eventually(after) = cleanup {
        let engine = engine.clone();
        scope.core.background.spawn(async move {
            engine.tell(&["wait", &name]).await;
            tokio::time::sleep(after).await;
            engine.tell(&["rm", "--force", &name]).await;
        });
    }
    Ok(())
}

/// Creates the container, or finds the one of this very attempt.
async fn created(
    scope: Scope<'_>,
    engine: &Engine,
    container: &Container,
    removes_itself: bool,
) -> Result<Standing, Failure> {
    // Nothing runs yet, whatever becomes of this.
    let made = engine.create(scope, container, removes_itself).await.map_err(Failure::of_safe_request)?;
    if made.code == 0 {
        return Ok(Standing::Created);
    }
    let Container { name, call, .. } = container;
    let found = engine.standing(scope, name, call).await.map_err(Failure::of_safe_request)?;
    match found {
        Standing::Created | Standing::Begun => Ok(found),
        Standing::Foreign => Err(Failure::configuration(format!(
            "there is another container with the name `{name}`: let the name differ from run to run, or remove the \
             container by `lifetime: {{ cleanup: always }}`"
        ))),
        Standing::Missing => Err(not_started(name, &made)),
    }
}

fn not_started(name: &str, ended: &Ended) -> Failure {
    let said: String = ended.stderr.trim().chars().take(QUOTED).collect();
    Failure::not_sent(Fault::runtime(format!("the container `{name}` was not started: {said}")))
}

impl<'a> Keeper<'a> {
    fn of(scope: Scope<'a>, engine: &'a Engine, container: &Container) -> Self {
        Self { scope, engine, name: container.name.clone(), cleanup: container.cleanup, runs: true }
    }

    /// It is gone already.
    fn leave(&mut self) {
        self.runs = false;
        self.cleanup = Cleanup::Never;
    }

    /// It ended by itself.
    async fn ended(mut self) {
        self.runs = false;
        if self.cleanup == Cleanup::Always {
            self.engine.tell(&["rm", "--force", &self.name]).await;
            self.leave();
        }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        let (engine, name, cleanup) = (self.engine.clone(), self.name.clone(), self.cleanup);
        let background = &self.scope.core.background;
        if self.runs || cleanup == Cleanup::Always {
            // Not given up when everything is closed: nobody else would do it.
            let (engine, name) = (engine.clone(), name.clone());
            let verb: &[&str] = if cleanup == Cleanup::Always { &["rm", "--force"] } else { &["kill"] };
            background.finish(async move { engine.tell(&[verb, &[&name]].concat()).await });
        }
        if let Cleanup::Eventually(after) = cleanup {
            background.spawn(async move {
                tokio::time::sleep(after).await;
                engine.tell(&["rm", "--force", &name]).await;
            });
        }
    }
}
