//! Inputs too large for a message: the caller puts them beside it, and the request says where they are.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_wire::{ContentType, decode, encode};

use super::{StartWorkflow, WorkflowError, WorkflowInstance};
use crate::{Bus, CallError, Ctx, Error, bus::Object};

/// The object bucket that inputs are put into; the orchestrator makes it.
pub const INPUTS: &str = "WORKFLOW_INPUTS";
/// Room in a message for headers.
const HEADERS: usize = 16 * 1024;

/// Where the input of a start is, in the object bucket `WORKFLOW_INPUTS`: one MessagePack value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputReference {
    /// Its name in the bucket.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as 64 hexadecimal digits.
    pub digest: String,
}

impl StartWorkflow {
    /// Starts the instance, however large its input is: what does not fit into a message is stored first, in an object
    /// bucket of the server, and forgotten when the start is answered, at the latest after a day.
    ///
    /// ```no_run
    /// # async fn demo(ctx: sinew::Ctx, scans: serde_json::Value) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use sinew::workflow::StartWorkflow;
    ///
    /// let start = StartWorkflow::new("file-scans", scans).id("scans-7").without_waiting();
    /// let instance = start.send(&ctx, Duration::from_secs(30)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As a call within `limit`. The orchestrator refuses an input beyond its `max_value_bytes`, 16 MiB where nothing else
    /// is set.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the instance began; sending it again with the same id is harmless.
    pub async fn send(
        self,
        ctx: &Ctx,
        limit: Duration,
    ) -> Result<WorkflowInstance, CallError<WorkflowError>> {
        let whole =
            encode(ContentType::MessagePack, &self).map_err(|error| CallError::NotSent(error.into()))?;
        if whole.len() + HEADERS <= ctx.bus().max_payload() {
            return ctx.call(self).within(limit).await;
        }
        let (object, request) = self.aside(ctx.bus()).await.map_err(CallError::NotSent)?;
        let answer = ctx.call(request).within(limit).await;
        // Who does not know whether it began may send it again.
        if matches!(answer, Ok(_) | Err(CallError::Refused(_)))
            && let Err(error) = ctx.bus().known_objects(INPUTS).delete(&object).await
        {
            tracing::debug!(%error, "an input is left to be forgotten by its age");
        }
        answer
    }

    /// Stores the input.
    async fn aside(mut self, bus: &Bus) -> Result<(Object, Self), Error> {
        let value = encode(ContentType::MessagePack, &std::mem::take(&mut self.input))?;
        let object = Object::of(crate::new_id(), &value);
        bus.known_objects(INPUTS).put(&object, &value).await?;
        let Object { id, size, digest } = object.clone();
        self.input_at = Some(InputReference { id, size, digest });
        Ok((object, self))
    }
}

impl InputReference {
    /// Reads the input; `None` where it does not stand, or not whole.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or holds something else.
    pub async fn read(&self, bus: &Bus) -> Result<Option<Value>, Error> {
        let Self { id, size, digest } = self.clone();
        let value: Option<Bytes> = bus.known_objects(INPUTS).get(&Object { id, size, digest }).await?;
        value.map(|value| Ok(decode(ContentType::MessagePack, &value)?)).transpose()
    }
}
