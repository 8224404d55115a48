//! The public names of the library.

mod capture;
mod decoder;
mod files;
mod record;
mod session;

pub use capture::{Capture, Frame};
pub use decoder::Decoder;
pub use files::{Keys, Rules};
pub use record::{Record, Records};
pub use session::Session;
