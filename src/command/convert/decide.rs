//! Decides in capture order what to do with each packet.

use super::resealing::{Conversion, KeySource};
use super::{Convert, Reseal, Target};
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Status;
use crate::error::Error;

/// What to do with one packet of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// It is written unchanged.
    Keep,
    /// A fragment is held until its packet is complete.
    Hold,
    /// It is omitted.
    Omit,
    /// It is replaced by its inner packet. If packets are nested, this is the innermost one.
    Plain,
    /// Its ESP header is restored.
    HeaderOnly,
    /// Its ESP header is restored, and its IV is inserted.
    ExplicitIv,
    /// It is encrypted again with this IV, of which the cipher uses as many bytes as it needs.
    Sealed([u8; 16]),
}

impl Convert<'_, '_> {
    /// Decides about a packet. `innermost` is `outcome` or, if packets are nested, the innermost decrypted one.
    pub(super) fn action(
        &self,
        source: &mut KeySource,
        outcome: &Outcome<'_>,
        innermost: &Outcome<'_>,
        selected: bool,
    ) -> Result<Action, Error> {
        let is_nested = outcome.inside > 0;
        if outcome.repeat {
            let keeps = selected && !is_nested && self.settings.keep_repeats;
            return Ok(if keeps { Action::Keep } else { Action::Omit });
        }
        if self.settings.reseal == Reseal::Keep && self.settings.target == Target::Esp {
            source.note_input(outcome, self.table)?;
        }
        if !selected {
            return Ok(Action::Omit);
        }
        if outcome.waits && !is_nested {
            return Ok(Action::Hold);
        }
        let Some(sa) = outcome.sa.filter(|_| outcome.status == Status::Ok) else { return Ok(Action::Keep) };
        match self.settings.target {
            Target::Esp => self.esp(source, sa),
            // A nested packet is part of the innermost packet.
            Target::Plain if is_nested => Ok(Action::Keep),
            Target::Plain => {
                let is_dummy = innermost.restored.is_some_and(|restored| restored.upper.is_none());
                Ok(if is_dummy { Action::Omit } else { Action::Plain })
            }
        }
    }

    /// How a decrypted packet of this SA becomes standard ESP.
    #[inline]
    fn esp(&self, source: &mut KeySource, sa: u32) -> Result<Action, Error> {
        let (conversion, iv) = self.conversions.next(sa, self.settings, source)?;
        Ok(match conversion {
            Conversion::None => Action::Keep,
            Conversion::HeaderOnly => Action::HeaderOnly,
            Conversion::ExplicitIv => Action::ExplicitIv,
            Conversion::Sealed(_) => Action::Sealed(iv),
        })
    }
}
