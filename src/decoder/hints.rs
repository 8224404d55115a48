//! The likely cause why a packet could not be opened.

use std::fmt;

use super::esp_packet::{body, spi};
use super::status::Status;
use crate::net::esp;
use crate::sa::table::{PreparedSa, SaTable};

/// The likely cause. It is part of the reason, and is counted for the remarks at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// `no-sa`: an SA has this SPI, but other addresses.
    OtherAddresses,
    /// `auth-failed`: the packet verifies with extended sequence numbers.
    Extended,
    /// `auth-failed`: the packet verifies without extended sequence numbers.
    NotExtended,
    /// `auth-failed`: the key file names AES-CTR, which was read as AES-CCM.
    ReadAsCcm,
}

impl Hint {
    /// All hints, in the order of the remarks.
    pub const ALL: [Hint; 4] = [Hint::OtherAddresses, Hint::Extended, Hint::NotExtended, Hint::ReadAsCcm];

    /// The status that it explains, the cause and the remedy.
    pub fn remark(self) -> (&'static str, &'static str) {
        let status = if self == Hint::OtherAddresses { Status::NoSa } else { Status::AuthFailed };
        let cause = match self {
            Hint::OtherAddresses => {
                "an SA has this SPI but other addresses; NAT changes addresses: correct src and dst in the key file, \
                     or omit them"
            }
            Hint::Extended => {
                "the ICV verifies with extended sequence numbers: set `esn: true` for the SA in a YAML key file"
            }
            Hint::NotExtended => {
                "the ICV verifies without extended sequence numbers: set `esn: false` for the SA in a YAML key \
                 file"
            }
            Hint::ReadAsCcm => {
                "the esp_sa entry says AES-CTR and was read as AES-CCM: give an SA that uses AES-CTR in a YAML \
                 key file"
            }
        };
        (status.name(), cause)
    }
}

/// The end of a reason.
impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hint::OtherAddresses => "; an SA has this SPI but other addresses",
            Hint::Extended => "; the SA may use extended sequence numbers",
            Hint::NotExtended => "; the SA may not use extended sequence numbers",
            Hint::ReadAsCcm => "; the SA may use AES-CTR",
        })
    }
}

/// Why no SA matches a packet.
pub(crate) fn without_sa(table: &SaTable, protocol: u8, payload: &[u8]) -> Option<Hint> {
    let spi = esp::spi(payload)?;
    table.has_whole_spi(protocol, spi).then_some(Hint::OtherAddresses)
}

/// Why a packet does not verify under an SA without verified packets. The ICV proves each cause except the last.
pub(crate) fn not_authentic(entry: &PreparedSa, payload: &[u8], clear: &mut Vec<u8>) -> Option<Hint> {
    if entry.authenticates()
        && entry.codec.sn_bits() >= 32
        && let Some(body) = body(entry, payload)
    {
        let sn = u64::from(entry.sn_on_wire(payload));
        if entry.cipher().open(spi(entry, payload), sn, !entry.esn(), body, clear).is_ok() {
            return Some(if entry.esn() { Hint::NotExtended } else { Hint::Extended });
        }
    }
    entry.sa.read_as_ccm.then_some(Hint::ReadAsCcm)
}
