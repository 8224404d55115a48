//! Lines `time,src,dst,hex` with a packet each, as network servers export them. They are read as if they were a pcap
//! file of raw IP.
//!
//! * `time`: RFC 3339, or seconds since 1970 with or without a fraction.
//! * `src`, `dst`: addresses of the outer IP header. An EUI-64 (16 hex digits, with or without `:` or `-`) means its
//!   link-local address (RFC 4291 appendix A). Empty: the unspecified address.
//! * `hex`: the ESP payload, which follows the outer header; or the whole IP packet.
//!
//! Fields are separated by `,`, `;` or tabs, and may be quoted. Blank lines, lines that start with `#` and a first line
//! with names are skipped. Invalid lines are skipped with a warning.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::source::HexIs;
use super::time::parse_rfc3339_or_seconds;
use super::{Interface, LINKTYPE_RAW, Timestamp, pcap};
use crate::net::ip;
use crate::net::ipv4::{self, Ipv4};
use crate::net::ipv6::Ipv6;
use crate::net::protocol::ESP;

/// Bytes read at once.
const CHUNK_LEN: usize = 64 * 1024;
/// The longest valid line: an IP packet in hex with spaces, and the other fields.
const MAX_LINE_LEN: usize = 256 * 1024;
/// Number of invalid lines that get a warning of their own.
const MAX_TOLD: u64 = 10;
/// Hop Limit or TTL of the headers made here.
const HOP_LIMIT: u8 = 64;

/// Reads lines and returns the bytes of a pcap file.
pub(super) struct HexLines<R> {
    path: PathBuf,
    lines: R,
    hex_is: HexIs,
    /// The start of a line that is not complete yet.
    partial: Vec<u8>,
    /// The current line is too long, and its rest is discarded.
    overlong: bool,
    line: u64,
    bad: u64,
    packets: u64,
    /// A line that is neither blank nor a comment has been read.
    begun: bool,
    pcap: Vec<u8>,
    /// Bytes of `pcap` that were already returned.
    used: usize,
    problems: Arc<Mutex<Vec<String>>>,
    chunk: Vec<u8>,
    ended: bool,
}

impl<R: Read> HexLines<R> {
    /// Warnings about lines are added to `problems`.
    pub(super) fn new(path: &Path, lines: R, hex_is: HexIs, problems: Arc<Mutex<Vec<String>>>) -> HexLines<R> {
        HexLines {
            path: path.to_owned(),
            lines,
            hex_is,
            partial: vec![],
            overlong: false,
            line: 0,
            bad: 0,
            packets: 0,
            begun: false,
            pcap: vec![],
            used: 0,
            problems,
            chunk: vec![0; CHUNK_LEN],
            ended: false,
        }
    }

    fn take(&mut self, len: usize) {
        let chunk = std::mem::take(&mut self.chunk);
        for piece in chunk.get(..len).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            if self.partial.len() + piece.len() > MAX_LINE_LEN {
                self.overlong = true;
                self.partial.clear();
            }
            if !self.overlong {
                self.partial.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        self.chunk = chunk;
    }

    /// Handles the complete line in `partial`.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.line += 1;
        let result = match std::mem::take(&mut self.overlong) {
            true => Err(format!("is longer than {MAX_LINE_LEN} bytes")),
            false => self.packet(&line),
        };
        if let Err(problem) = result {
            self.bad += 1;
            if self.bad <= MAX_TOLD {
                self.tell(format!("{}:{}: {problem}; the line is skipped", self.path.display(), self.line));
            }
        }
        self.partial = line;
        self.partial.clear();
    }

    fn packet(&mut self, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
        let line = line.strip_prefix('\u{feff}').unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if first && is_heading(line) {
            return Ok(());
        }
        let Line { time, packet } = Line::parse(line, self.hex_is)?;
        let (seconds, nanos) = time.seconds_and_nanos();
        let seconds = u32::try_from(seconds).map_err(|_| "the time is not between 1970 and 2106")?;
        if self.packets == 0 {
            pcap::push_file_header(&mut self.pcap, &Interface::new(LINKTYPE_RAW), true);
        }
        self.packets += 1;
        let len = packet.len() as u32;
        self.pcap.extend([seconds, nanos, len, len].into_iter().flat_map(u32::to_le_bytes));
        self.pcap.extend(packet);
        Ok(())
    }

    fn end(&mut self) {
        self.ended = true;
        if !self.partial.is_empty() || self.overlong {
            self.end_line();
        }
        if self.bad > MAX_TOLD {
            self.tell(format!("{}: {} of {} lines skipped", self.path.display(), self.bad, self.line));
        }
    }

    fn tell(&self, problem: String) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }
}

impl<R: Read> Read for HexLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.pcap.len() && !self.ended {
            self.pcap.clear();
            self.used = 0;
            match self.lines.read(&mut self.chunk)? {
                0 => self.end(),
                len => self.take(len),
            }
        }
        let len = self.pcap.get(self.used..).unwrap_or_default().read(buffer)?;
        self.used += len;
        Ok(len)
    }
}

