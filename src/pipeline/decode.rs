//! decode: a record of every captured frame.

use super::intake::Intake;
use super::open::Limits;
use crate::capture::{Reader, Window};
use crate::error::Error;
use crate::link;
use crate::report::record::Record;
use crate::report::totals::Totals;
use crate::sa::table::SaTable;

/// What [`run`] tells its caller.
#[derive(Debug)]
pub enum Event<'a> {
    /// The record of the next frame.
    Record(&'a Record<'a>),
    /// All that has been read so far has its record.
    WindowDone {
        /// Bytes of the input read so far.
        bytes_read: u64,
    },
}

/// Reads a capture to its end. `tell` gets every record in capture order and may end the run with an error.
pub fn run(
    reader: &mut Reader,
    table: &SaTable,
    limits: Limits,
    link: &link::Settings,
    mut tell: impl FnMut(Event<'_>) -> Result<(), Error>,
) -> Result<Totals, Error> {
    let mut intake = Intake::new(table, limits, link);
    let mut window = Window::default();
    let mut totals = Totals::default();
    while reader.fill(&mut window)? {
        intake.survey(&window);
        for packet in window.packets() {
            let seen = intake.take(&packet);
            let record = seen.record(&packet, table);
            totals.count(&record, seen.opened.of_known_sa);
            tell(Event::Record(&record))?;
        }
        tell(Event::WindowDone { bytes_read: reader.bytes_read() })?;
    }
    Ok(totals)
}
