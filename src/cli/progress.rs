//! A progress bar on standard error, shown only on a terminal.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Shows how far a capture has been read.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over `total` bytes, or a counter if the total is unknown. Shows nothing if `quiet`, if standard error is
    /// not a terminal, or if `results_on_terminal`, because rows would overwrite the bar.
    pub(super) fn new(quiet: bool, total: Option<u64>, results_on_terminal: bool) -> Progress {
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
    pub(super) fn at(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows the progress of a resync search on a terminal, at most about three times a second. Removes the line at the end
/// of the search.
pub(super) fn search(tried: u64, all: u64) {
    /// When the search began, when its progress was last shown, and the numbers tried so far.
    static SEARCH: Mutex<Option<(Instant, Option<Instant>, u64)>> = Mutex::new(None);
    if !std::io::stderr().is_terminal() {
        return;
    }
    let Ok(mut search) = SEARCH.lock() else { return };
    let now = Instant::now();
    // A smaller count means that another search has begun.
    let (start, told, _) = search.filter(|(_, _, before)| tried >= *before).unwrap_or((now, None, 0));
    if tried >= all {
        *search = None;
        if told.is_some() {
            super::report(false, "\r\x1b[K");
        }
        return;
    }
    *search = Some((start, told, tried));
    if now.duration_since(told.unwrap_or(start)) >= Duration::from_millis(300) {
        *search = Some((start, Some(now), tried));
        let per_second = tried as f64 / now.duration_since(start).as_secs_f64().max(0.001);
        let left = (all - tried) as f64 / per_second;
        let left = Duration::try_from_secs_f64(left)
            .map_or("an unknown time".to_owned(), |left| HumanDuration(left).to_string());
        super::report(false, &format!("\rsearching: {tried} of {all} sequence numbers, {left} left\x1b[K"));
    }
}
