//! Builds the packet that replaces a packet of the capture.

use super::Convert;
use super::decide::Action;
use super::frame::NotReplaced;
use crate::command::seal_queue::SealQueue;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::link;
use crate::net::{esp, protocol};

impl Convert<'_, '_> {
    /// Appends the frame of `outcome` with standard ESP, which `seal_queue` encrypts later if necessary, or with
    /// the restored packet of `innermost`.
    pub(super) fn append_frame(
        &self,
        (outcome, innermost): (&Outcome<'_>, &Outcome<'_>),
        arena: &Arena,
        action: &Action,
        seal_queue: &mut SealQueue,
        out: &mut Vec<u8>,
    ) -> Result<(), NotReplaced> {
        match action {
            Action::Keep | Action::Hold | Action::Omit => return Err(NotReplaced::Kept),
            Action::Plain => {
                return Ok(link::append(outcome.link_type, outcome.link_header(), innermost.packet(arena), out)?);
            }
            Action::HeaderOnly | Action::ExplicitIv | Action::Sealed(_) => {}
        }
        let Some(payload) = outcome.payload(self.table) else { return Err(NotReplaced::Kept) };
        let (Some(headers), Some(esp)) = (outcome.headers(), outcome.esp) else { return Err(NotReplaced::Kept) };
        let protocol = if payload.udp_header.is_some() { protocol::UDP } else { protocol::ESP };
        let start = out.len();
        let begun = link::begin(outcome.link_header(), headers, protocol, payload.udp_header, out);
        esp::write_header(esp.spi, esp.sequence, out);
        match action {
            Action::Sealed(iv) => self.append_sealed(outcome, arena, iv, seal_queue, out)?,
            _ => {
                if matches!(action, Action::ExplicitIv) {
                    out.extend_from_slice(&esp.sequence.to_be_bytes());
                }
                let Some(entry) = outcome.sa.and_then(|sa| self.table.entry(sa)) else { return Err(NotReplaced::Kept) };
                out.extend_from_slice(payload.bytes.get(entry.header_len()..).unwrap_or_default());
            }
        }
        match begun.finish(out) {
            Ok(checksum) => seal_queue.push_checksum(checksum),
            Err(fault) => {
                seal_queue.remove_from(start);
                return Err(fault.into());
            }
        }
        Ok(())
    }

    /// Appends IV, clear text and room for the ICV of standard ESP.
    #[inline]
    fn append_sealed(
        &self,
        outcome: &Outcome<'_>,
        arena: &Arena,
        iv: &[u8; 16],
        seal_queue: &mut SealQueue,
        out: &mut Vec<u8>,
    ) -> Result<(), NotReplaced> {
        let (Some(sa), Some(esp)) = (outcome.sa, outcome.esp) else { return Err(NotReplaced::Kept) };
        let Some(sealer) = self.conversions.sealer(sa) else { return Err(NotReplaced::Kept) };
        let cipher = &sealer.cipher;
        let iv = iv.get(..cipher.iv_len()).unwrap_or_default();
        seal_queue.push((sa, esp.spi, esp.sequence), iv, cipher.icv_len(), out, |clear| {
            let start = clear.len();
            let next_header = outcome.protected(arena, clear);
            esp::write_trailer(start, next_header, cipher.block(), clear);
        });
        Ok(())
    }
}
