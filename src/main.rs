//! The `dietesp` command.

/// Tens of thousands of Security Associations are several small pieces of memory each. Built as `.cargo/config.toml` says
/// it takes them from large pages, where the small ones of the system's allocator cost a fault of the processor each.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    dietesp::cli::main()
}
