//! Runs the commands of tests/cmd in the root of the project, and compares their output.

#[test]
fn commands_print_the_recorded_output() {
    trycmd::TestCases::new().case("tests/cmd/*.toml").env("COLUMNS", "100");
}
