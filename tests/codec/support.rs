//! Code shared by the tests of the codec.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use dietesp::internals::codec::{Codec, Restored, State};
use dietesp::internals::context::*;
use dietesp::internals::error::Fault;
use dietesp::internals::net::{IpHeaders, IpVersion, OuterHeader};
use serde_json::Value;

/// A context of dialect `ietf` for any traffic, with the default attributes, then `change`d.
pub fn context(
    mode: Mode,
    version: Option<IpVersion>,
    change: impl FnOnce(&mut TrafficSelectors, &mut Ietf),
) -> Context {
    let addresses = Range::whole(version.map_or(128, IpVersion::address_bits));
    let ports = Range::whole(16);
    let mut selectors =
        TrafficSelectors { version, src: addresses, dst: addresses, protocol: None, src_port: ports, dst_port: ports };
    let mut ietf = Ietf::default();
    change(&mut selectors, &mut ietf);
    Context {
        sa: SaReference::Name("s".to_owned()),
        mode,
        tunnel_ip: None,
        selectors,
        esp_sn: None,
        protocol: 50,
        dialect: Dialect::Ietf(ietf),
        origin: Origin { path: Path::new("rules.yaml").into(), line: 1 },
    }
}

pub fn restore(codec: &Codec, clear: &[u8], carrier: &[u8]) -> Result<(Restored, Vec<u8>), Fault> {
    let (outer, header_len, protocol_offset) = outer(carrier);
    let carrier = IpHeaders { outer: &outer, header: &carrier[..header_len], protocol_offset };
    let mut packet = vec![1, 2, 3];
    let restored = codec.restore(clear, &carrier, &mut State::default(), &mut packet)?;
    Ok((restored, packet))
}

/// A file or folder below `tests/data`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

pub fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The outer header of an IP packet, its length, and the offset of its protocol byte.
pub fn outer(ip: &[u8]) -> (OuterHeader, usize, usize) {
    let u16_at = |offset: usize| u32::from(u16::from_be_bytes([ip[offset], ip[offset + 1]]));
    let traffic_class = |byte: u8| (byte >> 2, byte & 3);
    if ip[0] >> 4 == 4 {
        let (dscp, ecn) = traffic_class(ip[1]);
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        let (src, dst) = (address(12), address(16));
        let outer =
            OuterHeader { version: IpVersion::V4, src, dst, dscp, ecn, hop_limit: ip[8], flow_label: u16_at(4) };
        (outer, usize::from(ip[0] & 15) * 4, 9)
    } else {
        let (dscp, ecn) = traffic_class((ip[0] << 4) | (ip[1] >> 4));
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        let flow_label = (u32::from(ip[1] & 15) << 16) | u16_at(2);
        let (src, dst) = (address(8), address(24));
        (OuterHeader { version: IpVersion::V6, src, dst, dscp, ecn, hop_limit: ip[7], flow_label }, 40, 6)
    }
}

/// The contexts of a rule file.
pub fn load(rules: &str) -> Result<Vec<Context>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let loaded = dietesp::internals::files::load(&[], &[file.path().to_owned()]);
    loaded.map(|loaded| loaded.contexts).map_err(|error| {
        let text = error.to_string();
        // Without the folder name.
        text.split_once(':').map_or(text.clone(), |(_, rest)| rest.to_owned())
    })
}
