//! The wide search for a sequence number, on all cores.

use crate::cipher::OpenError;
use crate::cores;
use crate::sa::sequence::SequenceNumbers;
use crate::sa::table::PreparedSa;

/// Tries the next `tries` sequence numbers of `order`. Each core takes the next block of sequence numbers.
pub(super) fn search_on_all_cores(
    entry: &PreparedSa,
    spi: u32,
    order: SequenceNumbers,
    tries: u64,
    body: &[u8],
    clear: &mut Vec<u8>,
    notify: Option<fn(u64, u64)>,
) -> Result<u64, OpenError> {
    const BLOCK: usize = 1 << 15;
    let order = std::sync::Mutex::new((order, 0u64));
    let found = std::sync::Mutex::new(None);
    let work = || {
        let mut clear = vec![];
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            if found.lock().is_ok_and(|found| found.is_some()) {
                return;
            }
            block.clear();
            if let Ok(mut next) = order.lock() {
                let (order, taken) = &mut *next;
                let left = tries.saturating_sub(*taken).min(BLOCK as u64);
                block.extend(order.take(left as usize));
                *taken += block.len() as u64;
                if let Some(notify) = notify {
                    notify(*taken, tries);
                }
            }
            if block.is_empty() {
                return;
            }
            let result = entry.cipher().open_search(spi, block.iter().copied(), entry.esn(), body, &mut clear);
            if let (Ok(sn), Ok(mut found)) = (result, found.lock()) {
                found.get_or_insert(sn);
            }
        }
    };
    cores::side_by_side(cores::count(), work);
    if let Some(notify) = notify {
        notify(tries, tries);
    }
    let sn = found.into_inner().ok().flatten().ok_or(OpenError::NotAuthentic)?;
    entry.cipher().open(spi, sn, entry.esn(), body, clear).map(|()| sn)
}
