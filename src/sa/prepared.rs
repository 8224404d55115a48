//! An SA ready for use, with its compiled codec and its cipher.

use std::sync::{Arc, OnceLock};

use super::Sa;
use crate::cipher::EspCipher;
use crate::codec::Codec;
use crate::context::{Context, Dialect, Mode, Origin};
use crate::error::Error;
use crate::net::{IpVersion, LinkAddresses, OuterHeader, address_value, protocol};
use crate::prefetch;

/// An SA ready for use. Its rules are compiled. Its key schedules are computed when they are first needed.
///
/// The fields that every packet needs are in one cache line, because with many SAs each access is a cache miss.
#[derive(Debug)]
#[repr(align(64))]
pub struct PreparedSa {
    cipher: OnceLock<Box<EspCipher>>,
    /// Compiled header compression.
    pub codec: Arc<Codec>,
    /// The context of the SA; `None` is standard ESP.
    pub context: Option<Arc<Context>>,
    /// The SA as defined in its file.
    pub sa: Arc<Sa>,
    // Copies of the fields of `sa` that every packet needs.
    spi: Option<u32>,
    esn: bool,
    /// Whether it matches every IPv4 packet, and every IPv6 packet.
    pub(super) accepts_every: [bool; 2],
    iv_len: u8,
    icv_len: u8,
    block: u8,
    pub(super) authenticates: bool,
    /// IP protocol number of its packets: 50, or the `protocol` of its context.
    pub protocol: u8,
}

/// Prepares SAs one after the other. SAs with the same compression share one compiled codec.
#[derive(Debug, Default)]
pub(crate) struct SaBuilder {
    /// Codecs of standard ESP, by cipher block.
    standard: Vec<(usize, Arc<Codec>)>,
    /// Codec of the last context, with its cipher block.
    last: Option<(Arc<Context>, usize, Arc<Codec>)>,
}

impl SaBuilder {
    /// Prepares one SA. An error names what its cipher or context does not support.
    pub(crate) fn entry(&mut self, sa: impl Into<Arc<Sa>>, context: Option<Arc<Context>>) -> Result<PreparedSa, Error> {
        let sa = sa.into();
        let codec = self.codec(context.as_ref(), sa.keys.suite().block)?;
        PreparedSa::of(sa, context, codec)
    }

    fn codec(&mut self, context: Option<&Arc<Context>>, block: usize) -> Result<Arc<Codec>, Error> {
        let Some(context) = context else {
            if let Some((_, codec)) = self.standard.iter().find(|(of, _)| *of == block) {
                return Ok(codec.clone());
            }
            let codec = Arc::new(Codec::new(None, block)?);
            self.standard.push((block, codec.clone()));
            return Ok(codec);
        };
        match &self.last {
            Some((last, of, codec)) if *of == block && last.same_compression(context) => Ok(codec.clone()),
            _ => {
                let codec = Arc::new(Codec::new(Some(context), block)?);
                self.last = Some((context.clone(), block, codec.clone()));
                Ok(codec)
            }
        }
    }
}

impl Clone for PreparedSa {
    /// The copy schedules its keys when it first needs them.
    fn clone(&self) -> PreparedSa {
        let PreparedSa { spi, esn, accepts_every, iv_len, icv_len, block, authenticates, protocol, .. } = *self;
        let (codec, context, sa) = (self.codec.clone(), self.context.clone(), self.sa.clone());
        let cipher = OnceLock::new();
        PreparedSa {
            cipher,
            codec,
            context,
            sa,
            spi,
            esn,
            accepts_every,
            iv_len,
            icv_len,
            block,
            authenticates,
            protocol,
        }
    }
}

impl PreparedSa {
    /// Prepares one SA. An error names what its cipher or context does not support.
    ///
    /// # Errors
    /// The cipher or the context cannot do what the SA needs.
    pub fn new(sa: impl Into<Arc<Sa>>, context: Option<Context>) -> Result<PreparedSa, Error> {
        SaBuilder::default().entry(sa, context.map(Arc::new))
    }