/// Whether a line has the names of the columns.
fn is_heading(line: &str) -> bool {
    let mut fields = fields(line);
    let time = fields.next().unwrap_or_default();
    time.starts_with(|char: char| char.is_ascii_alphabetic()) && parse_hex(fields.last().unwrap_or_default()).is_err()
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    let separator = ['\t', ';', ','].into_iter().find(|separator| line.contains(*separator)).unwrap_or(',');
    line.split(separator).map(|field| field.trim().trim_matches('"').trim())
}

struct Line {
    time: Timestamp,
    packet: Vec<u8>,
}

impl Line {
    fn parse(line: &str, hex_is: HexIs) -> Result<Line, String> {
        let mut fields = fields(line);
        let (Some(time), Some(src), Some(dst), Some(hex), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("expected four fields: time,src,dst,hex".to_owned());
        };
        let time = parse_rfc3339_or_seconds(time)
            .ok_or_else(|| format!("time: `{time}` is neither RFC 3339 with its zone nor seconds since 1970"))?;
        let bytes = parse_hex(hex)?;
        let packet = match hex_is {
            HexIs::Ip => whole(bytes)?,
            HexIs::Esp => enclose(address("src", src)?, address("dst", dst)?, bytes)?,
        };
        Ok(Line { time, packet })
    }
}

/// Bytes of hex digits, which may start with `0x` and have spaces, `:`, `-` and `_` between them.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b':' | b'-' | b'_')).collect();
    match hex::decode(&digits) {
        Ok(bytes) if bytes.is_empty() => Err("hex: empty".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(hex::FromHexError::OddLength) => Err(format!("hex: {} digits are not whole bytes", digits.len())),
        Err(_) => Err("hex: not hex digits".to_owned()),
    }
}

/// An address; `None` if the field is empty.
fn address(name: &str, text: &str) -> Result<Option<IpAddr>, String> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if plain.is_empty() {
        return Ok(None);
    }
    let digits: String = plain.chars().filter(|char| !matches!(char, ':' | '-')).collect();
    let eui64 = (digits.len() == 16).then(|| u64::from_str_radix(&digits, 16).ok()).flatten();
    let by_bytes = plain.split([':', '-']).all(|byte| byte.len() == 2);
    match (plain.parse(), eui64) {
        (Ok(address), _) if !by_bytes => Ok(Some(address)),
        (_, Some(eui64)) if by_bytes || plain.len() == 16 => {
            const UNIVERSAL: u64 = 1 << 57;
            let bits = 0xfe80_u128 << 112 | u128::from(eui64 ^ UNIVERSAL);
            Ok(Some(IpAddr::V6(Ipv6Addr::from_bits(bits))))
        }
        (Ok(address), _) => Ok(Some(address)),
        _ => Err(format!("{name}: `{text}` is neither an IP address nor an EUI-64")),
    }
}

/// The ESP payload after a new IP header.
fn enclose(src: Option<IpAddr>, dst: Option<IpAddr>, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let too_long = |_| format!("hex: {} bytes do not fit in an IP packet", payload.len());
    let v4 = |address: Option<IpAddr>| match address {
        None => Some(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) => None,
    };
    let v6 = |address: Option<IpAddr>| match address {
        None => Some(Ipv6Addr::UNSPECIFIED),
        Some(IpAddr::V6(address)) => Some(address),
        Some(IpAddr::V4(_)) => None,
    };
    if let (Some(src), Some(dst)) = (v6(src), v6(dst)) {
        let mut header = Ipv6::new(src, dst);
        header.set_payload_len(u16::try_from(payload.len()).map_err(too_long)?);
        header.set_next_header(ESP);
        header.set_hop_limit(HOP_LIMIT);
        return Ok([header.as_bytes(), &payload[..]].concat());
    }
    let (Some(src), Some(dst)) = (v4(src), v4(dst)) else {
        return Err("src and dst have different IP versions".to_owned());
    };
    let mut header = Ipv4::new(src, dst);
    header.set_total_len(u16::try_from(ipv4::HEADER_LEN + payload.len()).map_err(too_long)?);
    header.set_dont_fragment();
    header.set_ttl(HOP_LIMIT);
    header.set_protocol(ESP);
    let mut packet = [header.as_bytes(), &payload[..]].concat();
    ipv4::write_checksum(&mut packet);
    Ok(packet)
}

/// Checks the header of an IP packet, to detect ESP payloads.
fn whole(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let Some(version) = ip::version(&bytes) else {
        let version = ip::version_nibble(&bytes);
        return Err(format!("hex: IP version {version} is unknown: is it an ESP payload?"));
    };
    let Some(claimed) = ip::packet_len(&bytes) else {
        return Err(format!("hex: {} bytes are too few for an IPv{} header", bytes.len(), version.number()));
    };
    match bytes.len() {
        len if len == claimed => Ok(bytes),
        len => Err(format!("hex: the IP header gives {claimed} bytes, but the line has {len}")),
    }
}
