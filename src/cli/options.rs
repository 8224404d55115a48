//! Options that several commands share.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::outputs::Files;
use crate::capture::{Form, FrameNumbers, HexIs, Reader, Source};
use crate::cores;
use crate::decoder::candidates::{Limits, RESYNC_TRIES};
use crate::decoder::sas;
use crate::decoder::status::Status;
use crate::error::Error;
use crate::files;
use crate::ike;
use crate::link;
use crate::net::Selector;
use crate::records::filter::Filter;
use crate::records::select::Selection;
use crate::sa::table::SaTable;

/// Key and rule files.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Rule file with the contexts of the SAs (YAML); repeatable
    #[arg(long = "rules", short = 'r', value_name = "R")]
    pub rules: Vec<PathBuf>,
    /// Key file; repeatable. YAML, Wireshark's esp_sa, the output of `ip xfrm state`, a charon log with keys, a setkey
    /// file, secrets of `tcpdump -E`, or SK_d with an ikev2_decryption_table. The format is detected from the content
    #[arg(long = "keys", short = 'k', value_name = "K", required = true)]
    pub keys: Vec<PathBuf>,
}

/// How far to search for sequence numbers, how to read the capture, and which packets to select.
#[derive(Debug, Args)]
pub(super) struct Opening {
    #[command(flatten)]
    pub decoding: Decoding,
    /// Worker threads (default: one per core). The output does not depend on their number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// How far to search for sequence numbers, and how to read the capture.
#[derive(Debug, Args)]
pub(super) struct Decoding {
    /// Sequence numbers to try per SA and packet
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub sn_tries: u32,
    /// Try 2^24 sequence numbers, or with `--resync full` all of them. This applies to an SA that has not verified a
    /// packet yet or whose last 16 packets failed. With `full` and an ICV of 8 bytes, a forged packet verifies with a
    /// probability of 2^-32
    #[arg(long, value_name = "full", num_args = 0..=1, require_equals = true, default_missing_value = "wide", value_parser = ["wide", "full"])]
    pub resync: Option<String>,
    /// Trailer after each IEEE 802.15.4 frame (default: auto)
    #[arg(long, value_enum)]
    pub fcs: Option<FcsArg>,
    /// Form of CAPTURE
    #[arg(long, value_enum, default_value_t = FromArg::Capture, value_name = "FORM")]
    pub from: FromArg,
    /// What `hex` is in the lines of `--from hex` (default: esp)
    #[arg(long, value_enum, value_name = "WHAT")]
    pub hex_is: Option<HexIsArg>,
    #[command(flatten)]
    pub esp_ports: EspPortArgs,
}

/// UDP ports of ESP.
#[derive(Debug, Args)]
pub(super) struct EspPortArgs {
    /// UDP port of ESP, in addition to 4500; repeatable
    #[arg(long = "esp-port", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub esp_ports: Vec<u16>,
}

impl EspPortArgs {
    /// Sets these ports in the SA table and in the link layer.
    pub(super) fn apply(&self, (table, link): (SaTable, link::Settings)) -> (SaTable, link::Settings) {
        let esp_ports = link::EspPorts::with(&self.esp_ports);
        (table.with_esp_ports(esp_ports.clone()), link::Settings { esp_ports, ..link })
    }
}

/// The values of `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FromArg {
    /// A pcap or pcapng file
    Capture,
    /// Lines of `time,src,dst,hex`, one packet each
    Hex,
}

/// The values of `--hex-is`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum HexIsArg {
    /// The ESP payload, which follows the outer IP header
    Esp,
    /// The whole IP packet
    Ip,
}

/// The values of `--fcs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FcsArg {
    /// CRC (ITU-T CRC-16)
    Crc,
    /// Metadata of a TI radio: RSSI, CRC_OK and LQI
    Ti,
    /// No trailer
    None,
    /// The trailer that most of the first frames have
    Auto,
}

