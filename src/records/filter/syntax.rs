//! The grammar of filters. It knows no fields: names and values remain words, with their place in the text.
//!
//! ```text
//! expression = all { ("||" | "or") all }
//! all        = not { ("&&" | "and") not }
//! not        = ("!" | "not") not | "(" expression ")" | test
//! test       = NAME [ operator word | "in" "{" item { "," item } "}" ]
//! operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "matches"
//! item       = word [ ".." word ]
//! word       = "text in quotes" | characters other than spaces and operators
//! ```

use winnow::combinator::{alt, eof, not, opt, preceded, repeat, separated, terminated};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location, Stateful, Stream};
use winnow::token::{any, one_of, take_while};
use winnow::{ModalResult, Parser};

/// How deep parentheses and `!` may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// What is wrong with a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Offset in bytes.
    pub at: usize,
    /// What is wrong.
    pub text: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl Problem {
    pub(super) fn new(at: usize, text: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { at, text: text.into(), help: help.into() }
    }
}

/// A filter whose names and values were not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// True if one of these is.
    Any(Vec<Expression>),
    /// True if all of these are.
    All(Vec<Expression>),
    Not(Box<Expression>),
    Test(Test),
}

/// A field, and what it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    pub field: Word,
    pub comparison: Option<Comparison>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comparison {
    pub operator: Operator,
    /// Offset of the operator in bytes.
    pub at: usize,
    /// One value; with [`Operator::In`] at least one.
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Contains,
    Matches,
}

impl Operator {
    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
            Operator::Contains => "contains",
            Operator::Matches => "matches",
        }
    }
}

/// One value, or a range with both its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub first: Word,
    pub last: Option<Word>,
}

/// A name or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes.
    pub text: String,
    pub quoted: bool,
    /// Offset in bytes.
    pub at: usize,
}

/// The text, and how deep the parser is in it.
type Input<'i> = Stateful<LocatingSlice<&'i str>, usize>;
type Parsed<T> = ModalResult<T, Problem>;

impl ParserError<Input<'_>> for Problem {
    type Inner = Problem;

    fn from_input(input: &Input<'_>) -> Problem {
        Problem::new(input.current_token_start(), "unexpected text", "")
    }

    fn into_inner(self) -> Result<Problem, Problem> {
        Ok(self)
    }
}

/// Parses a filter.
pub(super) fn parse(text: &str) -> Result<Expression, Problem> {
    let mut input = Input { input: LocatingSlice::new(text), state: 0 };
    let parsed = terminated(expression, end).parse_next(&mut input);
    parsed.map_err(|error| error.into_inner().unwrap_or_else(|_| Problem::new(text.len(), "unexpected end", "")))
}

fn expression(input: &mut Input<'_>) -> Parsed<Expression> {
    let mut terms: Vec<Expression> = separated(1.., all, lexeme(alt(("||", keyword("or"))))).parse_next(input)?;
    Ok(if terms.len() == 1 { terms.remove(0) } else { Expression::Any(terms) })
}

fn all(input: &mut Input<'_>) -> Parsed<Expression> {
    let mut terms: Vec<Expression> = separated(1.., negation, lexeme(alt(("&&", keyword("and"))))).parse_next(input)?;
    Ok(if terms.len() == 1 { terms.remove(0) } else { Expression::All(terms) })
}

fn negation(input: &mut Input<'_>) -> Parsed<Expression> {
    input.state += 1;
    if input.state > MAX_DEPTH {
        let problem = format!("more than {MAX_DEPTH} nested parentheses and `!`");
        return cut(input.current_token_start(), problem, "write the filter with fewer of them");
    }
    let exclamation = lexeme(alt((terminated("!", not("=")), keyword("not"))));
    let parsed = if opt(exclamation).parse_next(input)?.is_some() {
        negation(input).map(|inner| Expression::Not(Box::new(inner)))
    } else if let Some(at) = opt(symbol("(")).parse_next(input)? {
        expression(input).and_then(|inner| match opt(symbol(")")).parse_next(input)? {
            Some(_) => Ok(inner),
            None => unclosed(input, at),
        })
    } else {
        test(input).map(Expression::Test)
    };
    input.state -= 1;
    parsed
}

/// The text after a complete expression that is not closed yet.
fn unclosed<T>(input: &mut Input<'_>, opened: usize) -> Parsed<T> {
    spaces(input)?;
    if input.eof_offset() == 0 {
        return cut(opened, "this parenthesis is not closed", "add `)`");
    }
    leftover(input)
}

fn test(input: &mut Input<'_>) -> Parsed<Test> {
    let field = field(input)?;
    spaces(input)?;
    let at = input.current_token_start();
    let Some(operator) = opt(operator).parse_next(input)? else {
        return Ok(Test { field, comparison: None });
    };
    let items = match operator {
        Operator::In => set(input)?,
        _ => vec![Item { first: word(input)?, last: None }],
    };
    Ok(Test { field, comparison: Some(Comparison { operator, at, items }) })
}

