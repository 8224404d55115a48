//! Whole captures through the commands, with the keys and rules of the samples.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dietesp::internals::batch::workers::Input;
use dietesp::internals::capture::{Reader, Writer};
use dietesp::internals::cipher::Suite;
use dietesp::internals::command::compress::{self, OnMismatch};
use dietesp::internals::command::convert::{self, Reseal, Target};
use dietesp::internals::command::decode::{self, Render};
use dietesp::internals::context::Origin;
use dietesp::internals::decoder::candidates::Limits;
use dietesp::internals::files;
use dietesp::internals::link;
use dietesp::internals::records::json;
use dietesp::internals::records::record::Record;
use dietesp::internals::records::select::Selection;
use dietesp::internals::records::totals::Totals;
use dietesp::internals::sa::Sa;
use dietesp::internals::sa::UsedKeys;
use dietesp::internals::sa::table::{PreparedSa, SaTable};
use dietesp::internals::wireshark;

use super::link::reader;

/// A sample's key and rule file.
macro_rules! sample {
    ($keys:literal, $sample:literal) => {
        (
            &include_bytes!(concat!("../../", $keys))[..],
            &include_bytes!(concat!("../../samples/", $sample, "/rules.yaml"))[..],
        )
    };
}

/// The SAs of all samples in one table, and the settings of their radio networks.
pub fn samples() -> &'static (SaTable, link::Settings) {
    static SAMPLES: OnceLock<(SaTable, link::Settings)> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut entries = vec![];
        let mut link = link::Settings::default();
        for (keys, rules) in [
            sample!("keys/gateway.yaml", "gateway"),
            sample!("keys/ipv4.yaml", "ipv4"),
            sample!("keys/probe.yaml", "probe"),
            sample!("keys/tcp.yaml", "tcp"),
            sample!("keys/transport.yaml", "transport"),
            sample!("samples/radio/keys.yaml", "radio"),
        ] {
            let read = |bytes| files::parse(Path::new("sample"), bytes).unwrap_or_else(|error| panic!("{error}"));
            let (keys, rules) = (read(keys), read(rules));
            let bound = files::bind(&keys.sas, &rules.contexts).unwrap_or_else(|error| panic!("{error}"));
            for (sa, context) in keys.sas.into_iter().zip(bound) {
                let context = context.and_then(|at| rules.contexts.get(at)).cloned();
                entries.push(PreparedSa::new(sa, context).unwrap_or_else(|error| panic!("{error}")));
            }
            link.link_keys.extend(keys.link_keys);
            link.contexts.extend(rules.lowpan_contexts);
        }
        (SaTable::new(entries), link)
    })
}

const LIMITS: Limits = Limits { sn_tries: 8, resync_tries: None, notify: None };

struct Json;

impl Render for Json {
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>) {
        json::write_line(record, text);
    }
}

/// Decodes a capture. `see` gets the JSON lines. Returns `None` if it is not a capture.
pub fn decode(bytes: Vec<u8>, threads: usize, see: &mut (dyn FnMut(&[u8]) + Send)) -> Option<Totals> {
    decode_with(&samples().0, reader(bytes)?, threads, see)
}

fn decode_with(
    table: &SaTable,
    mut reader: Reader,
    threads: usize,
    see: &mut (dyn FnMut(&[u8]) + Send),
) -> Option<Totals> {
    let mut sink = |text: &[u8], _| {
        see(text);
        Ok(())
    };
    let input = Input { reader: &mut reader, table, limits: LIMITS, link: &samples().1, threads };
    let run = decode::run(input, decode::Shown::default(), &Json, &mut sink);
    Some(run.unwrap_or_else(|error| panic!("{error}")).totals)
}

/// The verified packets of a capture, in hex.
fn packets(table: &SaTable, reader: Reader) -> BTreeSet<String> {
    let mut packets = BTreeSet::new();
    let mut last = 0;
    let mut see = |text: &[u8]| {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line).expect("every line is JSON");
            let frame = record["frame"].as_u64().expect("every record has a frame");
            assert!(frame > last, "a frame has one record");
            assert!(record["status"].is_string());
            assert_eq!(record["status"] == "ok", record["reason"].is_null());
            last = frame;
            if record["esp"]["icv"] == "verified" {
                packets.extend(record["packet"].as_str().filter(|packet| !packet.is_empty()).map(str::to_owned));
            }
        }
    };
    decode_with(table, reader, 1, &mut see);
    packets
}

/// An output that can be read again.
struct Output(PathBuf);

impl Output {
    fn new() -> Output {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        Output(std::env::temp_dir().join(format!("dietesp-fuzz-{process}-{thread:?}.pcapng")))
    }

    fn read(&self) -> Reader {
        Reader::open(&self.0).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A capture file in `decode`, `convert` and `compress`. Packets converted to ESP must decrypt to the same packets.
pub fn pipeline(data: &[u8]) {
    let (table, link) = samples();
    let Some(input) = reader(data.to_vec()) else { return };
    let opened = packets(table, input);
    let again = || reader(data.to_vec()).expect("a capture, as before");
    let suite = Suite::by_name("ENCR_AES_GCM_16").expect("a cipher");
    let targets = [(Target::Esp, Reseal::Fresh(suite)), (Target::Esp, Reseal::Keep), (Target::Plain, Reseal::Keep)];
    for (target, reseal) in targets {
        // Sometimes read again, if there is something in it.
        let output = (target == Target::Esp && !opened.is_empty() && data.len().is_multiple_of(4)).then(Output::new);
        let path = output.as_ref().map_or(Path::new("/dev/null"), |output| &output.0);
        let Ok(writer) = Writer::create(path) else { return };
        let settings = convert::Settings {
            target,
            reseal,
            seed: Some(1),
            limits: LIMITS,
            selection: Selection::default(),
            link: link.clone(),
            keep_repeats: false,
            threads: 1,
        };
        let mut entries = vec![];
        let keep = |keys: &[UsedKeys]| {
            wireshark::lines(keys);
            entries.extend(keys.iter().map(entry));
            Ok(())
        };
        let converted = convert::run(&mut again(), writer, table, &settings, &mut |_| {}, keep);
        if converted.is_ok()
            && let Some(output) = output
        {
            assert_eq!(packets(&SaTable::new(entries), output.read()), opened, "{reseal:?}");
        }
    }
    for input in [compress::Input::Esp, compress::Input::Plain] {
        let Ok(writer) = Writer::create(Path::new("/dev/null")) else { return };
        let settings = compress::Settings {
            on_mismatch: OnMismatch::Skip,
            input,
            allow_nonce_reuse: true,
            seed: Some(1),
            limits: LIMITS,
            selection: Selection::default(),
            link: link.clone(),
            threads: 1,
        };
        let _ = compress::run(&mut again(), writer, table, table, &settings, &mut |_| {});
    }
}

/// An SA of a converted capture.
fn entry(used: &UsedKeys) -> PreparedSa {
    let sa = Sa {
        name: used.name.clone(),
        spi: used.spi,
        src: used.src,
        dst: used.dst,
        link_src: None,
        link_dst: None,
        keys: used.keys.clone(),
        esn: used.esn,
        sn_hint: None,
        read_as_ccm: false,
        origin: Origin { path: std::path::Path::new("used").into(), line: 1 },
    };
    PreparedSa::new(sa, None).unwrap_or_else(|error| panic!("{error}"))
}
