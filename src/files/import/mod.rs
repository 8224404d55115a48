//! Keys and SCHC rules in the formats of other programs.

pub(super) mod charon;
mod entry;
pub(super) mod esp_sa;
mod esp_sa_algorithms;
pub(super) mod foreign;
pub(super) mod ike;
pub(super) mod integrity;
pub(super) mod ipsecctl;
pub(super) mod paste;
pub(super) mod rfc9363;
pub(super) mod rule_set;
pub(super) mod setkey;
pub(super) mod setkey_dump;
pub(super) mod skipped;
pub(super) mod tcpdump;
pub(super) mod xfrm;
mod xfrm_algorithms;
