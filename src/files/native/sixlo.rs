//! Attributes of dialect `6lo` (draft-mglt-6lo-diet-esp and the slides of 2016, wire format §4).

use super::ehc::bytes;
use super::fields::Fields;
use super::ietf::{alignment, one_of};
use super::rules::Attributes;
use crate::context::{Context, Dialect, Mode, SixLo};
use crate::error::Error;
use crate::files::values::value_error;

/// Reads the attributes that only this dialect has.
pub(crate) fn attributes(fields: &mut Fields, _: Mode) -> Result<Attributes, Error> {
    let standard = SixLo::default();
    const PRESENT: [(&str, bool); 2] = [("present", true), ("removed", false)];
    let sixlo = SixLo {
        spi_bytes: bytes(fields, "SPI_SIZE", standard.spi_bytes)?,
        sn_bytes: bytes(fields, "SN_SIZE", standard.sn_bytes)?,
        next_header: one_of(fields, "NH", &PRESENT, standard.next_header)?,
        pad: one_of(fields, "PAD", &PRESENT, standard.pad)?,
        align: fields.optional("ALIGN", alignment)?.unwrap_or(standard.align),
    };
    if !sixlo.pad && sixlo.align > 1 {
        let wrong = value_error("alignment requires padding", "add `ALIGN: 8`, or keep the padding");
        return match fields.entry("PAD") {
            Some(entry) => Err(fields.wrong(entry, wrong)),
            None => Err(fields.missing("PAD", "")),
        };
    }
    // The inner packet is sent uncompressed, so its version field shows the IP version.
    Ok(Attributes { dialect: Dialect::SixLo(sixlo), needs_version: false })
}

/// Checks what depends on the selectors.
pub(crate) fn check(context: &Context, fields: &mut Fields) -> Result<(), Error> {
    let Dialect::SixLo(SixLo { next_header: false, .. }) = context.dialect else { return Ok(()) };
    if context.mode == Mode::Transport && context.selectors.protocol.is_none() {
        let help = "`NH: removed` in transport mode needs it: the one protocol of this SA";
        return Err(fields.missing("ts_proto", help));
    }
    Ok(())
}
