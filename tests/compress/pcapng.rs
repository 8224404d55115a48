//! A pcapng reader and writer for tests, independent of the program's own. It supports several link types, and
//! frames truncated by the snap length.

use std::path::Path;

/// A captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub link_type: u16,
    pub data: Vec<u8>,
    /// Original length in bytes.
    pub orig_len: u32,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

pub fn write(path: &Path, frames: &[Frame]) {
    let mut link_types: Vec<u16> = frames.iter().map(|frame| frame.link_type).collect();
    link_types.sort_unstable();
    link_types.dedup();
    let mut bytes = vec![];
    let mut block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = (12 + body.len() + padding.len()) as u32;
        bytes.extend([&kind.to_le_bytes(), &len.to_le_bytes(), body, &padding, &len.to_le_bytes()].concat());
    };
    block(SECTION, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    for link_type in &link_types {
        block(INTERFACE, &[&link_type.to_le_bytes()[..], &[0; 6]].concat());
    }
    for (number, frame) in (0u32..).zip(frames) {
        let interface = link_types.iter().position(|link_type| *link_type == frame.link_type).unwrap() as u32;
        let head = [interface, 0, number, frame.data.len() as u32, frame.orig_len].map(u32::to_le_bytes).concat();
        block(ENHANCED_PACKET, &[head, frame.data.clone()].concat());
    }
    std::fs::write(path, bytes).unwrap();
}

pub fn read(path: &Path) -> Vec<Frame> {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut interfaces, mut frames, mut at) = (vec![], vec![], 0);
    while at < bytes.len() {
        match word(at) {
            SECTION => assert_eq!(word(at + 8), 0x1a2b_3c4d, "little-endian"),
            INTERFACE => interfaces.push(word(at + 8) as u16),
            ENHANCED_PACKET => {
                let len = word(at + 20) as usize;
                frames.push(Frame {
                    link_type: interfaces[word(at + 8) as usize],
                    data: bytes[at + 28..at + 28 + len].to_vec(),
                    orig_len: word(at + 24),
                });
            }
            other => panic!("block type {other}"),
        }
        at += word(at + 4) as usize;
    }
    frames
}
