//! Checks a kit by computing all its values again.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::failure::{CLEAR_TEXT, Case, ICV, NO_MATCH, RULE_ID, SPI};
use super::kit::{self, Kit};
use super::packet::{Inputs, Problem, States, Vector};
use crate::error::Error;
use crate::files::{self, Json};
use crate::sa::table::{PreparedSa, SaTable};

/// The result of [`check`].
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// Packet vectors in the kit.
    pub packets: usize,
    /// Failure vectors in the kit.
    pub failures: usize,
    /// The first value that differs; `None` if the kit is right.
    pub difference: Option<Difference>,
}

/// A wrong value of a kit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: `packet 3`, `failure 2`, `tables 1`, `sas 4`, or the kit itself.
    pub item: String,
    /// The name of the value.
    pub name: String,
    /// The computed value, bytes as hex digits, or a description of the expected value.
    pub expected: String,
    /// The value in the kit.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { item, name, expected, got } = self;
        write!(f, "{item}: {name}: expected {expected}, got {got}")
    }
}

/// Computes every value of the kit in `text` from its rules, keys, packets, sequence numbers and IVs. `path` is
/// used in messages.
///
/// # Errors
///
/// `text` is not a kit, its rules and keys do not result in SAs, or an input value is missing or not hexadecimal.
pub fn check(path: &Path, text: &str) -> Result<Checked, Error> {
    let kit = kit::read(path, text)?;
    let table = table(path, &kit)?;
    let checker = Checker { path, kit: &kit, table: &table };
    let [.., packets, failures] = &kit.lists;
    let (packets, failures) = (packets.len(), failures.len());
    Ok(Checked { packets, failures, difference: checker.difference()? })
}

fn table(path: &Path, kit: &Kit) -> Result<SaTable, Error> {
    let loaded = files::parse(path, kit.file.as_bytes()).map_err(|error| {
        // The rules and keys were combined into one file, so its line numbers mean nothing to the user.
        Error::file(path, format!("`sas` and `contexts`: {}", problem_of(&error)), error.help())
    })?;
    let bound = files::bind(&loaded.sas, &loaded.contexts)?;
    let entries = loaded.sas.into_iter().zip(bound).map(|(sa, context)| {
        let context = context.and_then(|index| loaded.contexts.get(index)).cloned();
        PreparedSa::new(sa, context)
    });
    Ok(SaTable::new(entries.collect::<Result<_, _>>()?))
}

fn problem_of(error: &Error) -> String {
    match error {
        Error::File { problem, .. } => problem.clone(),
        other => other.to_string(),
    }
}

struct Checker<'k> {
    path: &'k Path,
    kit: &'k Kit,
    table: &'k SaTable,
}

