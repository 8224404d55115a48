//! What the commands do with the packets of a capture.

pub(crate) mod compress;
pub(crate) mod convert;
pub(crate) mod decode;
pub(crate) mod frame_writer;
pub(crate) mod seal_queue;