/// Which packets to select.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// Only packets with this SPI (decimal, or hex with 0x)
    #[arg(long, value_parser = parse_spi)]
    pub spi: Option<u32>,
    /// Only packets whose outer source is this address or in this prefix
    #[arg(long, value_name = "ADDRESS", value_parser = parse_selector)]
    pub src: Option<Selector>,
    /// Only packets whose outer destination is this address or in this prefix
    #[arg(long, value_name = "ADDRESS", value_parser = parse_selector)]
    pub dst: Option<Selector>,
    /// Only these frames: numbers and ranges, such as 1,3,7-9
    #[arg(long, visible_alias = "frame", value_name = "LIST", value_delimiter = ',', value_parser = parse_frames)]
    pub frames: Vec<(u64, u64)>,
    /// Only failed packets of known SAs
    #[arg(long)]
    pub failed: bool,
}

/// Which records to show.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only packets that match this expression, such as 'inner.dst_port == 5683 && esp.sequence > 100'
    #[arg(short = 'Y', long = "filter", value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Only packets with one of these statuses, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_status)]
    pub status: Vec<Status>,
}

impl FilterArgs {
    /// Adds these conditions to `selection`.
    pub(super) fn add_to(&self, selection: Selection) -> Result<Selection, Error> {
        let filter = self.filter.as_deref().map(Filter::parse).transpose()?;
        Ok(Selection { statuses: self.status.clone(), filter, ..selection })
    }
}

impl Inputs {
    /// All input files: keys, rules and the capture.
    pub(super) fn files<'p>(&'p self, capture: &'p PathBuf) -> Files<'p> {
        Files::default().read("capture", [capture]).read("key file", &self.keys).read("rule file", &self.rules)
    }

    /// Loads the files, prepares every SA, and prints warnings. If the files have secrets of IKE SAs, this first reads
    /// the capture for the IKE exchanges.
    pub(super) fn table(&self, capture: &Path, quiet: bool) -> Result<(SaTable, link::Settings), Error> {
        load_table(&self.keys, &self.rules, capture, quiet)
    }
}

/// Loads key and rule files and prepares every SA, as [`Inputs::table`]. Also returns the settings of the link layer in
/// these files.
pub(super) fn load_table(
    keys: &[PathBuf],
    rules: &[PathBuf],
    capture: &Path,
    quiet: bool,
) -> Result<(SaTable, link::Settings), Error> {
    let mut loaded = files::load(keys, rules)?;
    derive_children(&mut loaded, Some(capture))?;
    for warning in &loaded.warnings {
        super::report(quiet, &format!("dietesp: warning: {warning}\n"));
    }
    let table = sas::prepare(loaded.sas, loaded.contexts)?;
    let link =
        link::Settings { contexts: loaded.lowpan_contexts, link_keys: loaded.link_keys, ..link::Settings::default() };
    Ok((table, link))
}

/// Adds the SAs derived from secrets of IKE SAs and the IKE exchanges in a capture.
pub(super) fn derive_children(loaded: &mut files::Loaded, capture: Option<&Path>) -> Result<(), Error> {
    let Some(origin) = loaded.ike.origin() else { return Ok(()) };
    let Some(capture) = capture else {
        let problem = "secrets of IKE SAs need the IKE exchanges to derive SAs: add --capture CAPTURE";
        loaded.warnings.push(format!("{origin}: {problem}"));
        return Ok(());
    };
    if capture == Path::new("-") {
        return Err(Error::line(
            &origin.path,
            origin.line,
            "secrets of IKE SAs require reading the capture twice: first its IKE exchanges, then its packets",
            "standard input can be read only once: save the capture to a file and give its name",
        ));
    }
    let derived = ike::derive(&mut Reader::open(capture)?, &loaded.ike)?;
    loaded.sas.extend(derived.sas);
    loaded.warnings.extend(derived.warnings);
    Ok(())
}

impl Opening {
    /// [`Decoding::reader`].
    pub(super) fn reader(&self, path: &Path) -> Result<Reader, Error> {
        self.decoding.reader(path)
    }

    /// [`Decoding::source`].
    pub(super) fn source(&self) -> Result<Source, Error> {
        self.decoding.source()
    }

    /// [`Decoding::apply`].
    pub(super) fn apply(&self, loaded: (SaTable, link::Settings)) -> (SaTable, link::Settings) {
        self.decoding.apply(loaded)
    }

    /// [`Decoding::limits`].
    pub(super) fn limits(&self, quiet: bool) -> Limits {
        self.decoding.limits(quiet)
    }

