//! Why no SA decrypts a packet: for each SA what would have to be different.

use std::net::IpAddr;

use crate::bits;
use crate::decoder::arena::{Arena, Tries};
use crate::decoder::outcome::Outcome;
use crate::net::{LinkAddress, LinkAddresses, OuterHeader, Selector};
use crate::sa::table::{PreparedSa, SaTable};

/// An SA that did not decrypt a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name.
    pub sa: String,
    /// Whether the cipher was tried.
    pub tried: bool,
    /// How often.
    pub tries: u64,
    /// What would have to be different.
    pub reason: String,
}

/// The packet that none decrypted.
struct Packet<'a> {
    protocol: u8,
    outer: OuterHeader,
    link: LinkAddresses,
    payload: &'a [u8],
    missing: usize,
}

/// All SAs, in file order; `None` if the packet has no ESP payload. `place` is the number of the frame and the position of
/// the packet in it.
pub(super) fn of(table: &SaTable, outcome: &Outcome<'_>, place: (u64, usize), arena: &Arena) -> Option<Vec<Candidate>> {
    let esp = outcome.payload(table)?;
    let packet = Packet {
        protocol: esp.protocol,
        outer: outcome.outer()?,
        link: outcome.link_addresses().unwrap_or_default(),
        payload: esp.bytes,
        missing: esp.missing,
    };
    let of_packet = |tries: &&Tries| (tries.frame, tries.part) == place;
    let tries_of = |sa: usize| {
        let own = arena.tries.iter().filter(of_packet).find(|tries| tries.sa as usize == sa);
        own.map_or(0, |own| own.tries)
    };
    let candidate = |(index, entry): (usize, &PreparedSa)| {
        let excluded = packet.excludes(entry);
        let (tried, tries) = (excluded.is_none(), if excluded.is_none() { tries_of(index) } else { 0 });
        let reason = excluded.unwrap_or_else(|| not_authentic(entry, tries));
        Candidate { sa: entry.sa.name.clone(), tried, tries, reason }
    };
    Some(table.entries().iter().enumerate().map(candidate).collect())
}

impl Packet<'_> {
    /// Why the cipher of an SA is not tried.
    fn excludes(&self, entry: &PreparedSa) -> Option<String> {
        self.other_protocol(entry)
            .or_else(|| self.other_addresses(entry))
            .or_else(|| self.other_header(entry))
            .or_else(|| self.other_length(entry))
    }

    fn other_protocol(&self, entry: &PreparedSa) -> Option<String> {
        let (own, got) = (entry.protocol, self.protocol);
        (own != got).then(|| format!("the IP protocol would have to be {own} (`protocol` of the context), not {got}"))
    }

    fn other_addresses(&self, entry: &PreparedSa) -> Option<String> {
        let OuterHeader { src, dst, .. } = self.outer;
        let address = |name, selector: Selector, got: IpAddr| {
            (!selector.accepts(got)).then(|| format!("{name} would have to be {}, not {got}", selector_text(selector)))
        };
        let link_address = |name, wanted: Option<LinkAddress>, got: Option<LinkAddress>| {
            let got_text = got.map_or("absent".to_owned(), |got| got.to_string());
            wanted.filter(|_| wanted != got).map(|wanted| format!("{name} would have to be {wanted}, not {got_text}"))
        };
        let all = [
            address("src", entry.sa.src, src),
            address("dst", entry.sa.dst, dst),
            link_address("link_src", entry.sa.link_src, self.link.src),
            link_address("link_dst", entry.sa.link_dst, self.link.dst),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// RuleID and SPI bits, as far as the packet has them.
    fn other_header(&self, entry: &PreparedSa) -> Option<String> {
        let mut at = 0;
        if let Some(rule_id) = entry.codec.header_rule_id() {
            let got = bits::read(self.payload, 0, 8)? as u8;
            if got != rule_id {
                return Some(format!("the first byte would have to be RuleID {rule_id:02x}, not {got:02x}"));
            }
            at = 8;
        }
        let spi = entry.codec.spi_residue(entry.spi()?).ok()?;
        let count = usize::from(entry.codec.spi_bits());
        let has = count.min((self.payload.len() * 8).saturating_sub(at));
        let wanted = u128::from(spi) >> (count - has);
        let got = bits::read(self.payload, at, has)?;
        if wanted == got {
            return None;
        }
        Some(match has {
            32 => format!("the SPI would have to be 0x{wanted:08x}, not 0x{got:08x}"),
            _ => format!("the SPI bits would have to be {wanted:0has$b}, not {got:0has$b}"),
        })
    }

    fn other_length(&self, entry: &PreparedSa) -> Option<String> {
        let (len, least) = (self.payload.len(), entry.least_len());
        if self.missing > 0 {
            let whole = len + self.missing;
            return Some(format!("the capture would have to have all {whole} bytes; {len} were captured"));
        }
        if len < least {
            return Some(format!("header, IV and ICV would have to be {least} bytes or more, the packet has {len}"));
        }
        let (encrypted, block) = (len - least, entry.block());
        (block > 1 && !encrypted.is_multiple_of(block))
            .then(|| format!("the encrypted part would have to be a multiple of {block} bytes, it has {encrypted}"))
    }
}

fn selector_text(selector: Selector) -> String {
    match selector {
        Selector::Any => "any".to_owned(),
        Selector::Prefix { address, .. } if Selector::address(address) == selector => address.to_string(),
        Selector::Prefix { address, len } => format!("{address}/{len}"),
    }
}

/// Why an SA that was tried does not decrypt a packet.
fn not_authentic(entry: &PreparedSa, tries: u64) -> String {
    const OTHER: &str = "key, salt, cipher, ICV length or esn would have to be different, or the packet was changed";
    if !entry.authenticates() {
        return "the SA has no integrity check, and the padding would have to be 1, 2, 3, ...".to_owned();
    }
    if entry.has_whole_sn() || tries <= 1 {
        return format!("the ICV does not verify: {OTHER}");
    }
    format!("the ICV verifies with none of {tries} sequence numbers: {OTHER}, or the number is farther away (--resync)")
}
