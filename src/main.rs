//! The `dietesp` command.

fn main() -> std::process::ExitCode {
    dietesp::main()
}
