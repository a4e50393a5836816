#[test]
fn compile_errors_say_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("../../tests/ui/correct.rs");
    cases.compile_fail("../../tests/ui/*/*.rs");
}
