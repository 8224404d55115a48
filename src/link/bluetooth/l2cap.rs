//! L2CAP (Bluetooth Core Specification, Vol 3, Part A). It reassembles frames from their pieces, follows the
//! signalling that opens channels of the Internet Protocol Support Profile (IPSP), and reassembles SDUs from
//! K-frames (3.4.3).
//!
//! ```text
//! | length 2 | channel 2 | code 1 | identifier 1 | length 2 | ...          channel 5: signalling
//! | length 2 | channel 2 | SDU length 2, in the first one of an SDU | ...  channels 0040 to 007f
//! ```

use super::{BluetoothContent, Side, When, link, u16_le};
use crate::bytes::Reader;
use crate::capture::deadline;
use crate::error::{Fault, Stage};

/// Most channels, and most unanswered requests, of one connection.
const MAX_CHANNELS: usize = 8;
const MAX_REQUESTS: usize = 8;
/// How long a frame or an SDU waits for its next piece.
const TIMEOUT_NS: i64 = 60_000_000_000;
/// Largest SDU of a channel whose opening was not captured.
const MAX_GUESSED_LEN: usize = 2048;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Identifies the connection.
    pub id: u64,
    pub last_used: u64,
    /// Addresses of the central and the peripheral, or of the host and its peer.
    pub addresses: [Option<[u8; 6]>; 2],
    pub crc_init: Option<u32>,
    /// Frames of this connection are encrypted.
    pub encrypted: bool,
    /// This is a BR/EDR connection, not LE.
    pub is_classic: bool,
    directions: [Direction; 3],
    channels: Vec<Channel>,
    requests: Vec<Request>,
}

/// What one side of a connection sends.
#[derive(Debug, Default)]
struct Direction {
    /// Sequence number of its last link-layer frame, and how many frames it sent.
    sequence: Option<u8>,
    count: u64,
    frame: Partial,
}

/// A frame or an SDU that arrives in pieces.
#[derive(Debug, Default)]
struct Partial {
    deadline: i64,
    data: Vec<u8>,
    frames: Vec<u64>,
}

/// A channel in one direction.
#[derive(Debug)]
struct Channel {
    from: Side,
    id: u16,
    kind: Kind,
    /// The largest SDU that the receiver accepts.
    mtu: usize,
    /// Total length of the SDU that has started.
    sdu_len: Option<usize>,
    sdu: Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipsp,
    OtherProfile,
    /// The opening of the channel was not captured. `likely`: an SDU ended where its length says, and started like
    /// 6LoWPAN.
    Guessed {
        likely: bool,
    },
}

/// A request to open channels.
#[derive(Debug)]
struct Request {
    from: Side,
    identifier: u8,
    kind: Kind,
    mtu: usize,
    /// Channels on which the requester receives.
    ids: Vec<u16>,
}

impl Partial {
    fn clear(&mut self) {
        self.data.clear();
        self.frames.clear();
    }

    /// An empty piece is ignored. Otherwise the list of frames could grow without limit.
    fn add(&mut self, data: &[u8], frames: &[u64], time_ns: i64) {
        if data.is_empty() {
            return;
        }
        if self.frames.is_empty() {
            self.deadline = deadline(time_ns, TIMEOUT_NS);
        }
        self.data.extend_from_slice(data);
        self.frames.extend_from_slice(frames);
    }
}

