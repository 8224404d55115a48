//! Inputs from practice that failed in the past. Every folder of `tests/data/field` has an expected result.
//!
//! There is one module per area. The README of `tests/data/field` describes the cases.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;

mod captures;
mod encapsulations;
mod hints;
mod keys;
mod lab;
mod outputs;
mod packets;
mod settled;

/// The path of a file below `tests/data/field`.
fn case(path: &str) -> String {
    common::file(&format!("tests/data/field/{path}"))
}
