//! State that dialects keep from one packet of an SA to the next.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::codec::State;
use crate::decoder::streams::MULTICAST_SOURCES;
use crate::net::OuterHeader;

/// The state after the last packet of each SA, as its receivers have it. If the destination is a multicast address,
/// there is one for each source.
#[derive(Debug, Default)]
pub(crate) struct States(HashMap<(u32, Option<IpAddr>), State>);

impl States {
    /// The state for the next packet of an SA.
    pub(crate) fn of(&self, sa: u32, outer: &OuterHeader) -> State {
        self.0.get(&key(sa, outer)).copied().unwrap_or_default()
    }

    /// Stores the state after a packet of an SA. There are `sas` SAs.
    pub(crate) fn set(&mut self, (sa, sas): (u32, usize), outer: &OuterHeader, state: State) {
        // The streams of a receiver are kept in the same way.
        if self.0.len() >= sas + MULTICAST_SOURCES {
            self.0.retain(|(_, src), _| src.is_none());
        }
        self.0.insert(key(sa, outer), state);
    }
}

fn key(sa: u32, outer: &OuterHeader) -> (u32, Option<IpAddr>) {
    (sa, Some(outer.src).filter(|_| outer.dst.is_multicast()))
}
