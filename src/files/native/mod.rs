//! This program's own key and rule files, in YAML.

mod custom;
mod ehc;
pub(super) mod fields;
mod ietf;
pub(super) mod keys;
pub(super) mod rule_table;
pub(super) mod rules;
mod sixlo;
pub(super) mod yaml;
pub(super) mod yaml_flow;
