//! The testing kit.

mod server;
