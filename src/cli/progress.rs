//! A progress bar on standard error, shown only on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far a capture has been read.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over `total` bytes, or a counter where the total is not known; nothing if quiet, or if standard error is
    /// no terminal, or if `results_on_terminal` (rows would run into the bar).
    pub fn new(quiet: bool, total: Option<u64>, results_on_terminal: bool) -> Progress {
        if quiet || results_on_terminal || !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = match total {
            Some(total) => {
                ProgressBar::new(total).with_style(style("{bar:40} {percent:>3} %  {binary_bytes_per_sec}  {eta} left"))
            }
            None => ProgressBar::no_length().with_style(style("{binary_bytes}  {binary_bytes_per_sec}")),
        };
        Progress(Some(bar))
    }

    /// `position` bytes have been read.
    pub fn at(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
