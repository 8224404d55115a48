//! Capture files: declared FCS, frames without time, odd containers.
