//! What `sinew explain` knows: one page for every code that can reach somebody. Texts only.

mod checks;
mod command_line;
mod edge;
mod numbered;
mod problems;

use serde::Serialize;

/// What a code means and what to do about it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Page {
    /// `SNW-1234`, or the code of a problem such as `no-responders`.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    /// Why it happens.
    pub(crate) cause: &'static str,
    /// How to see whether that is the reason.
    pub(crate) check: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

/// Returns every page, in order.
pub(crate) fn pages() -> impl Iterator<Item = &'static Page> {
    numbered::PAGES
        .iter()
        .chain(checks::PAGES)
        .chain(command_line::PAGES)
        .chain(problems::PAGES)
        .chain(edge::PAGES)
}

/// Returns the page of one code; case is ignored.
pub(crate) fn page(code: &str) -> Option<&'static Page> {
    pages().find(|page| page.code.eq_ignore_ascii_case(code))
}

const fn new(
    code: &'static str,
    title: &'static str,
    cause: &'static str,
    check: &'static str,
    remedy: &'static str,
) -> Page {
    Page { code, title, cause, check, remedy }
}

#[cfg(test)]
mod tests;
