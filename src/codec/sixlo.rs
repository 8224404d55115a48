//! Dialect `6lo`: draft-mglt-6lo-diet-esp and the slides of 2016 (wire format §4). It compresses only the ESP
//! header and trailer.

use super::inner::{InnerRules, addresses, limits, ports};
use super::trailer::{NextHeader, Trailer};
use super::{Codec, EspHeader, NamedRule};
use crate::context::{Context, Mode, SixLo};
use crate::schc::RuleError;
use crate::schc::fields::{ESP_NXT, ESP_PAD};

/// Compiles a context for a cipher of `cipher_block` bytes.
pub(super) fn compile(context: &Context, sixlo: &SixLo, cipher_block: usize) -> Result<Codec, RuleError> {
    let Context { mode, selectors, .. } = context;
    if !sixlo.pad && (sixlo.align > 1 || cipher_block > 1) {
        let problem = "`PAD: removed` needs `ALIGN: 8` and a cipher without blocks";
        return Err(RuleError { field: ESP_PAD, problem });
    }
    if !sixlo.next_header && *mode == Mode::Transport && selectors.protocol.is_none() {
        let problem = "`NH: removed` in transport mode needs a single `ts_proto`";
        return Err(RuleError { field: ESP_NXT, problem });
    }
    Ok(Codec {
        header: EspHeader::low_bits(sixlo.spi_bytes * 8, sixlo.sn_bytes * 8),
        trailer: trailer(sixlo, cipher_block),
        inner: InnerRules {
            addresses: selectors.version.map_or_else(|| [].into(), |version| limits(addresses(selectors, version))),
            ports: limits(ports(selectors)),
            ..InnerRules::uncompressed(Some(*mode), selectors.version, selectors.protocol)
        },
    })
}

/// The rules of a context as data. The inner packet is sent unchanged.
pub(super) fn tables(context: &Context, sixlo: &SixLo, cipher_block: usize) -> Vec<NamedRule> {
    vec![
        NamedRule { name: "ctec", rule: trailer(sixlo, cipher_block).table(context) },
        NamedRule { name: "eec", rule: EspHeader::low_bits(sixlo.spi_bytes * 8, sixlo.sn_bytes * 8).table() },
    ]
}

fn trailer(sixlo: &SixLo, cipher_block: usize) -> Trailer {
    Trailer {
        rule_id: None,
        pad: sixlo.pad,
        next_header: if sixlo.next_header { NextHeader::Sent } else { NextHeader::Elided },
        // Both are powers of 2.
        align: cipher_block.max(sixlo.align.into()),
        uncounted: 0,
    }
}
