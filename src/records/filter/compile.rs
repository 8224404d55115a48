//! Looks up the names of a filter, and reads its values as the types of their fields require.

use regex::{Regex, RegexBuilder};

use super::condition::{Accepted, Condition, Moment};
use super::literal;
use super::syntax::{Comparison, Expression, Item, Operator, Problem, Test, Word};
use crate::files::near;
use crate::records::fields::{Field, Kind};

/// Bytes that the program of a regular expression may have.
const REGEX_SIZE: usize = 1 << 20;

pub(super) fn compile(expression: &Expression) -> Result<Condition, Problem> {
    let each = |terms: &[Expression]| terms.iter().map(compile).collect::<Result<Vec<_>, _>>();
    Ok(match expression {
        Expression::Any(terms) => Condition::Any(each(terms)?),
        Expression::All(terms) => Condition::All(each(terms)?),
        Expression::Not(inner) => Condition::Not(Box::new(compile(inner)?)),
        Expression::Test(test) => condition(test)?,
    })
}

fn condition(test: &Test) -> Result<Condition, Problem> {
    let name = &test.field.text;
    let Some(field) = Field::by_name(name) else { return object(test) };
    let Some(comparison) = &test.comparison else { return Ok(Condition::Has(field)) };
    let accepted = match field.kind {
        Kind::Number | Kind::Spi => {
            check_operator(comparison, name, "a number", ORDER)?;
            Accepted::Numbers(ranges(comparison, literal::number)?)
        }
        Kind::Time => {
            check_operator(comparison, name, "a time", ORDER)?;
            Accepted::Times(ranges(comparison, literal::time)?)
        }
        Kind::Numbers => {
            check_operator(comparison, name, "a list", ELEMENTS)?;
            Accepted::Numbers(ranges(comparison, literal::number)?)
        }
        Kind::Address => {
            check_operator(comparison, name, "an address", EQUALITY)?;
            Accepted::Addresses(values(comparison, literal::selector)?)
        }
        Kind::Bytes => {
            check_operator(comparison, name, "bytes", ELEMENTS)?;
            let mut values = values(comparison, literal::bytes)?;
            match (comparison.operator, values.pop()) {
                (Operator::Contains, Some(part)) => Accepted::BytesWith(part),
                (_, last) => Accepted::Bytes(values.into_iter().chain(last).collect()),
            }
        }
        Kind::Text => {
            check_operator(comparison, name, "text", TEXT)?;
            texts(comparison, &[])?
        }
        Kind::Name(names) => {
            check_operator(comparison, name, "text", TEXT)?;
            texts(comparison, &names())?
        }
        Kind::Names(names) => {
            check_operator(comparison, name, "a list", ELEMENTS)?;
            Accepted::Texts(values(comparison, |word| known_name(word, &names()))?)
        }
    };
    Ok(Condition::Is { field, negated: comparison.operator == Operator::NotEqual, accepted })
}

/// The condition that the record has an object, such as `inner`.
fn object(test: &Test) -> Result<Condition, Problem> {
    let Word { text: name, at, .. } = &test.field;
    let fields: Vec<Field> = Field::all_of(name).collect();
    match &test.comparison {
        _ if fields.is_empty() => {
            Err(Problem::new(*at, format!("there is no field `{name}`"), Field::suggestion(name)))
        }
        None => Ok(Condition::Any(fields.into_iter().map(Condition::Has).collect())),
        Some(_) => {
            let names: Vec<String> = fields.iter().map(Field::full_name).collect();
            let help = format!("compare one of these: {}", names.join(" "));
            Err(Problem::new(*at, format!("`{name}` has several fields"), help))
        }
    }
}

const EQUALITY: &[Operator] = &[Operator::Equal, Operator::NotEqual, Operator::In];
const ELEMENTS: &[Operator] = &[Operator::Equal, Operator::NotEqual, Operator::In, Operator::Contains];
const TEXT: &[Operator] = &[Operator::Equal, Operator::NotEqual, Operator::In, Operator::Contains, Operator::Matches];
const ORDER: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::In,
];

fn check_operator(comparison: &Comparison, field: &str, what: &str, allowed: &[Operator]) -> Result<(), Problem> {
    if allowed.contains(&comparison.operator) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(|operator| operator.name()).collect();
    let text = format!("`{field}` is {what}, which `{}` does not compare", comparison.operator.name());
    Err(Problem::new(comparison.at, text, format!("operators for it: {}", names.join(" "))))
}

