//! What a filter asks of a record.

use std::fmt::Write;

use regex::Regex;

use super::Evaluation;
use crate::net::Selector;
use crate::records::fields::{Field, Value};
use crate::records::record::Record;

/// A filter with fields and values looked up.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// One of these holds.
    Any(Vec<Condition>),
    /// All of these hold.
    All(Vec<Condition>),
    Not(Box<Condition>),
    /// The record has the field, and it is not an empty list.
    Has(Field),
    /// The record has the field, and its value is one of `accepted`, or with `negated` none of them.
    Is {
        field: Field,
        negated: bool,
        accepted: Accepted,
    },
}

/// Values that a condition accepts. For a list, one element is enough.
#[derive(Debug, Clone)]
pub(super) enum Accepted {
    /// Numbers in one of these ranges, both ends included.
    Numbers(Vec<(i128, i128)>),
    /// Times in one of these ranges, both ends included.
    Times(Vec<(Moment, Moment)>),
    Addresses(Vec<Selector>),
    /// One of these texts.
    Texts(Vec<String>),
    /// A text with this part.
    TextWith(String),
    Pattern(Regex),
    /// One of these sequences of bytes.
    Bytes(Vec<Vec<u8>>),
    /// Bytes with this part.
    BytesWith(Vec<u8>),
}

/// A time, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before all others.
    Earliest,
    /// Since 1970.
    At(i128),
    /// Since the first frame.
    AfterFirst(i128),
    /// After all others.
    Latest,
}

impl Moment {
    /// In nanoseconds since 1970; `None` if the time of the first frame is needed and there is none.
    fn nanos(self, evaluation: &Evaluation) -> Option<i128> {
        match self {
            Moment::Earliest => Some(i128::MIN),
            Moment::At(nanos) => Some(nanos),
            Moment::AfterFirst(nanos) => evaluation.first_ns?.checked_add(nanos),
            Moment::Latest => Some(i128::MAX),
        }
    }
}

impl Condition {
    /// Whether the record fulfils it.
    pub(super) fn holds(&self, record: &Record<'_>, evaluation: &mut Evaluation) -> bool {
        match self {
            Condition::Any(conditions) => conditions.iter().any(|condition| condition.holds(record, evaluation)),
            Condition::All(conditions) => conditions.iter().all(|condition| condition.holds(record, evaluation)),
            Condition::Not(condition) => !condition.holds(record, evaluation),
            Condition::Has(field) => match field.read(record) {
                None => false,
                Some(Value::Frames(frames)) => !frames.is_empty(),
                Some(Value::Warnings(warnings)) => warnings.names().next().is_some(),
                Some(_) => true,
            },
            Condition::Is { field, negated, accepted } => {
                field.read(record).is_some_and(|value| accepted.accepts(value, evaluation) != *negated)
            }
        }
    }
}

impl Accepted {
    /// Whether the value, or one element of the list, is accepted. Values of other types are not.
    pub(super) fn accepts(&self, value: Value<'_>, evaluation: &mut Evaluation) -> bool {
        match (self, value) {
            (Accepted::Numbers(ranges), Value::Number(number)) => holds_number(ranges, number.into()),
            (Accepted::Numbers(ranges), Value::Signed(number)) => holds_number(ranges, number.into()),
            (Accepted::Numbers(ranges), Value::Spi(spi)) => holds_number(ranges, spi.into()),
            (Accepted::Numbers(ranges), Value::Frames(frames)) => {
                frames.iter().any(|frame| holds_number(ranges, (*frame).into()))
            }
            (Accepted::Times(ranges), Value::Time(time)) => ranges.iter().any(|(first, last)| {
                let (Some(first), Some(last)) = (first.nanos(evaluation), last.nanos(evaluation)) else { return false };
                (first..=last).contains(&time.nanos())
            }),
            (Accepted::Addresses(selectors), Value::Address(address)) => {
                selectors.iter().any(|selector| selector.accepts(address))
            }
            (Accepted::Bytes(choices), Value::Bytes(bytes)) => choices.iter().any(|choice| choice == bytes),
            (Accepted::BytesWith(part), Value::Bytes(bytes)) => {
                part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
            }
            (_, Value::Name(text)) => self.accepts_text(text),
            (_, Value::Text(text)) => self.accepts_text(text),
            (_, Value::Warnings(warnings)) => warnings.names().any(|name| self.accepts_text(name)),
            (_, Value::Reason(reason)) => {
                evaluation.text.clear();
                // Writing into a string cannot fail.
                let _ = write!(evaluation.text, "{reason}");
                self.accepts_text(&evaluation.text)
            }
            _ => false,
        }
    }

    fn accepts_text(&self, text: &str) -> bool {
        match self {
            Accepted::Texts(texts) => texts.iter().any(|accepted| accepted == text),
            Accepted::TextWith(part) => text.contains(part.as_str()),
            Accepted::Pattern(pattern) => pattern.is_match(text),
            _ => false,
        }
    }
}

fn holds_number(ranges: &[(i128, i128)], number: i128) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
}
