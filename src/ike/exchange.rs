//! The two messages of an exchange, and the child SA that they create.

use std::net::IpAddr;
use std::sync::Arc;

use super::child;
use super::message::{Offer, Proposal};
use super::secrets::ChildSecret;
use crate::cipher::{Hash, Keys};
use crate::net::Selector;
use crate::sa::Sa;

/// Protocol ID of ESP, and of IKE itself, in a proposal (RFC 7296 §3.3.1).
pub(super) const PROTOCOL_ESP: u8 = 3;
const PROTOCOL_IKE: u8 = 1;

/// Request and response of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExchangeId {
    /// All rounds of IKE_AUTH. The first request and the last response contain the SA payloads (RFC 7296 §2.16).
    Auth,
    /// CREATE_CHILD_SA: whether the initiator of the IKE SA started it, and its Message ID. Each side has its own
    /// IDs.
    Create(bool, u32),
}

#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The child SA was derived, or cannot be.
    pub(super) is_done: bool,
    pub(super) request: Option<Half>,
    pub(super) response: Option<Half>,
}

/// The relevant content of a message.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) frame: u64,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) offer: Offer,
}

/// Both directions of the child SA that an exchange created. An empty error means that the exchange created
/// something else.
pub(super) fn children(
    secret: &ChildSecret,
    prf: Option<Hash>,
    nonces: Result<[&[u8]; 2], String>,
    request: &Half,
    response: &Half,
    known: &[u64],
) -> Result<Vec<Arc<Sa>>, String> {
    let [chosen] = response.offer.proposals.as_slice() else {
        return Err("the response does not choose one proposal".into());
    };
    match chosen.protocol {
        PROTOCOL_ESP => {}
        PROTOCOL_IKE => return Err(rekeyed(request, known)),
        _ => return Err(String::new()),
    }
    let [initiator_spi, responder_spi] = spis(request, chosen)?;
    let child = format!("child SA 0x{initiator_spi:08x}, 0x{responder_spi:08x}");
    if response.offer.key_exchange {
        return Err(format!(
            "{child} was created with a new key exchange (PFS): its keys cannot be derived from SK_d; give the keys of \
                this SA in a key file"
        ));
    }
    let prf = prf.ok_or_else(|| format!("{child}: the prf of the IKE SA is not known: give `prf=` with SK_d"))?;
    let nonces = nonces.map_err(|why| format!("{child}: {why}"))?;
    let keys = child::keys(prf, &secret.sk_d, nonces, chosen).map_err(|why| format!("{child}: {why}"))?;
    let sa = |spi: u32, src: IpAddr, dst: IpAddr, of_direction: Keys| {
        Arc::new(Sa {
            name: format!("0x{spi:08x}"),
            spi: Some(spi),
            src: Selector::address(src),
            dst: Selector::address(dst),
            link_src: None,
            link_dst: None,
            keys: of_direction,
            esn: keys.esn,
            sn_hint: None,
            read_as_ccm: false,
            origin: secret.origin.clone(),
        })
    };
    Ok(vec![
        sa(responder_spi, request.src, request.dst, keys.initiator),
        sa(initiator_spi, request.dst, request.src, keys.responder),
    ])
}

/// Why the exchange that rekeyed an IKE SA creates no child SA. Empty if the SK_d of the new IKE SA is known.
fn rekeyed(request: &Half, known: &[u64]) -> String {
    let is_known = request
        .offer
        .proposals
        .iter()
        .any(|proposal| proposal.spi.first_chunk().is_some_and(|spi| known.contains(&u64::from_be_bytes(*spi))));
    let why = "the IKE SA is rekeyed here; the new SK_d cannot be derived from the old one: also give the \
         new SK_d and its line of the decryption table";
    if is_known { String::new() } else { why.into() }
}

/// The SPIs of the child SA: of packets to the initiator and to the responder. A chosen proposal keeps its number. Each
/// side sends the SPI of the packets that it receives (RFC 7296 §3.3.1).
fn spis(request: &Half, chosen: &Proposal) -> Result<[u32; 2], String> {
    let offered = request
        .offer
        .proposals
        .iter()
        .find(|offered| (offered.number, offered.protocol) == (chosen.number, chosen.protocol));
    let spi = |proposal: &Proposal| <[u8; 4]>::try_from(proposal.spi.as_slice()).ok().map(u32::from_be_bytes);
    match (offered.and_then(spi), spi(chosen)) {
        (Some(initiator), Some(responder)) => Ok([initiator, responder]),
        _ => Err("the response chooses a proposal that the request does not have".into()),
    }
}
