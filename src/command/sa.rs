//! sa: the Security Associations seen in a capture, with counts and gaps.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::decode::{self, Decoded, Render, Shown};
use crate::batch::workers::Input;
use crate::decoder::streams::Streams;
use crate::error::Error;
use crate::net::Selector;
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::streams::Numbers;
use crate::records::totals::Totals;
use crate::sa::stream::Stream;
use crate::sa::table::{PreparedSa, SaTable};

/// An SA seen in a capture. With a multicast destination, there is one for each source.
pub(crate) struct SeenSa<'l> {
    /// The SA.
    pub entry: &'l PreparedSa,
    /// The source, with a multicast destination.
    pub source: Option<IpAddr>,
    /// Its packets.
    pub stream: &'l Stream,
    /// Its sequence numbers.
    pub numbers: Numbers,
}

/// SAs, each with a source if it counts every source separately.
type SasWithSource = HashSet<(u32, Option<IpAddr>)>;

/// The SAs of chosen packets; all SAs if `None`.
#[derive(Default)]
pub(crate) struct ChosenSas(Option<Mutex<SasWithSource>>);

/// Writes no records, but collects their SAs.
impl Render for ChosenSas {
    fn record(&self, record: &Record<'_>, _text: &mut Vec<u8>) {
        if let (Some(chosen), Some(sa)) = (&self.0, record.sa_index()) {
            let mut chosen = chosen.lock().unwrap_or_else(PoisonError::into_inner);
            chosen.extend([(sa, None), (sa, record.outer().map(|outer| outer.src))]);
        }
    }
}

impl ChosenSas {
    /// Whether the stream of an SA is to be listed.
    fn has(&self, sa: u32, source: Option<IpAddr>) -> bool {
        let chosen = self.0.as_ref().map(|chosen| chosen.lock().unwrap_or_else(PoisonError::into_inner));
        chosen.is_none_or(|chosen| chosen.contains(&(sa, source)))
    }
}

/// Reads a capture to its end. Also returns the SAs of the packets that the statuses and the filter of `selection`
/// choose. `progress` is called after each window with the bytes read so far.
///
/// # Errors
/// The capture cannot be read.
pub(crate) fn run(
    input: Input<'_, '_>,
    selection: &Selection,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(Totals, Streams, ChosenSas), Error> {
    let mut sink = |_: &[u8], bytes_read: u64| {
        progress(bytes_read);
        Ok(())
    };
    let Selection { statuses, filter, .. } = selection.clone();
    let by_packets = Selection { statuses, filter, ..Selection::default() };
    let chosen = ChosenSas(by_packets.is_any().then(Mutex::default));
    let shown = Shown { selection: by_packets, most: None };
    let Decoded { mut totals, streams, .. } = decode::run(input, shown, &chosen, &mut sink)?;
    // The list shows SAs, not packets.
    totals.shown = None;
    Ok((totals, streams, chosen))
}

/// The SAs of `table` with a stream that `selection` selects, if they are among `chosen`.
pub(crate) fn selected<'l>(
    table: &'l SaTable,
    streams: &'l Streams,
    selection: &Selection,
    chosen: &'l ChosenSas,
) -> impl Iterator<Item = SeenSa<'l>> + use<'l> {
    let Selection { spi, src, dst, failed, .. } = *selection;
    let all = streams.streams(|_| true).into_iter();
    let all = all.filter(|(sa, source, _)| chosen.has(*sa, *source));
    let all = all.filter_map(|(sa, source, stream)| Some((table.entry(sa)?, source, stream)));
    let selected = all.filter(move |(entry, source, stream)| {
        let own_src = source.map_or(entry.sa.src, Selector::address);
        spi.is_none_or(|spi| entry.spi().is_none_or(|own| own == spi))
            && src.is_none_or(|src| src.overlaps(own_src))
            && dst.is_none_or(|dst| dst.overlaps(entry.sa.dst))
            && !(failed && stream.counts.anomalies().failed == 0)
    });
    selected.map(|(entry, source, stream)| SeenSa { entry, source, stream, numbers: Numbers::of(stream) })
}

/// One JSON object per SA and line.
pub(crate) fn json_lines<'l>(seen: impl Iterator<Item = SeenSa<'l>>) -> String {
    seen.map(|sa| format!("{}\n", sa.json())).collect()
}

impl SeenSa<'_> {
    /// The SPI in hex, if the SA has one.
    pub(crate) fn spi(&self) -> Option<String> {
        self.entry.sa.spi.map(|spi| format!("0x{spi:08x}"))
    }

    /// The source address, or the source addresses of the SA.
    pub(crate) fn src(&self) -> String {
        self.source.map_or_else(|| self.entry.sa.src.to_string(), |source| source.to_string())
    }

    fn json(&self) -> Value {
        let SeenSa { entry, stream, numbers, .. } = self;
        let (counts, anomalies) = (&stream.counts, stream.counts.anomalies());
        let gaps: Vec<Value> = numbers.gaps.iter().map(|(first, last)| json!([first, last])).collect();
        json!({
            "sa": entry.sa.name,
            "spi": self.spi(),
            "src": self.src(),
            "dst": entry.sa.dst.to_string(),
            "packets": counts.verified + anomalies.failed,
            "verified": counts.verified,
            "failed": anomalies.failed,
            "tries": counts.tries,
            "failed_tries": anomalies.failed_tries,
            "first": numbers.first,
            "last": numbers.last,
            "missing": numbers.missing,
            "gaps": gaps,
            "gaps_not_listed": numbers.gaps_not_listed,
            "duplicates": anomalies.duplicates,
            "replays": anomalies.replays,
            "reorder_depth": anomalies.reorder_depth,
            "resyncs": anomalies.resyncs,
        })
    }
}