impl Connection {
    pub(super) fn new(id: u64) -> Connection {
        Connection {
            id,
            last_used: id,
            addresses: [None; 2],
            crc_init: None,
            encrypted: false,
            is_classic: false,
            directions: Default::default(),
            channels: vec![],
            requests: vec![],
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let frames = self.directions.iter().map(|direction| direction.frame.frames.len());
        let of_channels = self.channels.iter().map(|channel| channel.sdu.frames.len());
        (self.channels.len(), frames.chain(of_channels).sum())
    }

    fn direction(&mut self, from: Side) -> &mut Direction {
        let [one, two, unknown] = &mut self.directions;
        match from {
            Side::One => one,
            Side::Two => two,
            Side::Unknown => unknown,
        }
    }

    /// Counts a frame of the link layer. Returns its number among the frames of `from`, and whether it differs from
    /// the previous one.
    pub(super) fn count(&mut self, from: Side, sequence: u8) -> (u64, bool) {
        let direction = self.direction(from);
        let is_next = direction.sequence.replace(sequence) != Some(sequence);
        direction.count += u64::from(is_next);
        (direction.count, is_next)
    }

    /// A frame that `from` sent is missing from the capture, so that started frames and SDUs cannot be completed.
    pub(super) fn lost(&mut self, from: Side) {
        self.direction(from).frame.clear();
        for channel in self.channels.iter_mut().filter(|channel| channel.from == from) {
            channel.sdu_len = None;
        }
    }

    /// The sender of a continuation piece that does not name it: the only side with a started frame. If both or
    /// neither have one, the piece is lost, and the frames of both sides are dropped.
    pub(super) fn waiting(&mut self) -> Side {
        let [one, two, _] = &self.directions;
        match (one.frame.frames.is_empty(), two.frame.frames.is_empty()) {
            (false, true) => Side::One,
            (true, false) => Side::Two,
            _ => {
                self.lost(Side::One);
                self.lost(Side::Two);
                Side::Unknown
            }
        }
    }

    /// Adds a piece of an L2CAP frame. If it completes an SDU, appends the SDU and its frame numbers to `out`. With
    /// `may_have_mic`, a MIC may follow the last piece.
    pub(super) fn piece(
        &mut self,
        from: Side,
        start: bool,
        may_have_mic: bool,
        data: &[u8],
        when: When,
        out: (&mut Vec<u8>, &mut Vec<u64>),
    ) -> Result<BluetoothContent, Fault> {
        const MIC_LEN: usize = 4;
        const HEADER_LEN: usize = 4;
        let direction = self.direction(from);
        if start || direction.frame.deadline <= when.time_ns {
            direction.frame.clear();
        }
        if !start && direction.frame.frames.is_empty() {
            return Ok(BluetoothContent::Other("the rest of an L2CAP frame whose start was not captured"));
        }
        direction.frame.add(data, &[when.frame], when.time_ns);
        let Some((&[a, b, c, d], rest)) = direction.frame.data.split_first_chunk::<HEADER_LEN>() else {
            return Ok(BluetoothContent::Incomplete);
        };
        let (len, id) = (usize::from(u16::from_le_bytes([a, b])), u16::from_le_bytes([c, d]));
        if rest.len() < len {
            return Ok(BluetoothContent::Incomplete);
        }
        let mut whole = std::mem::take(&mut direction.frame);
        let too_long = whole.data.len() - HEADER_LEN - len;
        let heard = if too_long == 0 || may_have_mic && too_long == MIC_LEN {
            let payload = whole.data.get(HEADER_LEN..).and_then(|rest| rest.get(..len)).unwrap_or_default();
            self.frame(from, id, payload, (&whole.frames, when.time_ns), out)
        } else {
            let end = whole.data.len() as u64;
            Err(Fault::value(Stage::Link, 0, "end of the L2CAP frame", end, "what its length says"))
        };
        whole.clear();
        self.direction(from).frame = whole;
        heard
    }

    fn frame(
        &mut self,
        from: Side,
        id: u16,
        payload: &[u8],
        brought: (&[u64], i64),
        out: (&mut Vec<u8>, &mut Vec<u64>),
    ) -> Result<BluetoothContent, Fault> {
        const ATTRIBUTES: u16 = 4;
        const LE_SIGNALLING: u16 = 5;
        const SECURITY_MANAGER: u16 = 6;
        match id {
            ATTRIBUTES => Ok(BluetoothContent::Other("Bluetooth attributes (ATT)")),
            LE_SIGNALLING => {
                self.signalling(from, payload)?;
                Ok(BluetoothContent::Other("L2CAP signalling"))
            }
            SECURITY_MANAGER => Ok(BluetoothContent::Other("the Bluetooth Security Manager")),
            0x40..=0x7f => self.k_frame(from, id, payload, brought, out),
            _ => Ok(BluetoothContent::Other("an L2CAP channel that is none of IPSP")),
        }
    }

    /// Requests and responses that open credit-based channels (4.22 to 4.26), and those that close them (4.6, 4.7).
    fn signalling(&mut self, from: Side, payload: &[u8]) -> Result<(), Fault> {
        const DISCONNECTION_RESPONSE: u8 = 0x07;
        const LE_CREDIT_BASED_REQUEST: u8 = 0x14;
        const LE_CREDIT_BASED_RESPONSE: u8 = 0x15;
        const CREDIT_BASED_REQUEST: u8 = 0x17;
        const CREDIT_BASED_RESPONSE: u8 = 0x18;
        let mut reader = Reader::new(Stage::Link, "L2CAP signalling", payload);
        let (code, identifier, len) = (reader.u8()?, reader.u8()?, u16_le(&mut reader)?);
        let mut reader = Reader::new(Stage::Link, "L2CAP signalling", reader.take(usize::from(len))?);
        match code {
            LE_CREDIT_BASED_REQUEST => self.request(from, identifier, true, &mut reader),
            CREDIT_BASED_REQUEST => self.request(from, identifier, false, &mut reader),
            LE_CREDIT_BASED_RESPONSE => self.response(from, identifier, true, &mut reader),
            CREDIT_BASED_RESPONSE => self.response(from, identifier, false, &mut reader),
            DISCONNECTION_RESPONSE => self.disconnected(from, &mut reader),
            _ => Ok(()),
        }
    }

    /// A request to open channels. `is_single`: the ID of its only channel comes first; else a list of IDs comes last.
    fn request(&mut self, from: Side, identifier: u8, is_single: bool, reader: &mut Reader<'_>) -> Result<(), Fault> {
        /// The SPSM of IPSP.
        const IPSP: u16 = 0x0023;
        /// Most channels of a request.
        const MAX_IDS: usize = 5;
        let kind = if u16_le(reader)? == IPSP { Kind::Ipsp } else { Kind::OtherProfile };
        let first = if is_single { Some(u16_le(reader)?) } else { None };
        let mtu = usize::from(u16_le(reader)?);
        reader.take(4)?;
        let mut ids: Vec<u16> = first.into_iter().collect();
        while !is_single && reader.left() > 0 && ids.len() < MAX_IDS {
            ids.push(u16_le(reader)?);
        }
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.remove(0);
        }
        self.requests.push(Request { from, identifier, kind, mtu, ids });
        Ok(())
    }

