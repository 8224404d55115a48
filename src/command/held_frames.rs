//! Keeps frames until an earlier fragment is decided.
//!
//! If the packet of a fragment is converted, the new packet replaces the last fragment, and the other fragments are
//! omitted. If it is not changed, or never complete, all fragments are written unchanged. Until this is known, the
//! frames after the fragment wait, so that the output stays in capture order.

use std::collections::VecDeque;

use crate::capture::{Batch, OwnedFrame};

/// Most bytes of memory for waiting frames. Beyond that, the oldest fragments are written unchanged.
const MAX_BYTES: usize = 16 << 20;
/// Approximate size of a waiting frame without its bytes.
const OVERHEAD: usize = 256;

/// Frames that wait, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    frames: VecDeque<HeldFrame>,
    bytes: usize,
}

#[derive(Debug)]
struct HeldFrame {
    number: u64,
    content: Held,
    state: HeldState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldState {
    /// A fragment whose packet is not complete yet.
    Undecided,
    Omitted,
    Ready,
}

/// A frame that waits.
#[derive(Debug)]
pub(super) enum Held {
    /// A fragment in its captured form.
    Fragment(OwnedFrame),
    /// A frame of the output, as a batch with one frame.
    Output(Batch),
}

impl Held {
    fn memory(&self) -> usize {
        OVERHEAD
            + match self {
                Held::Fragment(frame) => frame.as_frame().data.len(),
                Held::Output(batch) => batch.bytes_len(),
            }
    }
}

impl HeldFrames {
    /// Whether no frame waits.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame. If this exceeds the memory limit, the oldest fragments are written unchanged.
    pub(super) fn push(&mut self, number: u64, content: Held) {
        self.bytes += content.memory();
        let state = match content {
            Held::Fragment(_) => HeldState::Undecided,
            Held::Output(_) => HeldState::Ready,
        };
        self.frames.push_back(HeldFrame { number, content, state });
        let mut excess = self.bytes.saturating_sub(MAX_BYTES);
        for frame in &mut self.frames {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(frame.content.memory());
            if frame.state == HeldState::Undecided {
                frame.state = HeldState::Ready;
            }
        }
    }

    /// Decides about the fragments among `numbers`: either their packet was rebuilt and they are omitted, or they
    /// are written unchanged.
    pub(super) fn decide(&mut self, numbers: &[u64], omitted: bool) {
        let decided = if omitted { HeldState::Omitted } else { HeldState::Ready };
        // A packet that was extracted from a frame has the number of this frame.
        for number in numbers {
            let first = self.frames.partition_point(|frame| frame.number < *number);
            let same = self.frames.range_mut(first..).take_while(|frame| frame.number == *number);
            same.filter(|frame| frame.state == HeldState::Undecided).for_each(|frame| frame.state = decided);
        }
    }

    /// Decides that all fragments are written unchanged.
    pub(super) fn keep_all(&mut self) {
        let undecided = self.frames.iter_mut().filter(|frame| frame.state == HeldState::Undecided);
        undecided.for_each(|frame| frame.state = HeldState::Ready);
    }

    /// Takes the next frame to write. Returns `None` if there is none, or if the first one is undecided.
    pub(super) fn next(&mut self) -> Option<Held> {
        loop {
            let first = self.frames.pop_front_if(|first| first.state != HeldState::Undecided)?;
            self.bytes -= first.content.memory();
            if first.state == HeldState::Ready {
                return Some(first.content);
            }
        }
    }
}
