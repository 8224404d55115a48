//! Writes the files with which Wireshark decrypts ESP: its key list `esp_sa`, and preferences.

mod esp_sa;
mod profile;

pub use esp_sa::{Line, lines};
pub use profile::write_folder;
#[cfg(feature = "cli")]
pub(crate) use profile::{has_other_profile, paths};
