//! The `dietesp` command.

/// Tens of thousands of Security Associations are several small pieces of memory each. This one takes them from large
/// pages (see `.cargo/config.toml`), where the small pages of the system's cost a fault of the processor each.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    dietesp::cli::main()
}