impl Checker<'_> {
    fn difference(&self) -> Result<Option<Difference>, Error> {
        let [sas, contexts, tables, packets, failures] = &self.kit.lists;
        for (index, entry) in self.table.entries().iter().enumerate() {
            let lists = [("sas", sas), ("contexts", contexts), ("tables", tables)];
            for ((name, list), line) in lists.into_iter().zip(kit::lines_of(entry)?) {
                let got = list.get(index).unwrap_or(&Value::Null);
                if let Some(difference) = differs(&format!("{name} {}", index + 1), &line, got) {
                    return Ok(Some(difference));
                }
            }
        }
        if let Some(item) = [contexts, tables].into_iter().find(|list| list.len() != sas.len()) {
            let (expected, got) = (sas.len().to_string(), item.len().to_string());
            let item = "`contexts` and `tables`".to_owned();
            return Ok(Some(Difference { item, name: "number of items".to_owned(), expected, got }));
        }
        let mut states = States::default();
        let mut vectors = vec![];
        for (index, line) in packets.iter().enumerate() {
            let item = format!("packet {}", index + 1);
            match self.packet(&item, index + 1, line, &mut states)? {
                Ok(vector) => vectors.push(vector),
                Err(difference) => return Ok(Some(difference)),
            }
        }
        for (index, line) in failures.iter().enumerate() {
            let item = format!("failure {}", index + 1);
            if let Some(difference) = self.failure(&item, index + 1, line, &vectors)? {
                return Ok(Some(difference));
            }
        }
        let [got, expected] = self.kit.digest.clone();
        let item = "the kit as a whole".to_owned();
        Ok((got != expected).then_some(Difference { item, name: "sha256".to_owned(), expected, got }))
    }

    fn packet(
        &self,
        item: &str,
        number: usize,
        line: &Value,
        states: &mut States,
    ) -> Result<Result<Vector, Difference>, Error> {
        let sa = self.sa(item, line)?;
        let (outer_header, inner_packet) =
            (self.hex(item, line, "outer_header")?, self.hex(item, line, "inner_packet")?);
        let (sn, iv) = (self.sn(item, line)?, self.hex(item, line, "iv")?);
        let inputs = Inputs { outer_header: &outer_header, inner_packet: &inner_packet, sn, iv: &iv };
        let Some(entry) = self.table.entries().get(sa) else { return Err(self.unusable(item, "sa")) };
        Ok(match Vector::compute(self.table, sa, &inputs, states) {
            Err(problem) => Err(of_problem(item, line, problem)),
            Ok(vector) => differs(item, &vector.line(number, &entry.sa.name), line).map_or(Ok(vector), Err),
        })
    }

    fn failure(
        &self,
        item: &str,
        number: usize,
        line: &Value,
        vectors: &[Vector],
    ) -> Result<Option<Difference>, Error> {
        let sa = self.sa(item, line)?;
        let number_of = |name: &str| {
            let value = line.get(name).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| self.unusable(item, name))
        };
        let kind = line.get("kind").and_then(Value::as_str).unwrap_or_default();
        let (outer_header, bytes);
        let iv;
        let case = match [ICV, SPI, RULE_ID].into_iter().find(|known| *known == kind) {
            Some(kind) => {
                let (of, bit) = (number_of("of")?, number_of("bit")?);
                let vector = of.checked_sub(1).and_then(|index| vectors.get(index));
                let vector = vector.ok_or_else(|| self.unusable(item, "of"))?;
                Case::Flipped { kind, of, bit, vector }
            }
            None if kind == CLEAR_TEXT => {
                outer_header = self.hex(item, line, "outer_header")?;
                (bytes, iv) = (self.hex(item, line, "clear_text")?, self.hex(item, line, "iv")?);
                let sn = self.sn(item, line)?;
                Case::ClearText { outer_header: &outer_header, sn, iv: &iv, clear_text: &bytes }
            }
            None if kind == NO_MATCH => {
                outer_header = self.hex(item, line, "outer_header")?;
                bytes = self.hex(item, line, "inner_packet")?;
                Case::NoMatch { outer_header: &outer_header, inner_packet: &bytes }
            }
            None => return Err(self.unusable(item, "kind")),
        };
        Ok(match case.line(self.table, sa, number) {
            Err(problem) => Some(of_problem(item, line, problem)),
            Ok(Some(expected)) => differs(item, &expected, line),
            Ok(None) => Some(Difference {
                item: item.to_owned(),
                name: "stage".to_owned(),
                expected: "none: nothing fails".to_owned(),
                got: shown(line.get("stage").unwrap_or(&Value::Null)),
            }),
        })
    }

    /// The position of the SA that `line` names.
    fn sa(&self, item: &str, line: &Value) -> Result<usize, Error> {
        let name = line.get("sa").and_then(Value::as_str);
        let position = self.table.entries().iter().position(|entry| Some(entry.sa.name.as_str()) == name);
        position.ok_or_else(|| self.unusable(item, "sa"))
    }

    fn hex(&self, item: &str, line: &Value, name: &str) -> Result<Vec<u8>, Error> {
        let text = line.get(name).and_then(Value::as_str);
        text.and_then(|text| hex::decode(text).ok()).ok_or_else(|| self.unusable(item, name))
    }

    /// `sn`, combined with `sn_high` as the high half.
    fn sn(&self, item: &str, line: &Value) -> Result<u64, Error> {
        let half = |name| {
            let bytes = self.hex(item, line, name)?;
            if bytes.is_empty() {
                return Ok(0);
            }
            let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| self.unusable(item, name))?;
            Ok(u64::from(u32::from_be_bytes(bytes)))
        };
        Ok(half("sn_high")? << 32 | half("sn")?)
    }

    fn unusable(&self, item: &str, name: &str) -> Error {
        let problem = format!("{item}: `{name}` is missing or invalid");
        Error::file(self.path, problem, "check that the kit is complete")
    }
}

/// An input value cannot be used to compute the other values.
fn of_problem(item: &str, line: &Value, problem: Problem) -> Difference {
    let (name, expected) = match problem {
        Problem::Mismatch(mismatch) => ("inner_packet", format!("a packet that the context matches ({mismatch})")),
        Problem::Wrong(name, what) => (name, format!("another value ({what})")),
    };
    let got = shown(line.get(name).unwrap_or(&Value::Null));
    Difference { item: item.to_owned(), name: name.to_owned(), expected, got }
}

/// The first member of `line` that differs from `expected`.
fn differs(item: &str, expected: &Json, line: &Value) -> Option<Difference> {
    let Json::Object(members) = expected else { return None };
    let null = Value::Null;
    let difference = |name: &str, expected: String, got: &Value| Difference {
        item: item.to_owned(),
        name: name.to_owned(),
        expected,
        got: shown(got),
    };
    for (name, value) in members {
        let value = serde_json::to_value(value).unwrap_or_default();
        let got = line.get(*name).unwrap_or(&null);
        if *got != value {
            return Some(difference(name, shown(&value), got));
        }
    }
    let known = |name: &String| members.iter().any(|(known, _)| known == name);
    let (name, got) = line.as_object()?.iter().find(|(name, _)| !known(name))?;
    Some(difference(name, "nothing".to_owned(), got))
}

/// Hex digits and numbers unchanged, anything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        other => other.to_string(),
    }
}
