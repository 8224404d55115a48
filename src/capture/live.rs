//! Inputs on which a read may wait: standard input, FIFOs, devices. A separate thread reads them, so that a [`Stop`]
//! ends the wait.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The capacity of a Linux pipe.
const CHUNK_LEN: usize = 64 * 1024;
/// Chunks read ahead.
const AHEAD: usize = 4;
/// How often a waiting reader checks for a stop.
const LOOK: Duration = Duration::from_millis(50);
/// Ctrl-C also reaches the program at the other end of a pipe, which may still have buffered packets (tcpdump without
/// -U). They are read for this long.
const GRACE: Duration = Duration::from_millis(500);

/// Ends the reading of a capture early, from another thread. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    requested: OnceLock<Instant>,
    at_once: AtomicBool,
}

impl Stop {
    /// Requests a stop; false if one was requested before.
    pub fn request(&self) -> bool {
        self.0.requested.set(Instant::now()).is_ok()
    }

    /// Requests a stop that no pipe delays, because nothing more is needed.
    pub fn request_at_once(&self) {
        self.0.at_once.store(true, Ordering::Relaxed);
        self.request();
    }

    /// Whether [`Stop::request_at_once`] was called.
    pub fn is_at_once(&self) -> bool {
        self.0.at_once.load(Ordering::Relaxed)
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.0.requested.get().is_some()
    }

    /// How long a pipe may still deliver bytes; `None` if no stop was requested.
    fn grace(&self) -> Option<Duration> {
        let grace = if self.is_at_once() { Duration::ZERO } else { GRACE };
        self.0.requested.get().map(|since| grace.saturating_sub(since.elapsed()))
    }
}

/// Returns bytes as they arrive, and the end of the stream soon after a stop.
pub(super) struct Live {
    chunks: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    /// Bytes of `current` that were already returned.
    used: usize,
    stop: Stop,
    ended: bool,
}

impl Live {
    /// Reads what `open` opens. Opening may wait, too.
    pub(super) fn new<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static, stop: Stop) -> io::Result<Live> {
        let (sender, chunks) = sync_channel(AHEAD);
        // Not joined: the thread may wait for input indefinitely, and ends with the process.
        std::thread::Builder::new().spawn(move || {
            let result = open().and_then(|input| pump(input, &sender));
            if let Err(error) = result {
                let _ = sender.send(Err(error));
            }
        })?;
        Ok(Live { chunks, current: vec![], used: 0, stop, ended: false })
    }

    /// The next chunk; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let wait = self.stop.grace().unwrap_or(LOOK);
            match self.chunks.recv_timeout(wait.min(LOOK)) {
                Ok(chunk) if !self.stop.grace().is_some_and(|grace| grace.is_zero()) => return chunk.map(Some),
                Err(RecvTimeoutError::Timeout) if !wait.is_zero() => {}
                _ => return Ok(None),
            }
        }
    }
}

/// Sends the bytes of `input` until it ends or the receiver is gone.
fn pump(mut input: impl Read, sender: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_LEN];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let chunk = buffer.get(..len).unwrap_or_default().to_vec();
                if sender.send(Ok(chunk)).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Read for Live {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.current.len() {
            if self.ended {
                return Ok(0);
            }
            match self.next() {
                Ok(Some(chunk)) => (self.current, self.used) = (chunk, 0),
                end => {
                    self.ended = true;
                    return end.map(|_| 0);
                }
            }
        }
        let len = self.current.get(self.used..).unwrap_or_default().read(buffer)?;
        self.used += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers one byte and then nothing, not even an end.
    struct Silent(bool);

    impl Read for Silent {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                std::thread::sleep(Duration::from_secs(3600));
            }
            buffer[0] = 7;
            Ok(1)
        }
    }

    #[test]
    fn a_stop_ends_the_wait_and_earlier_bytes_are_returned() {
        let stop = Stop::default();
        let mut live = Live::new(|| Ok(Silent(false)), stop.clone()).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(live.read(&mut buffer).unwrap(), 1);
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            (stop.request(), stop.request())
        });
        let started = Instant::now();
        assert_eq!(live.read(&mut buffer).unwrap(), 0);
        assert!((GRACE..Duration::from_secs(20)).contains(&started.elapsed()), "{:?}", started.elapsed());
        assert_eq!(stopper.join().unwrap(), (true, false));
        assert_eq!(live.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn the_end_of_the_stream_and_errors_follow_the_bytes() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|index| index as u8).collect();
        let copy = bytes.clone();
        let mut read = vec![];
        Live::new(|| Ok(io::Cursor::new(copy)), Stop::default()).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        let refused = || Err::<io::Empty, _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let mut live = Live::new(refused, Stop::default()).unwrap();
        assert_eq!(live.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