    fn of(sa: Arc<Sa>, context: Option<Arc<Context>>, codec: Arc<Codec>) -> Result<PreparedSa, Error> {
        if let (Some(spi), Some(context)) = (sa.spi, &context)
            && let Err(mismatch) = codec.spi_residue(spi)
        {
            let Origin { path, line } = &context.origin;
            let problem = format!("the SPI of SA {} does not match the rule: {mismatch}", sa.name);
            return Err(Error::line(path, *line, problem, "give ESP.SPI a target value that matches it"));
        }
        let protocol = context.as_ref().map_or(protocol::ESP, |context| context.protocol);
        let no_link = sa.link_src.is_none() && sa.link_dst.is_none();
        let accepts_every = [IpVersion::V4, IpVersion::V6]
            .map(|version| no_link && sa.src.accepts_every(version) && sa.dst.accepts_every(version));
        Ok(PreparedSa {
            cipher: OnceLock::new(),
            codec,
            context,
            spi: sa.spi,
            esn: sa.esn,
            accepts_every,
            iv_len: sa.keys.suite().iv_len as u8,
            icv_len: sa.keys.icv_len() as u8,
            block: sa.keys.suite().block as u8,
            authenticates: sa.keys.authenticates(),
            protocol,
            sa,
        })
    }

    /// Its SPI; see [`Sa::spi`].
    pub fn spi(&self) -> Option<u32> {
        self.spi
    }

    /// Whether it uses extended sequence numbers.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// Whether it matches packets with these outer addresses that were not in a radio frame.
    pub fn accepts(&self, outer: &OuterHeader) -> bool {
        self.accepts_addresses(outer.version, [outer.src, outer.dst].map(address_value), None)
    }

    /// Whether it matches packets with these addresses.
    #[inline]
    pub(super) fn accepts_addresses(
        &self,
        version: IpVersion,
        [src, dst]: [u128; 2],
        link: Option<LinkAddresses>,
    ) -> bool {
        if of_version(self.accepts_every, version) {
            return true;
        }
        let sa = &*self.sa;
        sa.src.accepts_value(version, src) && sa.dst.accepts_value(version, dst) && accepts_link(sa, link)
    }

    /// Its cipher.
    pub fn cipher(&self) -> &EspCipher {
        self.cipher.get_or_init(|| Box::new(EspCipher::new(&self.sa.keys)))
    }

    /// Prefetches its cipher, if it was used before.
    #[inline]
    pub fn prefetch_cipher(&self) {
        match self.cipher.get() {
            Some(cipher) => cipher.prefetch(),
            None => prefetch::element(std::slice::from_ref(&self.sa.keys), 0),
        }
    }

    /// Length of the IV on the wire in bytes.
    pub fn iv_len(&self) -> usize {
        usize::from(self.iv_len)
    }

    /// Length of the ICV in bytes.
    pub fn icv_len(&self) -> usize {
        usize::from(self.icv_len)
    }

    /// Cipher block in bytes.
    pub fn block(&self) -> usize {
        usize::from(self.block)
    }

