//! The `dietesp` command.

fn main() -> std::process::ExitCode {
    dietesp::cli::main()
}
