//! What the commands do with the packets of a capture.

pub mod compress;
pub mod convert;
pub mod decode;
pub mod frame_writer;
pub mod seal_queue;
