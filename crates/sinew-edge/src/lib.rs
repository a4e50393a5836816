//! Placeholder while the crate is founded.