    /// Worker threads: the number given, otherwise one per core.
    pub(super) fn threads(&self) -> usize {
        self.threads.map_or_else(cores::count, usize::from)
    }
}

impl Decoding {
    /// Opens the input. The reader stops at the first signal.
    pub(super) fn reader(&self, path: &Path) -> Result<Reader, Error> {
        let source = self.source()?;
        super::interrupt::stops(&source.stop)?;
        Reader::open_as(path, &source)
    }

    /// The form of the input.
    pub(super) fn source(&self) -> Result<Source, Error> {
        let form = match self.from {
            FromArg::Hex if self.fcs.is_some() => {
                return Err(Error::usage(
                    "--fcs has no effect with --from hex",
                    "the lines contain no radio frames: omit --fcs",
                ));
            }
            FromArg::Hex => Form::Hex(match self.hex_is {
                None | Some(HexIsArg::Esp) => HexIs::Esp,
                Some(HexIsArg::Ip) => HexIs::Ip,
            }),
            FromArg::Capture if self.hex_is.is_some() => {
                return Err(Error::usage("--hex-is has an effect only with --from hex", "add --from hex"));
            }
            FromArg::Capture => Form::Capture,
        };
        Ok(Source { form, ..Source::default() })
    }

    /// Applies these options to the SA table and the link settings.
    pub(super) fn apply(&self, loaded: (SaTable, link::Settings)) -> (SaTable, link::Settings) {
        let (table, link) = self.esp_ports.apply(loaded);
        (table, link::Settings { fcs: self.fcs(), ..link })
    }

    /// The mode of `--fcs`.
    fn fcs(&self) -> link::Fcs {
        match self.fcs {
            Some(FcsArg::Crc) => link::Fcs::Crc,
            Some(FcsArg::Ti) => link::Fcs::Ti,
            Some(FcsArg::None) => link::Fcs::None,
            Some(FcsArg::Auto) | None => link::Fcs::Auto,
        }
    }

    /// The limits of the search.
    pub(super) fn limits(&self, quiet: bool) -> Limits {
        if self.resync.as_deref() == Some("full") {
            super::report(
                quiet,
                "dietesp: warning: --resync=full: with an ICV of 8 bytes, a forged packet verifies with a \
                    probability of 2^-32, because 2^32 sequence numbers are tried\n",
            );
        }
        let resync_tries = self.resync.as_ref().map(|how| if how == "full" { u64::MAX } else { RESYNC_TRIES });
        Limits { sn_tries: self.sn_tries, resync_tries, notify: (!quiet).then_some(super::progress::search) }
    }
}

impl SelectionArgs {
    /// The selection for the decoder.
    pub(super) fn selection(&self) -> Selection {
        let frames = (!self.frames.is_empty()).then(|| FrameNumbers::new(self.frames.clone()));
        Selection { spi: self.spi, src: self.src, dst: self.dst, frames, failed: self.failed, ..Selection::default() }
    }
}

fn parse_spi(text: &str) -> Result<u32, String> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| "expected 0x and up to 8 hex digits, or a decimal number below 2^32".to_owned())
}

fn parse_selector(text: &str) -> Result<Selector, String> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "expected an IP address or a prefix".to_owned())?;
    let Selector::Prefix { len: most, .. } = Selector::address(address) else { return Ok(Selector::Any) };
    match len {
        None => Ok(Selector::address(address)),
        Some(len) => match len.parse::<u8>() {
            Ok(len) if len <= most => Ok(Selector::Prefix { address, len }),
            _ => Err(format!("expected a prefix length of 0 to {most}")),
        },
    }
}

fn parse_status(text: &str) -> Result<Status, String> {
    let names = Status::ALL.map(Status::name);
    Status::ALL
        .into_iter()
        .find(|status| status.name() == text)
        .ok_or_else(|| format!("expected statuses of this list, separated by commas: {}", names.join(", ")))
}

pub(super) fn parse_frames(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |number: &str, open: u64| if number.is_empty() { Ok(open) } else { number.parse() };
    match (parse(first, 1), parse(last, u64::MAX)) {
        (Ok(first), Ok(last)) if first <= last && !text.is_empty() && text != "-" => Ok((first, last)),
        _ => Err("expected frame numbers and ranges, such as 1,3,7-9".to_owned()),
    }
}
