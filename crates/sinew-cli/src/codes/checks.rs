//! Pages of what is doubtful in workflow documents that are otherwise valid.

use super::{Page, new};

pub(super) const PAGES: &[Page] = &[
    new(
        "SNW-2031",
        "no task leads to this one",
        "Every way to it goes elsewhere: the task before it says `then`, ends the workflow, or raises an error.",
        "Follow `then` and the cases of every `switch` from the first task of the list.",
        "Remove the task, or lead to it by `then`.",
    ),
    new(
        "SNW-2032",
        "tasks lead to each other for ever",
        "A `then` leads back, nothing leads out of the circle, and nothing in it waits, so it could only end in an error.",
        "Follow `then` from the place the finding names.",
        "Leave the circle by a `switch` with a condition, or wait in it: for time, a reply or an event.",
    ),
    new(
        "SNW-2033",
        "nothing undoes this work",
        "The workflow is a saga: when it fails later, other tasks are undone and this one stays done.",
        "Ask what its service should do when the rest of the order is cancelled.",
        "Add `compensate:` with a task, `compensate: false` when there is nothing to undo, or `pivot: true` on the point of no return.",
    ),
    new(
        "SNW-2034",
        "an event is published before the pivot",
        "Events cannot be taken back, and until the pivot everything before it may be undone.",
        "Ask what those who hear the event do when the saga is undone afterwards.",
        "Emit it after the pivot, or say `compensate: false` when it is true whatever happens next.",
    ),
    new(
        "SNW-2035",
        "this compensation never runs",
        "Its task comes after the pivot on every way, and nothing is undone once the pivot completed.",
        "Find `pivot: true` before it.",
        "Remove `compensate`, or move the pivot behind the task.",
    ),
    new(
        "SNW-2036",
        "a compensation reads an output that may be unknown",
        "A task whose reply was late or lost is undone too, and then its output is null.",
        "Run the workflow with that reply lost, and look at what the compensation sends.",
        "Name what is undone by `$task.idempotencyKey` or `$input`, give a default with `//`, or skip it with `if`.",
    ),
    new(
        "SNW-2037",
        "a compensation reads what is gone",
        "Variables of loops and of `catch` end with them, and `$output` belongs to the compensation itself.",
        "Compensations see `.` (the output of what they undo), `$input`, `$context`, `$error`, `$saga`, `$task` and `$workflow`.",
        "Keep what is needed in the output of the task with `output.as`, and read it from `.`.",
    ),
    new(
        "SNW-2038",
        "a call is repeated, but its contract is not idempotent",
        "A retry or a compensation sends it again after a reply was lost, and its contract does not promise that this is harmless.",
        "Look at the operation in the catalogue.",
        "Let the service do it once per idempotency key and declare it `idempotent`, or do not retry it.",
    ),
    new(
        "SNW-2039",
        "the service has no such operation",
        "Its contract is known and does not name the operation: a misspelling, or an older version is deployed.",
        "Look at the operations of the service in the catalogue.",
        "Correct the name, or deploy the service that has it first.",
    ),
];
