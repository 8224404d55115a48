//! `dietesp rules apply --sa`: the rules of a context, applied to whole packets.

use std::path::{Path, PathBuf};

use super::apply::{Answer, FieldAnswer, Taken};
use super::show::sa_name;
use crate::codec::apply::digits;
use crate::codec::explain::{AfterHeaders, Explanation, OpenedPacket, Origin, ResidueRow, RowStage};
use crate::codec::{Codec, Mismatch, State};
use crate::context::{Context, Mode};
use crate::error::Error;
use crate::files;
use crate::net::{IpHeaders, IpVersion, OuterHeader};

/// No key file is given. Inner headers do not depend on the cipher.
const CIPHER_BLOCK: usize = 1;

/// The rules of one context, and the state of both ends of its stream.
pub(super) struct ContextRules {
    path: PathBuf,
    context: Context,
    codec: Codec,
    sender: State,
    receiver: State,
}

impl ContextRules {
    /// Loads the context of the SA `name` from a rule file.
    pub(super) fn load(path: &Path, name: &str) -> Result<ContextRules, Error> {
        let loaded = files::load(&[], &[path.to_owned()])?;
        let names: Vec<String> = loaded.contexts.iter().map(sa_name).collect();
        let context = loaded.contexts.into_iter().find(|context| sa_name(context) == name);
        let context = context.ok_or_else(|| {
            let help = format!("select one with --sa: {}", names.join(", "));
            Error::file(path, format!("there is no context of SA {name}"), help)
        })?;
        let codec = Codec::new(Some(&context), CIPHER_BLOCK)?;
        Ok(ContextRules { path: path.to_owned(), context, codec, sender: State::default(), receiver: State::default() })
    }

    /// Compresses and restores one packet.
    pub(super) fn apply(&mut self, packet: &[u8]) -> Result<Answer, Error> {
        let Some(outer) = self.outer(packet) else { return Ok(not_matching("the packet", "is no IP packet")) };
        let mut clear = vec![];
        let compressed = match self.codec.compress(packet, &outer, &mut self.sender, &mut clear) {
            Ok(compressed) => compressed,
            Err(mismatch) => return Ok(mismatching(&mismatch)),
        };
        let header = packet.get(..compressed.payload_offset).unwrap_or_default();
        let headers = IpHeaders { outer: &outer, header, protocol_offset: compressed.protocol_offset };
        let mut restored_packet = vec![];
        let defect = |problem: String| Error::file(&self.path, problem, "please report this");
        let restored = self.codec.restore(&clear, &headers, &mut self.receiver, &mut restored_packet);
        let restored = restored.map_err(|fault| defect(fault.to_string()))?;
        let opened = OpenedPacket {
            payload: &[],
            spi: 0,
            sequence: 0,
            clear: &clear,
            outer: &outer,
            restored: Some((&restored, &restored_packet)),
        };
        let explained = self.codec.explain_clear_text(Some(&self.context), CIPHER_BLOCK, &opened);
        let explanation = explained.map_err(|unexplained| defect(unexplained.to_string()))?;
        let taken = Some(taken(&explanation, packet, &clear, &restored_packet));
        Ok(Answer { matched: true, taken, ..Answer::default() })
    }

    /// The outer header that would carry a packet.
    fn outer(&self, packet: &[u8]) -> Option<OuterHeader> {
        let inner = OuterHeader::of(packet)?;
        Some(match self.context.tunnel_ip {
            Some((src, dst)) if self.context.mode == Mode::Tunnel => {
                OuterHeader { version: IpVersion::of(src), src, dst, ..inner }
            }
            _ => inner,
        })
    }
}

fn not_matching(field: &'static str, reason: &str) -> Answer {
    Answer { field: Some(field), reason: Some(reason.to_owned()), ..Answer::default() }
}

fn mismatching(mismatch: &Mismatch) -> Answer {
    let text = mismatch.to_string();
    not_matching(mismatch.field, text.strip_prefix(mismatch.field).unwrap_or(&text).trim_start())
}

fn taken(explanation: &Explanation, packet: &[u8], clear: &[u8], restored: &[u8]) -> Taken {
    let rows = || explanation.rows.iter().filter(|row| row.stage == RowStage::Iipc && row.packet_offset.is_some());
    let residue: String = rows().map(|row| row.bits.as_str()).collect();
    let payload = explanation.inner.as_ref().map_or(0..0, |AfterHeaders { payload, .. }| payload.clone());
    let payload = clear.get(payload).unwrap_or_default();
    let field = |row: &ResidueRow| FieldAnswer {
        fid: row.field,
        position: row.rule.as_ref().map_or(1, |rule| rule.position),
        value: digits(packet, row.packet_offset.unwrap_or(0), row.field_bits),
        residue: row.bits.clone(),
    };
    Taken {
        residue_len: residue.len(),
        residue_bits: residue,
        fields: rows().map(field).collect(),
        payload: hex::encode(payload),
        payload_bits: payload.len() * 8,
        restored: Some(hex::encode(restored)),
        unknown: rows().filter(|row| row.origin == Origin::Outer).map(|row| row.field).collect(),
        lossless: restored == packet,
    }
}
