//! Sequence numbers seen in each stream, and the lines about streams in the summary.

use std::fmt::Write;
use std::net::IpAddr;

use crate::decoder::streams::Streams;
use crate::sa::stream::Stream;
use crate::sa::table::SaTable;

/// The sequence numbers seen in a stream.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The lowest number.
    pub first: Option<u64>,
    /// The highest number.
    pub last: Option<u64>,
    /// First and last missing number of each gap. If there are too many gaps, only the highest are kept.
    pub gaps: Vec<(u64, u64)>,
    /// Number of gaps that are not in `gaps`.
    pub gaps_not_listed: u64,
    /// How many numbers are missing, in all gaps together.
    pub missing: u64,
}

impl Numbers {
    /// The numbers of `stream`.
    pub(crate) fn of(stream: &Stream) -> Numbers {
        let runs: Vec<(u64, u64)> = stream.counts.numbers.iter().collect();
        let between = runs.iter().zip(runs.iter().skip(1));
        let gaps: Vec<(u64, u64)> = between.map(|(before, after)| (before.1 + 1, after.0 - 1)).collect();
        let (gaps_not_listed, missing_there) = stream.counts.numbers.joined();
        let missing = missing_there + gaps.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        let (first, last) = (runs.first().map(|run| run.0), runs.last().map(|run| run.1));
        Numbers { first, last, gaps, gaps_not_listed, missing }
    }

    /// Number of all gaps.
    pub(crate) fn gap_count(&self) -> u64 {
        self.gaps_not_listed + self.gaps.len() as u64
    }
}

/// Decryption attempts per verified packet; `None` if none verified.
pub(crate) fn tries_per_packet(stream: &Stream) -> Option<f64> {
    let counts = &stream.counts;
    (counts.verified > 0).then(|| counts.tries as f64 / counts.verified as f64)
}

/// The summary has lines for this many SAs at most.
const MOST: usize = 8;

/// One line for each SA with gaps, repeats, reordered packets or failures, up to [`MOST`].
pub(crate) fn remarks(sas: &SaTable, streams: &Streams) -> String {
    // Skip regular streams first: there may be thousands, and most have nothing to report.
    let odd = streams.streams(|stream| !stream.counts.are_regular()).into_iter();
    let mut lines = odd.filter_map(|(sa, source, stream)| remark(sas, sa, source, stream));
    let mut text: String = lines.by_ref().take(MOST).collect();
    let more = lines.count();
    if more > 0 {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{more} more SAs with gaps, repeats or failures: `dietesp sa` shows all");
    }
    text
}

fn remark(sas: &SaTable, sa: u32, source: Option<IpAddr>, stream: &Stream) -> Option<String> {
    let (counts, numbers) = (&stream.counts, Numbers::of(stream));
    let mut parts = vec![];
    if let (Some(first), Some(last), true) = (numbers.first, numbers.last, numbers.missing > 0) {
        let (missing, gaps) = (numbers.missing, numbers.gap_count());
        let s = if gaps == 1 { "" } else { "s" };
        parts.push(format!("{missing} of the Sequence Numbers {first} to {last} missing in {gaps} gap{s}"));
    }
    let anomalies = counts.anomalies();
    for (count, what) in
        [(anomalies.duplicates, "repeated"), (anomalies.replays, "replayed"), (anomalies.resyncs, "found by --resync")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if anomalies.failed > 0 {
        let tries = match anomalies.failed_tries {
            0 => String::new(),
            tries if tries == anomalies.failed => " after 1 try each".to_owned(),
            tries if tries % anomalies.failed == 0 => format!(" after {} tries each", tries / anomalies.failed),
            tries => format!(" after {:.2} tries each", tries as f64 / anomalies.failed as f64),
        };
        parts.push(format!("{} failed{tries}", anomalies.failed));
    }
    if anomalies.reorder_depth > 0 {
        parts.push(format!("reordered by up to {}", anomalies.reorder_depth));
    }
    if parts.is_empty() {
        return None;
    }
    let entry = sas.entry(sa)?;
    let (name, verified) = (&entry.sa.name, if entry.authenticates() { "verified" } else { "unauthenticated" });
    let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
    let tries = tries_per_packet(stream).map(|tries| format!(", {tries:.2} tries each")).unwrap_or_default();
    Some(format!("{name}{from}: {} {verified}{tries}; {}\n", counts.verified, parts.join(", ")))
}
