//! The commands of tests/cmd, with their output: run from the root of the project.

#[test]
fn commands_print_what_is_written_down() {
    trycmd::TestCases::new().case("tests/cmd/*.toml").env("COLUMNS", "100");
}