fn operator(input: &mut Input<'_>) -> Parsed<Operator> {
    alt((
        "==".value(Operator::Equal),
        "!=".value(Operator::NotEqual),
        "<=".value(Operator::LessOrEqual),
        ">=".value(Operator::GreaterOrEqual),
        "<".value(Operator::Less),
        ">".value(Operator::Greater),
        keyword("in").value(Operator::In),
        keyword("contains").value(Operator::Contains),
        keyword("matches").value(Operator::Matches),
    ))
    .parse_next(input)
}

fn set(input: &mut Input<'_>) -> Parsed<Vec<Item>> {
    spaces(input)?;
    let at = input.current_token_start();
    if opt(symbol("{")).parse_next(input)?.is_none() {
        return cut(at, "`in` is followed by a set", "write `in {1, 5..9}`");
    }
    let items = separated(1.., item, symbol(",")).parse_next(input)?;
    spaces(input)?;
    let end = input.current_token_start();
    match opt(symbol("}")).parse_next(input)? {
        Some(_) => Ok(items),
        None if input.eof_offset() == 0 => cut(at, "this set is not closed", "add `}`"),
        None => cut(end, "expected `,` or `}`", "write a set as `{1, 5..9}`"),
    }
}

fn item(input: &mut Input<'_>) -> Parsed<Item> {
    let first = word(input)?;
    let last = match opt(symbol("..")).parse_next(input)? {
        Some(_) => Some(word(input)?),
        None => None,
    };
    Ok(Item { first, last })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn field(input: &mut Input<'_>) -> Parsed<Word> {
    spaces(input)?;
    let at = input.current_token_start();
    let name = (one_of(|c: char| c.is_ascii_alphabetic()), take_while(0.., |c| is_name(c) || c == '.')).take();
    let Some(name) = opt(name).parse_next(input)? else {
        let found = if input.eof_offset() == 0 { "the filter ends" } else { "this is not a name" };
        return cut(at, format!("expected the name of a field, but {found}"), "");
    };
    if ["and", "or", "not", "in", "contains", "matches"].contains(&name) {
        return cut(at, format!("expected the name of a field before `{name}`"), "");
    }
    Ok(Word { text: name.to_owned(), quoted: false, at })
}

fn word(input: &mut Input<'_>) -> Parsed<Word> {
    spaces(input)?;
    let at = input.current_token_start();
    if let Some(text) = opt(quoted).parse_next(input)? {
        return Ok(Word { text, quoted: true, at });
    }
    let is_value = |c: char| !c.is_whitespace() && !r#""'(){},=<>!&|"#.contains(c);
    let text = repeat::<_, _, (), _, _>(1.., (not(".."), one_of(is_value))).take();
    match opt(text).parse_next(input)? {
        Some(text) => Ok(Word { text: text.to_owned(), quoted: false, at }),
        None if matches!(input.peek_token(), Some('\'')) => {
            cut(at, "text is quoted with `\"`, not with `'`", "write \"text\"")
        }
        None => cut(at, "expected a value", "write a number, an address, or \"text\""),
    }
}

/// Text in double quotes. `\"` is a quote and `\\` a backslash; any other backslash is kept, for regular expressions.
fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    let at = input.current_token_start();
    '"'.parse_next(input)?;
    let mut text = String::new();
    loop {
        let character: Option<char> = opt(any).parse_next(input)?;
        match character {
            Some('"') => return Ok(text),
            Some('\\') => {
                let escaped: Option<char> = opt(one_of(['"', '\\'])).parse_next(input)?;
                text.push(escaped.unwrap_or('\\'));
            }
            Some(character) => text.push(character),
            None => return cut(at, "this text is not closed", "add `\"`"),
        }
    }
}

fn end(input: &mut Input<'_>) -> Parsed<()> {
    spaces(input)?;
    match opt(eof).parse_next(input)? {
        Some(_) => Ok(()),
        None => leftover(input),
    }
}

/// What is wrong with text that cannot follow an expression.
fn leftover<T>(input: &mut Input<'_>) -> Parsed<T> {
    let at = input.current_token_start();
    let (text, help) = match input.peek_token() {
        Some('=') => ("`=` is not an operator", "write `==`"),
        Some('&') => ("`&` is not an operator", "write `&&`"),
        Some('|') => ("`|` is not an operator", "write `||`"),
        Some(')') => ("this parenthesis was not opened", "remove it"),
        Some('~') => ("`~` is not an operator", "write `matches`"),
        _ => ("expected an operator, `&&`, `||` or the end", ""),
    };
    cut(at, text, help)
}

/// A character, after spaces; its offset.
fn symbol<'i>(text: &'static str) -> impl Parser<Input<'i>, usize, ErrMode<Problem>> {
    lexeme(text.span()).map(|span| span.start)
}

/// A word that is not the start of a longer one.
fn keyword<'i>(text: &'static str) -> impl Parser<Input<'i>, &'i str, ErrMode<Problem>> {
    terminated(text, not(one_of(|c| is_name(c) || c == '.')))
}

fn lexeme<'i, O>(parser: impl Parser<Input<'i>, O, ErrMode<Problem>>) -> impl Parser<Input<'i>, O, ErrMode<Problem>> {
    preceded(spaces, parser)
}

fn spaces(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn cut<T>(at: usize, text: impl Into<String>, help: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(Problem::new(at, text, help)))
}
