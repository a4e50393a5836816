//! Integration tests of every role against real nats-servers, in one binary. Modules in reading order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what went wrong by panicking, in its helpers too"
)]

mod harness;

mod broker;
mod cli;
mod derives;
mod edge;
mod faults;
mod roles;
mod sdk;
mod traces;
mod ui;
mod workflow;
