//! The commands: what each does with the packets of a capture.

pub(crate) mod compress;
pub(crate) mod convert;
pub(crate) mod decode;
mod frame_batch;
mod frame_writer;
mod held_frames;
pub(crate) mod sa;
mod seal_queue;
pub(crate) mod show;

use crate::decoder::esp_packet::explicit_iv;
use crate::decoder::outcome::Outcome;
use crate::sa::table::{PreparedSa, SaTable};

/// The IV of a packet of the input, sent or implicit, if it is 8 bytes long.
fn input_iv(outcome: &Outcome<'_>, entry: &PreparedSa, table: &SaTable) -> Option<u64> {
    let implicit = || outcome.esp.filter(|_| entry.cipher().suite().implicit_iv).map(|esp| esp.sequence);
    outcome.payload(table).and_then(|payload| explicit_iv(entry, payload.bytes)).or_else(implicit)
}
