//! The SA table of a decoder: the SAs of key and rule files, and those of IKE exchanges in the capture.

use std::sync::Arc;

use super::EspDecoder;
use crate::capture::Frame;
use crate::context::Context;
use crate::error::Error;
use crate::files;
use crate::ike::{Exchanges, Secrets};
use crate::net::Datagram;
use crate::sa::Sa;
use crate::sa::table::{PreparedSa, SaBuilder, SaTable};

/// Warnings kept of IKE exchanges. One is a sentence.
const MOST_WARNINGS: usize = 256;

/// Prepares SAs with the contexts that name them.
///
/// # Errors
/// A context names no SA or several; a cipher or a context cannot do what an SA needs.
pub(crate) fn prepare(sas: Vec<Arc<Sa>>, contexts: Vec<Context>) -> Result<SaTable, Error> {
    Ok(SaTable::new(prepared(sas, contexts)?))
}

fn prepared(sas: Vec<Arc<Sa>>, contexts: Vec<Context>) -> Result<Vec<PreparedSa>, Error> {
    let bound = files::bind(&sas, &contexts)?;
    let contexts: Vec<Arc<Context>> = contexts.into_iter().map(Arc::new).collect();
    let mut builder = SaBuilder::default();
    let mut entries = Vec::with_capacity(sas.len());
    for (sa, context) in sas.into_iter().zip(bound) {
        let context = context.and_then(|index| contexts.get(index)).cloned();
        entries.push(builder.entry(sa, context)?);
    }
    Ok(entries)
}

/// Derives SAs from the IKE exchanges of a capture, as its frames come.
#[derive(Debug)]
pub(crate) struct IkeFollower {
    exchanges: Exchanges,
    /// Contexts that name an SA that no exchange has made so far.
    waiting: Vec<Context>,
    warnings: Vec<String>,
}

impl IkeFollower {
    /// Prepares the SAs that are known before any exchange. The contexts that name none of them wait.
    ///
    /// # Errors
    /// As [`prepare`]; the secrets do not open the exchanges of any IKE SA.
    pub(crate) fn new(
        secrets: &Secrets,
        sas: Vec<Arc<Sa>>,
        contexts: Vec<Context>,
    ) -> Result<(SaTable, IkeFollower), Error> {
        let (contexts, waiting) = files::split_named(&sas, contexts);
        let table = prepare(sas, contexts)?;
        Ok((table, IkeFollower { exchanges: Exchanges::new(secrets)?, waiting, warnings: vec![] }))
    }

    /// Reads a frame before it is decoded; see [`IkeFollower::add_completed`].
    pub(crate) fn survey(&mut self, frame: &Frame<'_>) {
        self.exchanges.frame(frame);
    }

    /// Adds the SAs of the exchanges that were completed since the last call.
    pub(crate) fn add_completed(&mut self, table: &mut SaTable) {
        let derived = self.exchanges.completed();
        self.warn(derived.warnings);
        if derived.sas.is_empty() {
            return;
        }
        let (contexts, waiting) = files::split_named(&derived.sas, std::mem::take(&mut self.waiting));
        self.waiting = waiting;
        match prepared(derived.sas, contexts) {
            Ok(entries) => table.extend(entries),
            Err(error) => self.warn([error.to_string()]),
        }
    }

    /// Warnings about child SAs that could not be derived: one sentence each.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        let room = MOST_WARNINGS.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }
}

impl EspDecoder {
    /// Adds the SAs of an IKE exchange that ends with this packet.
    #[inline]
    pub(super) fn follow_ike(&mut self, packet: &Datagram<'_>, frame: &Frame<'_>) {
        if let Some(follower) = &mut self.ike
            && follower.exchanges.datagram(frame.number, packet)
        {
            follower.add_completed(&mut self.sas);
        }
    }
}