/// Values of which some are smaller than others.
trait Ordered: Copy {
    const LEAST: Self;
    const GREATEST: Self;
    /// The next smaller value.
    fn before(self) -> Self;
    /// The next greater value.
    fn after(self) -> Self;
    /// Whether it is known to be greater than `other`.
    fn exceeds(self, other: Self) -> bool;
}

impl Ordered for i128 {
    const LEAST: i128 = i128::MIN;
    const GREATEST: i128 = i128::MAX;

    fn before(self) -> i128 {
        self.saturating_sub(1)
    }

    fn after(self) -> i128 {
        self.saturating_add(1)
    }

    fn exceeds(self, other: i128) -> bool {
        self > other
    }
}

impl Ordered for Moment {
    const LEAST: Moment = Moment::Earliest;
    const GREATEST: Moment = Moment::Latest;

    fn before(self) -> Moment {
        match self {
            Moment::At(nanos) => Moment::At(nanos.before()),
            Moment::AfterFirst(nanos) => Moment::AfterFirst(nanos.before()),
            end => end,
        }
    }

    fn after(self) -> Moment {
        match self {
            Moment::At(nanos) => Moment::At(nanos.after()),
            Moment::AfterFirst(nanos) => Moment::AfterFirst(nanos.after()),
            end => end,
        }
    }

    fn exceeds(self, other: Moment) -> bool {
        match (self, other) {
            (Moment::At(own), Moment::At(other)) | (Moment::AfterFirst(own), Moment::AfterFirst(other)) => own > other,
            _ => false,
        }
    }
}

/// The ranges that a comparison of ordered values accepts; for `!=` those that it rejects.
fn ranges<T: Ordered>(
    comparison: &Comparison,
    value: impl Fn(&Word) -> Result<T, Problem>,
) -> Result<Vec<(T, T)>, Problem> {
    let range = |item: &Item| {
        let first = value(&item.first)?;
        let last = item.last.as_ref().map(&value).transpose()?.unwrap_or(first);
        if first.exceeds(last) {
            return Err(Problem::new(item.first.at, "this range is empty", "write the smaller value first"));
        }
        Ok(match comparison.operator {
            Operator::Less => (T::LEAST, first.before()),
            Operator::LessOrEqual => (T::LEAST, first),
            Operator::Greater => (first.after(), T::GREATEST),
            Operator::GreaterOrEqual => (first, T::GREATEST),
            _ => (first, last),
        })
    };
    comparison.items.iter().map(range).collect()
}

/// The values of a comparison that has no ranges.
fn values<T>(comparison: &Comparison, value: impl Fn(&Word) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    let one = |item: &Item| match &item.last {
        None => value(&item.first),
        Some(_) => Err(Problem::new(item.first.at, "only numbers and times have ranges", "list the values")),
    };
    comparison.items.iter().map(one).collect()
}

/// The texts that a comparison accepts. If the field has a text of `names` only, they must be among these.
fn texts(comparison: &Comparison, names: &[&str]) -> Result<Accepted, Problem> {
    let is_part = matches!(comparison.operator, Operator::Contains | Operator::Matches);
    let mut values = values(comparison, |word| match names {
        [_, ..] if !is_part => known_name(word, names),
        _ => literal::text(word),
    })?;
    Ok(match comparison.operator {
        Operator::Contains => Accepted::TextWith(values.pop().unwrap_or_default()),
        Operator::Matches => Accepted::Pattern(pattern(&comparison.items, &values.pop().unwrap_or_default())?),
        _ => Accepted::Texts(values),
    })
}

fn pattern(items: &[Item], text: &str) -> Result<Regex, Problem> {
    let at = items.first().map_or(0, |item| item.first.at);
    RegexBuilder::new(text).size_limit(REGEX_SIZE).build().map_err(|error| {
        // The message of a syntax error has several lines; the last one says what is wrong.
        let error = error.to_string();
        let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Problem::new(at, format!("not a regular expression: {cause}"), "")
    })
}

/// One of `names`, or why not.
fn known_name(word: &Word, names: &[&str]) -> Result<String, Problem> {
    let text = literal::text(word)?;
    if names.contains(&text.as_str()) {
        return Ok(text);
    }
    let help = match near(&text, names.iter().copied()).first() {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("it has these values: {}", names.join(" ")),
    };
    Err(Problem::new(word.at, format!("the field never has the value \"{text}\""), help))
}
