//! Cipher suites of ESP as tables of rows. TEMPORARY COPY of the tables only; the whole module replaces it at merge.

mod keys;
mod table;

pub use keys::{IntegKey, KeyError, Keys, Part};
pub use table::{Cipher, Hash, INTEGS, Integ, SUITES, Suite, WiresharkNames};
