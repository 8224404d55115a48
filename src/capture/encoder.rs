//! Compression of outputs whose name ends in `.gz` or `.zst`.

use std::io::{self, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::Error;

/// Uncompressed bytes per zstd frame. The encoder compresses a whole frame at once, and a stream can have any number of
/// frames.
const ZSTD_FRAME_LEN: usize = 1 << 20;

/// Compresses the bytes of an output.
pub(super) enum Encoder {
    Plain,
    Gzip(GzEncoder<Vec<u8>>),
    /// Bytes that are not compressed yet.
    Zstd(Vec<u8>),
}

impl Encoder {
    /// The encoder for the extension of a file name.
    ///
    /// # Errors
    /// The extension is that of an unsupported compression format.
    pub(super) fn for_path(path: &Path) -> Result<Encoder, Error> {
        match compression(path) {
            Some(Compression::Gzip) => Ok(Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))),
            Some(Compression::Zstd) => Ok(Encoder::Zstd(Vec::new())),
            None if has_extension(path, &NOT_WRITTEN) => Err(Error::file(
                path,
                "this compression format is not supported for outputs",
                "let the output end in .gz or .zst, or do not compress it",
            )),
            None => Ok(Encoder::Plain),
        }
    }

    /// Passes `bytes`, compressed, to `write`. With `at_once`, passes all of them; otherwise some may be kept for
    /// later.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        at_once: bool,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Encoder::Plain => write(bytes),
            Encoder::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                if at_once {
                    encoder.flush()?;
                }
                let made = encoder.get_mut();
                write(made)?;
                made.clear();
                Ok(())
            }
            Encoder::Zstd(pending) => {
                pending.extend_from_slice(bytes);
                let end = if at_once { pending.len() } else { pending.len() / ZSTD_FRAME_LEN * ZSTD_FRAME_LEN };
                for frame in pending.get(..end).unwrap_or_default().chunks(ZSTD_FRAME_LEN) {
                    write(&zstd_frame(frame))?;
                }
                pending.drain(..end);
                Ok(())
            }
        }
    }

    /// Passes the end of the compressed stream to `write`.
    pub(super) fn finish(self, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Encoder::Plain => Ok(()),
            Encoder::Gzip(encoder) => write(&encoder.finish()?),
            Encoder::Zstd(pending) if pending.is_empty() => Ok(()),
            Encoder::Zstd(pending) => write(&zstd_frame(&pending)),
        }
    }
}

fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

#[derive(Debug, Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

/// Extensions of other compressed formats. Readers would fail on uncompressed data under such a name.
const NOT_WRITTEN: [&str; 7] = ["bz2", "xz", "lz4", "lzma", "br", "zip", "7z"];

fn compression(path: &Path) -> Option<Compression> {
    if has_extension(path, &["gz"]) {
        Some(Compression::Gzip)
    } else if has_extension(path, &["zst"]) {
        Some(Compression::Zstd)
    } else {
        None
    }
}

fn has_extension(path: &Path, names: &[&str]) -> bool {
    path.extension().is_some_and(|extension| names.iter().any(|name| extension.eq_ignore_ascii_case(name)))
}

/// Whether an output is written as pcap: its name ends in `.pcap`, or in `.pcap` and the extension of a compression
/// format.
pub(super) fn names_pcap(path: &Path) -> bool {
    let stem = path.file_stem().map(Path::new);
    let name = if compression(path).is_some() { stem.unwrap_or(path) } else { path };
    has_extension(name, &["pcap"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_format_and_compression() {
        let names = [
            ("a.pcap", true, false),
            ("a.PCAP", true, false),
            ("a.pcap.gz", true, true),
            ("a.pcap.ZST", true, true),
            ("a.pcapng.zst", false, true),
            ("a.gz", false, true),
            ("pcap.gz", false, true),
            ("a.pcap.gz.old", false, false),
            ("-", false, false),
        ];
        for (name, pcap, compressed) in names {
            let path = Path::new(name);
            assert_eq!((names_pcap(path), compression(path).is_some()), (pcap, compressed), "{name}");
        }
    }

    /// All bytes written to a pipe can be decompressed at once, without the bytes after them.
    #[test]
    fn with_at_once_all_bytes_are_written() {
        for name in ["out.gz", "out.zst"] {
            let (mut encoder, mut written) = (Encoder::for_path(Path::new(name)).unwrap(), vec![]);
            for piece in [&b"first"[..], b"second", &[7; 3_000_000]] {
                let mut put = |bytes: &[u8]| {
                    written.extend_from_slice(bytes);
                    Ok(())
                };
                encoder.write(piece, true, &mut put).unwrap();
                let mut read = vec![];
                let compressed: Box<dyn io::Read> = match name {
                    "out.gz" => Box::new(flate2::read::MultiGzDecoder::new(&written[..])),
                    _ => Box::new(io::Cursor::new(all_zstd_frames(&written))),
                };
                // A gzip stream has no end yet.
                let _ = io::Read::read_to_end(&mut { compressed }, &mut read);
                assert!(read.ends_with(piece), "{name}");
            }
        }
    }

    fn all_zstd_frames(mut bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![];
        while !bytes.is_empty() {
            let mut frame = ruzstd::decoding::StreamingDecoder::new(&mut bytes).unwrap();
            io::Read::read_to_end(&mut frame, &mut all).unwrap();
        }
        all
    }
}
