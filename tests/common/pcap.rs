//! A reader and writer of classic pcap for tests, independent of the program's own.

use std::path::Path;

/// Link type of raw IP packets.
pub const RAW: u32 = 101;

/// One captured frame: nanoseconds since 1970, and its bytes.
pub type Frame = (u64, Vec<u8>);

/// The link type and the frames of a little-endian pcap file.
pub fn read(path: &Path) -> (u32, Vec<Frame>) {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let nanos = match word(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => panic!("{}: magic number {other:08x}", path.display()),
    };
    let (mut frames, mut at) = (vec![], 24);
    while at < bytes.len() {
        let len = word(at + 8) as usize;
        assert_eq!(word(at + 12) as usize, len, "{}: a truncated frame", path.display());
        let time = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * nanos;
        frames.push((time, bytes[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    (word(20), frames)
}

/// Writes frames with nanosecond time stamps.
pub fn write(path: &Path, link_type: u32, frames: &[Frame]) {
    let mut bytes = vec![];
    for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, link_type] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for (time, data) in frames {
        let len = data.len() as u32;
        for word in [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(data);
    }
    std::fs::write(path, bytes).unwrap();
}
