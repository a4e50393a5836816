//! Files of forms, stored before the request that names them is sent.

use futures::{TryStreamExt, stream};
use sinew::{Deadline, Error, Kind, bus::Objects};

use crate::{
    Edge,
    form::Form,
    problem::{self, Refusal},
};

/// Files on their way to the store at once, of one form.
const AT_ONCE: usize = 4;

/// Stores every file of a form in the bucket the configuration names. Whoever takes the request forgets them.
///
/// # Errors
/// As the bus reports; 504 when it takes longer than the client waits.
pub(crate) async fn store(edge: &Edge, form: &Form, deadline: Deadline) -> Result<(), Refusal> {
    if form.files.is_empty() {
        return Ok(());
    }
    let storing = async {
        let objects = bucket(edge).await?;
        let files = stream::iter(form.files.iter().map(Ok::<_, Error>));
        files.try_for_each_concurrent(AT_ONCE, |file| objects.put(&file.object, &file.bytes)).await
    };
    let limit = deadline.within(edge.config.request_timeout());
    let late = |_| Err(Error::new(Kind::TimedOut, "the files are not known to be stored"));
    let stored = tokio::time::timeout(limit, storing).await.unwrap_or_else(late);
    // Storing once more is a new object: nothing is done twice.
    stored.map_err(|error| problem::of_bus(&error, true).into())
}

async fn bucket(edge: &Edge) -> Result<&Objects, Error> {
    let config = &edge.config;
    edge.files.get_or_try_init(|| edge.bus.objects(&config.files_bucket, config.files_replicas)).await
}
