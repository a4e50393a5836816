//! What the compiler says to somebody who used the derives wrongly. The texts next to the cases are the promise.
//!
//! `TRYBUILD=overwrite` writes the texts anew; read them before they are committed.

#[test]
fn compile_errors_say_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/correct.rs");
    cases.compile_fail("ui/*/*.rs");
}
