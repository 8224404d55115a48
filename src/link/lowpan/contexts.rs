//! Contexts of address compression (RFC 6282 §3.1.2): given by a rule file, or learned from router advertisements
//! (RFC 6775 §4.2).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// The network in which a context is valid: a PAN or a Bluetooth connection. `None` if it is not known.
pub(in crate::link) type Network = Option<u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    /// The prefix as an address. The bits after the prefix are 0.
    pub prefix: u128,
    /// Prefix length in bits.
    pub len: u8,
}

impl Context {
    /// Used instead of an unknown context: all zeros.
    pub(super) const UNKNOWN: Context = Context { prefix: 0, len: 0 };

    fn new(prefix: u128, len: u8) -> Context {
        let len = len.min(128);
        Context { prefix: prefix & mask(len), len }
    }

    /// The address that starts with this prefix and continues with the bits of `rest`.
    pub(super) fn address(self, rest: u128) -> u128 {
        self.prefix | rest & !mask(self.len)
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// Most contexts that are kept, of all networks together.
const MAX_LEARNED: usize = 1024;

/// The contexts. Those from rule files are valid in all networks, learned ones only in one.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    given: [Option<Context>; 16],
    learned: Vec<(Network, u8, Context)>,
}

impl Contexts {
    pub(super) fn new(given: &BTreeMap<u8, (Ipv6Addr, u8)>) -> Contexts {
        let mut contexts = Contexts::default();
        for (id, (prefix, len)) in given {
            if let Some(slot) = contexts.given.get_mut(usize::from(*id)) {
                *slot = Some(Context::new(u128::from(*prefix), *len));
            }
        }
        contexts
    }

    /// The context `id` in `network`. If the frame does not name its network, all networks must agree on the
    /// context.
    pub(super) fn get(&self, network: Network, id: u8) -> Option<Context> {
        let given = self.given.get(usize::from(id)).copied().flatten();
        let of = |other: &Network| *other == network;
        let learned = |fits: &dyn Fn(&Network) -> bool| {
            let mut all = self.learned.iter().filter(|(network, own, _)| *own == id && fits(network));
            let (_, _, first) = all.next()?;
            all.all(|(_, _, context)| context == first).then_some(*first)
        };
        given.or_else(|| learned(&of)).or_else(|| learned(&|other| other.is_none() || network.is_none()))
    }

    /// Learns from the body of a router advertisement: the contexts of its 6CO options (RFC 6775 §4.2), except
    /// those that a rule file defines.
    pub(super) fn learn(&mut self, network: Network, advertisement: &[u8]) -> Result<(), Fault> {
        const ADVERTISEMENT_LEN: usize = 16;
        const SIXCO: u8 = 34;
        let mut reader = Reader::new(Stage::Link, "router advertisement", advertisement);
        reader.take(ADVERTISEMENT_LEN)?;
        while reader.left() > 0 {
            let (kind, value) = option(&mut reader)?;
            let (SIXCO, [len, flags, _, _, l1, l0, prefix @ ..]) = (kind, value) else { continue };
            let mut address = [0; 16];
            address.iter_mut().zip(prefix).for_each(|(to, from)| *to = *from);
            let id = flags & 0xf;
            if usize::from(*len).div_ceil(8) > prefix.len() {
                continue;
            }
            self.learned.retain(|(other, own, _)| (*other, *own) != (network, id));
            // A Valid Lifetime of 0 revokes the context.
            if [*l1, *l0] != [0, 0] {
                if self.learned.len() >= MAX_LEARNED {
                    self.learned.remove(0);
                }
                self.learned.push((network, id, Context::new(u128::from_be_bytes(address), *len)));
            }
        }
        Ok(())
    }
}

/// The next option of a Neighbor Discovery message (RFC 4861 §4.6): its type, and the bytes after its length field.
pub(super) fn option<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), Fault> {
    let (kind, units) = (reader.u8()?, reader.u8()?);
    let Some(len) = (usize::from(units) * 8).checked_sub(2) else {
        return Err(Fault::value(Stage::Link, reader.position(), "option length", 0, "1 or more"));
    };
    Ok((kind, reader.take(len)?))
}
