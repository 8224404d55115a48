//! The terminal that results are printed to.

/// Columns of standard output; 80 if it is no terminal.
pub(super) fn width() -> usize {
    const PIPE: usize = 80;
    columns().unwrap_or(PIPE)
}

/// Columns of standard output; `None` if it is no terminal.
pub(super) fn columns() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}