    /// The response to a request. Opens the channels that were accepted. `is_single` as in [`Connection::request`].
    fn response(&mut self, from: Side, identifier: u8, is_single: bool, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let is_answered = |request: &Request| request.from == from.other() && request.identifier == identifier;
        let Some(at) = self.requests.iter().rposition(is_answered) else { return Ok(()) };
        let request = self.requests.remove(at);
        let first = if is_single { Some(u16_le(reader)?) } else { None };
        let mtu = usize::from(u16_le(reader)?);
        reader.take(4)?;
        let result = u16_le(reader)?;
        if is_single && result != 0 {
            return Ok(());
        }
        for own in request.ids {
            let other = match first {
                Some(id) => id,
                None if reader.left() == 0 => break,
                None => u16_le(reader)?,
            };
            // 0 means that this channel was refused.
            if other != 0 {
                self.open(Channel::new(from, own, request.kind, request.mtu));
                self.open(Channel::new(from.other(), other, request.kind, mtu));
            }
        }
        Ok(())
    }

    /// The response to a request to close a channel.
    fn disconnected(&mut self, from: Side, reader: &mut Reader<'_>) -> Result<(), Fault> {
        // The first ID belongs to the side that answers, the second to the side that asked.
        let [own, other] = [u16_le(reader)?, u16_le(reader)?];
        let closed = [(from.other(), own), (from, other)];
        self.channels.retain(|channel| !closed.contains(&(channel.from, channel.id)));
        Ok(())
    }

    fn open(&mut self, channel: Channel) {
        self.channels.retain(|other| (other.from, other.id) != (channel.from, channel.id));
        if self.channels.len() >= MAX_CHANNELS {
            self.channels.remove(0);
        }
        self.channels.push(channel);
    }

    fn k_frame(
        &mut self,
        from: Side,
        id: u16,
        payload: &[u8],
        (frames, time_ns): (&[u64], i64),
        (sdu, sdu_frames): (&mut Vec<u8>, &mut Vec<u64>),
    ) -> Result<BluetoothContent, Fault> {
        let (link, connection) = (link(from, self.addresses), self.id);
        if !self.channels.iter().any(|channel| (channel.from, channel.id) == (from, id)) {
            self.open(Channel::new(from, id, Kind::Guessed { likely: false }, MAX_GUESSED_LEN));
        }
        let Some(channel) = self.channels.iter_mut().find(|channel| (channel.from, channel.id) == (from, id)) else {
            return Ok(BluetoothContent::Incomplete);
        };
        if channel.kind == Kind::OtherProfile {
            return Ok(BluetoothContent::Other("an L2CAP channel of another profile than IPSP"));
        }
        let guessed = channel.kind != Kind::Ipsp;
        if channel.sdu.deadline <= time_ns {
            channel.sdu_len = None;
        }
        let (len, data) = match channel.sdu_len {
            Some(len) => (len, payload),
            None => {
                channel.sdu.clear();
                let mut reader = Reader::new(Stage::Link, "K-frame", payload);
                let (len, data) = (usize::from(u16_le(&mut reader)?), reader.rest());
                let may_begin = matches!(data.first(), Some(0x41 | 0x60..=0x7f)) && len <= channel.mtu;
                let is_alone = len == data.len();
                match channel.kind {
                    _ if !may_begin => {
                        return Ok(BluetoothContent::Other("an L2CAP channel, but not the start of a 6LoWPAN frame"));
                    }
                    Kind::Guessed { likely: false } if !is_alone => {
                        return Ok(BluetoothContent::Other("an L2CAP channel whose set-up was not captured"));
                    }
                    Kind::Guessed { .. } => channel.kind = Kind::Guessed { likely: true },
                    _ => {}
                }
                (len, data)
            }
        };
        channel.sdu.add(data, frames, time_ns);
        channel.sdu_len = Some(len);
        let has = channel.sdu.data.len();
        if has < len {
            return Ok(BluetoothContent::Incomplete);
        }
        channel.sdu_len = None;
        if has > len {
            return Err(Fault::value(Stage::Link, 0, "end of the L2CAP SDU", has as u64, "what its length says"));
        }
        sdu.clear();
        sdu.append(&mut channel.sdu.data);
        sdu_frames.clear();
        sdu_frames.append(&mut channel.sdu.frames);
        Ok(BluetoothContent::Sdu { link, connection, guessed })
    }
}

impl Channel {
    fn new(from: Side, id: u16, kind: Kind, mtu: usize) -> Channel {
        Channel { from, id, kind, mtu, sdu_len: None, sdu: Partial::default() }
    }
}
