//! The `dietesp` command.

/// With tens of thousands of Security Associations there are many small allocations. With the settings of
/// `.cargo/config.toml`, jemalloc puts them in large pages, which avoids one page fault per 4 KiB.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    dietesp::cli::main()
}
