//! Builds a frame with ESP that will be encrypted later.

use crate::command::seal_queue::SealQueue;
use crate::decoder::outcome::Outcome;
use crate::encoder::{ClearTexts, HeadersBeforeEsp, TextSpan, outer_header};
use crate::error::{Fault, Stage};
use crate::link::{self, UdpChecksum};
use crate::net::{esp, protocol};
use crate::sa::table::{PreparedSa, SaTable};

/// An ESP packet of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputEsp {
    /// Its SA in the output.
    pub sa: u32,
    /// For a plain packet: the SA whose outer header it gets.
    pub carrier: Option<u32>,
    /// For a plain packet in transport mode: the headers before ESP.
    pub in_front: Option<HeadersBeforeEsp>,
    pub content: Content,
    /// The clear text to encrypt.
    pub clear: TextSpan,
    /// Bytes of the packet that standard ESP would protect.
    pub protected_len: u32,
    pub sn: u64,
    /// The IV, left-aligned. The cipher uses as many bytes as it needs.
    pub iv: u128,
}

/// What follows an ESP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// IV, ciphertext and ICV of the input.
    Unchanged,
    /// The compressed clear text, encrypted.
    Compressed,
    /// The clear text of standard ESP, encrypted.
    Standard,
}

impl OutputEsp {
    /// Number of bytes from the ESP header to the ICV.
    pub(super) fn len(&self, output: &SaTable) -> usize {
        let Some(to) = output.entry(self.sa) else { return 0 };
        let header_len = if self.content == Content::Standard { esp::HEADER_LEN } else { to.header_len() };
        header_len + to.least_len() - to.header_len() + self.clear.len()
    }

    /// Appends a frame with this ESP packet in place of the packet of `outcome`. The ESP is encrypted later, by
    /// `seal_queue`.
    pub(super) fn append_frame(
        &self,
        outcome: &Outcome<'_>,
        tables: (&SaTable, &SaTable),
        texts: &ClearTexts,
        seal_queue: &mut SealQueue,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        let append_esp = |out: &mut Vec<u8>| self.append_esp(outcome, tables, texts, seal_queue, out);
        match self.append_around(outcome, tables, append_esp, out) {
            Ok(checksum) => seal_queue.push_checksum(checksum),
            Err(fault) => {
                seal_queue.remove_from(start);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Appends ESP that will be encrypted later.
    #[inline]
    fn append_esp(
        &self,
        outcome: &Outcome<'_>,
        (input, output): (&SaTable, &SaTable),
        texts: &ClearTexts,
        seal_queue: &mut SealQueue,
        out: &mut Vec<u8>,
    ) {
        let Some(to) = output.entry(self.sa) else { return };
        let spi = to.spi().unwrap_or(0);
        match self.content {
            Content::Standard => esp::write_header(spi, self.sn, out),
            Content::Compressed | Content::Unchanged => to.codec.encode_header(spi, self.sn, out),
        }
        if self.content == Content::Unchanged {
            return out.extend_from_slice(after_header(outcome, input));
        }
        let iv = self.iv.to_be_bytes();
        let iv = iv.get(..to.iv_len()).unwrap_or_default();
        seal_queue.push((self.sa, spi, self.sn), iv, to.cipher().icv_len(), out, |out| {
            out.extend_from_slice(texts.get(self.clear));
        });
    }

    /// Appends the headers of the frame and the ESP from `append_esp`, then fills in lengths and checksums. Returns
    /// the UDP checksum that must be written after ESP is encrypted.
    #[inline]
    pub(super) fn append_around(
        &self,
        outcome: &Outcome<'_>,
        (input, output): (&SaTable, &SaTable),
        append_esp: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> Result<Option<UdpChecksum>, Fault> {
        let protocol = match self.content {
            Content::Standard => protocol::ESP,
            _ => output.entry(self.sa).map_or(protocol::ESP, |to| to.protocol),
        };
        let tunnel: Option<&PreparedSa> = self.carrier.and_then(|sa| output.entry(sa)).filter(|to| to.is_tunnel());
        let new_outer = tunnel.and_then(|to| outer_header(to, &outcome.datagram()?.outer));
        let begun = match new_outer {
            Some(outer) => link::begin_encapsulated(outcome.link_type, outcome.link_header(), &outer, protocol, out)?,
            None => {
                let no_packet = || Fault::unsupported(Stage::Link, 0, "there is no IP packet");
                let mut headers = outcome.headers().ok_or_else(no_packet)?;
                if let Some(HeadersBeforeEsp { len, protocol_offset }) = self.in_front {
                    headers = (headers.0.get(..len as usize).unwrap_or(headers.0), protocol_offset as usize);
                }
                let udp = if self.carrier.is_none() { outcome.udp_header(input) } else { None };
                let protocol = if udp.is_some() { protocol::UDP } else { protocol };
                link::begin(outcome.link_header(), headers, protocol, udp, out)
            }
        };
        append_esp(out);
        begun.finish(out)
    }
}

/// IV, ciphertext and ICV of an ESP packet of the input.
fn after_header<'i>(outcome: &'i Outcome<'_>, input: &SaTable) -> &'i [u8] {
    let from = outcome.sa.and_then(|sa| input.entry(sa));
    let rest = from.zip(outcome.payload(input)).and_then(|(from, payload)| payload.bytes.get(from.header_len()..));
    rest.unwrap_or_default()
}