    /// Length of the clear text of a packet with a body (IV, cipher text, ICV) of `body_len` bytes.
    pub fn clear_len(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.iv_len() + self.icv_len())
    }

    /// Whether the ICV of opened packets is checked.
    pub fn authenticates(&self) -> bool {
        self.authenticates
    }

    /// Number of bytes before the IV: RuleID, SPI bits, sequence number bits.
    pub fn header_len(&self) -> usize {
        self.codec.header_len()
    }

    /// Nanoseconds from one sequence number to the next, if sequence numbers follow a clock.
    pub fn sn_period(&self) -> Option<u64> {
        let period = self.context.as_ref()?.sn_period()?;
        u64::try_from(period.as_nanos()).ok()
    }

    /// The draft revision that the context follows.
    pub fn revision(&self) -> Option<u8> {
        match &self.context.as_ref()?.dialect {
            Dialect::Ietf(attributes) => Some(attributes.revision),
            Dialect::Ehc(_) | Dialect::SixLo(_) | Dialect::Custom(_) => None,
        }
    }

    /// Whether inner packets are whole IP packets; false for standard ESP, where the Next Header of each packet shows
    /// the mode.
    pub fn is_tunnel(&self) -> bool {
        self.codec.mode() == Some(Mode::Tunnel)
    }

    /// Minimum length of a packet: header, IV, ICV.
    pub fn least_len(&self) -> usize {
        self.header_len() + self.iv_len() + self.icv_len()
    }

    /// Whether all bits of the sequence number are sent.
    #[inline]
    pub fn has_whole_sn(&self) -> bool {
        self.codec.sn_bits() >= 32 && !self.esn
    }

    /// The sequence number bits of a packet that has at least [`PreparedSa::header_len`] bytes.
    pub fn sn_on_wire(&self, payload: &[u8]) -> u32 {
        let skip = u32::from(self.codec.spi_bits()) + 8 * u32::from(self.codec.header_rule_id().is_some());
        let bits = u32::from(self.codec.sn_bits());
        match (skip, bits, payload.first_chunk::<8>()) {
            (_, 0, _) => return 0,
            // Standard ESP.
            (32, 32, Some(head)) => return u64::from_be_bytes(*head) as u32,
            _ => {}
        }
        // At most nine bytes: RuleID, 32 and 32 bits.
        let mut head = [0u8; 16];
        let len = payload.len().min(16);
        if let (Some(to), Some(from)) = (head.get_mut(..len), payload.get(..len)) {
            to.copy_from_slice(from);
        }
        (u128::from_be_bytes(head) << skip >> (128 - bits)) as u32
    }
}

/// An SA with a link-layer address matches only packets in frames with that address.
fn accepts_link(sa: &Sa, link: Option<LinkAddresses>) -> bool {
    if sa.link_src.is_none() && sa.link_dst.is_none() {
        return true;
    }
    let link = link.unwrap_or_default();
    (sa.link_src.is_none() || sa.link_src == link.src) && (sa.link_dst.is_none() || sa.link_dst == link.dst)
}

/// The value for IPv4 or for IPv6.
#[inline]
pub(super) fn of_version([v4, v6]: [bool; 2], version: IpVersion) -> bool {
    if version == IpVersion::V4 { v4 } else { v6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn sas_with_the_same_compression_share_a_codec() {
        let keys: String = (1..=5)
            .map(|spi| format!("- {{ spi: {spi}, encr: ENCR_AES_GCM_16, key: {} }}\n", "00".repeat(20)))
            .collect();
        let context = |spi: u32, src: &str, more: &str| {
            format!("- {{ spi: {spi}, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, ts_ip_src: {src}{more} }}\n")
        };
        let contexts = [
            context(1, "10.0.0.1", ""),
            context(2, "10.0.0.1", ", esp_sn: 7"),
            context(3, "10.0.0.2", ""),
            context(4, "10.0.0.2", ", esp_spi_lsb: 8"),
        ];
        let text = format!("sas:\n{keys}contexts:\n{}", contexts.concat());
        let loaded = files::parse(std::path::Path::new("f"), text.as_bytes()).unwrap();
        let bound = files::bind(&loaded.sas, &loaded.contexts).unwrap();
        let mut preparation = SaBuilder::default();
        let mut codec = |(sa, context): (Arc<Sa>, Option<usize>)| {
            let context = context.map(|at| Arc::new(loaded.contexts[at].clone()));
            // Shared or not, a codec depends only on the context.
            let alone = Codec::new(context.as_deref(), sa.keys.suite().block).unwrap();
            let codec = preparation.entry(sa, context).unwrap().codec;
            assert_eq!(*codec, alone);
            codec
        };
        let codecs: Vec<Arc<Codec>> = loaded.sas.into_iter().zip(bound).map(&mut codec).collect();
        let shared: Vec<bool> = codecs.windows(2).map(|pair| Arc::ptr_eq(&pair[0], &pair[1])).collect();
        assert_eq!(shared, [true, false, false, false]);
    }

    #[test]
    fn the_fields_of_every_packet_are_in_one_cache_line() {
        assert_eq!(std::mem::size_of::<PreparedSa>(), 64);
    }
}
