use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::capture::{Timestamp, parse_rfc3339};
use crate::decoder::status::Reason;
use crate::decoder::warnings::Warnings;
use crate::records::fields::{FIELDS, Kind, Value};

/// How a filter without names looked up is nested.
fn shape(text: &str) -> String {
    fn of(expression: &syntax::Expression) -> String {
        use syntax::Expression::{All, Any, Not, Test};
        let each = |terms: &[syntax::Expression]| terms.iter().map(of).collect::<Vec<_>>().join(" ");
        match expression {
            Any(terms) => format!("(or {})", each(terms)),
            All(terms) => format!("(and {})", each(terms)),
            Not(inner) => format!("(not {})", of(inner)),
            Test(test) => match &test.comparison {
                None => test.field.text.clone(),
                Some(comparison) => format!("[{} {}]", test.field.text, comparison.operator.name()),
            },
        }
    }
    of(&syntax::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}")))
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    for (text, expected) in [
        ("a", "a"),
        ("a || b && !c", "(or a (and b (not c)))"),
        ("a or b and not c", "(or a (and b (not c)))"),
        ("!a && b", "(and (not a) b)"),
        ("!(a && b)", "(not (and a b))"),
        ("!a == 1 && b", "(and (not [a ==]) b)"),
        ("a&&b||c", "(or (and a b) c)"),
        ("((a))", "a"),
        ("!!a", "(not (not a))"),
        ("not!not a", "(not (not (not a)))"),
        ("a && (b || c) && d", "(and a (or b c) d)"),
        ("a==1||b!=2", "(or [a ==] [b !=])"),
        ("a in{1,2}and b", "(and [a in] b)"),
        (" \n\ta  <=  1\n", "[a <=]"),
        // Names may begin with a keyword.
        ("order.notes && index", "(and order.notes index)"),
        ("a contains \"or\" or b matches \"&&\"", "(or [a contains] [b matches])"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

/// Whether a filter with one comparison is true for a value of its field.
fn holds(text: &str, value: Value<'_>) -> bool {
    let first_ns = parse_rfc3339("2026-01-01T00:00:00Z").map(Timestamp::nanos);
    let mut evaluation = Evaluation { first_ns, ..Evaluation::default() };
    match Filter::parse(text).unwrap_or_else(|error| panic!("{error}\n{}", error.help())).0 {
        Condition::Is { negated, accepted, .. } => accepted.accepts(value, &mut evaluation) != negated,
        other => panic!("{text}: {other:?}"),
    }
}

fn time(text: &str) -> Value<'static> {
    Value::Time(parse_rfc3339(text).unwrap())
}

#[test]
fn numbers_are_compared_and_found_in_sets() {
    let number = Value::Number;
    for (text, least_true, greatest_true) in [
        ("frame == 7", 7, 7),
        ("frame == 0x7", 7, 7),
        ("frame < 7", 0, 6),
        ("frame <= 7", 0, 7),
        ("frame > 7", 8, 20),
        ("frame >= 7", 7, 20),
        ("frame in {7..9}", 7, 9),
        ("frame in {9, 7, 8}", 7, 9),
        ("frame in {7,8..9}", 7, 9),
        ("frame < 18446744073709551615", 0, 20),
        ("frame >= -1", 0, 20),
    ] {
        for value in 0..=20 {
            assert_eq!(holds(text, number(value)), (least_true..=greatest_true).contains(&value), "{text}: {value}");
        }
    }
    assert!(holds("frame != 7", number(8)) && !holds("frame != 7", number(7)));
    assert!(holds("frame == 18446744073709551615", number(u64::MAX)));
    assert!(holds("bytes.saved == -3", Value::Signed(-3)) && holds("bytes.saved < -2", Value::Signed(-3)));
    assert!(!holds("bytes.saved in {-2..5}", Value::Signed(-3)));
    assert!(holds("esp.spi == 0x0000a1b2", Value::Spi(0xa1b2)) && holds("esp.spi == 41394", Value::Spi(0xa1b2)));
    assert!(holds("esp.spi in {0xa100..0xa1ff}", Value::Spi(0xa1b2)));
}

#[test]
fn addresses_are_in_prefixes() {
    let address = |text: &str| Value::Address(text.parse::<IpAddr>().unwrap());
    for (text, inside, outside) in [
        ("inner.src == 2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("inner.src == 2001:db8::1/32", "2001:db8::2", "2001:db9::"),
        ("inner.src == 10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("inner.src == 192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("inner.src in {192.0.2.1, ::/0}", "::1", "192.0.2.2"),
        ("inner.src != ::/0", "192.0.2.1", "::2"),
        ("inner.src == 0.0.0.0/0", "192.0.2.1", "::2"),
    ] {
        assert!(holds(text, address(inside)), "{text}: {inside}");
        assert!(!holds(text, address(outside)), "{text}: {outside}");
    }
}

#[test]
fn times_are_absolute_or_after_the_first_frame() {
    for (text, last_before, first_true) in [
        (r#"time >= "2026-01-02T03:04:05Z""#, "2026-01-02T03:04:04.999999999Z", "2026-01-02T03:04:05Z"),
        (r#"time > "2026-01-02T03:04:05Z""#, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000001Z"),
        (r#"time >= "2026-01-02T04:34:05+01:30""#, "2026-01-02T03:04:04Z", "2026-01-02T03:04:05Z"),
        ("time >= 2026-01-02T03:04:05Z", "2026-01-02T03:04:04Z", "2026-01-02T03:04:05Z"),
        ("time >= 10m", "2026-01-01T00:09:59.999999999Z", "2026-01-01T00:10:00Z"),
        ("time >= 1.5s", "2026-01-01T00:00:01.499999999Z", "2026-01-01T00:00:01.5Z"),
        ("time >= 2d", "2026-01-02T23:59:59Z", "2026-01-03T00:00:00Z"),
        ("time >= 1.5h", "2026-01-01T01:29:59Z", "2026-01-01T01:30:00Z"),
        ("time > 3ms", "2026-01-01T00:00:00.003Z", "2026-01-01T00:00:00.003000001Z"),
        ("time > 3us", "2026-01-01T00:00:00.000003Z", "2026-01-01T00:00:00.000003001Z"),
        ("time > 3ns", "2026-01-01T00:00:00.000000003Z", "2026-01-01T00:00:00.000000004Z"),
        ("time in {1s..2s, 1m}", "2026-01-01T00:00:02.000000001Z", "2026-01-01T00:01:00Z"),
        (r#"time in {1s.."2026-01-01T00:00:02Z"}"#, "2026-01-01T00:00:00.9Z", "2026-01-01T00:00:02Z"),
    ] {
        assert!(!holds(text, time(last_before)), "{text}: {last_before}");
        assert!(holds(text, time(first_true)), "{text}: {first_true}");
    }
    // Without a first time stamp, nothing is known to be after it.
    let Condition::Is { accepted, .. } = Filter::parse("time > 0s").unwrap().0 else { panic!() };
    assert!(!accepted.accepts(time("2026-01-01T00:00:00Z"), &mut Evaluation::default()));
}

#[test]
fn text_bytes_and_lists_are_compared() {
    let sa = Value::Text("probe-1-up");
    for (text, expected) in [
        (r#"sa == "probe-1-up""#, true),
        (r#"sa == "probe""#, false),
        (r#"sa != "probe""#, true),
        (r#"sa in {"a", "probe-1-up"}"#, true),
        (r#"sa contains "be-1""#, true),
        (r#"sa contains """#, true),
        (r#"sa contains "B""#, false),
        (r#"sa matches "^probe-\d+-(up|down)$""#, true),
        (r#"sa matches "\\d""#, true),
        (r#"sa matches "(?i)PROBE""#, true),
        (r#"sa matches "^1""#, false),
    ] {
        assert_eq!(holds(text, sa), expected, "{text}");
    }
    assert!(holds(r#"sa == "a \"b\" \\ \x""#, Value::Text(r#"a "b" \ \x"#)));
    assert!(holds(r#"reason contains "fragment""#, Value::Reason(Reason::Text("a fragment"))));
    assert!(holds(r#"reason matches "^IP protocol 2..$""#, Value::Reason(Reason::Protocol(255))));
    let bytes = Value::Bytes(&[1, 0xde, 0xad, 2]);
    for (text, expected) in [
        ("packet contains de:ad", true),
        ("packet contains DEAD", true),
        ("packet contains ad:de", false),
        ("packet contains 01:de:ad:02:00", false),
        ("packet == 01dead02", true),
        ("packet != 01:de:ad:02", false),
        ("packet in {00, 01dead02}", true),
    ] {
        assert_eq!(holds(text, bytes), expected, "{text}");
    }
    let mut two = Warnings::DUPLICATE;
    two.add(Warnings::PADDING);
    for (text, of_two, of_none) in [
        (r#"warnings == "padding""#, true, false),
        (r#"warnings contains "duplicate""#, true, false),
        (r#"warnings in {"dummy", "padding"}"#, true, false),
        (r#"warnings != "padding""#, false, true),
        (r#"warnings != "dummy""#, true, true),
    ] {
        assert_eq!(holds(text, Value::Warnings(two)), of_two, "{text}");
        assert_eq!(holds(text, Value::Warnings(Warnings::NONE)), of_none, "{text}");
    }
    for (text, expected) in [
        ("fragments == 5", true),
        ("fragments contains 4", false),
        ("fragments in {1..3}", true),
        ("fragments != 4", true),
    ] {
        assert_eq!(holds(text, Value::Frames(&[3, 5])), expected, "{text}");
    }
}

#[test]
fn problems_name_the_column_and_what_to_do() {
    for (text, column, problem, help) in [
        ("", 1, "expected the name of a field, but the filter ends", ""),
        ("frame ==", 9, "expected a value", "write a number"),
        ("esp.sequnce > 3", 1, "there is no field `esp.sequnce`", "did you mean `esp.sequence`?"),
        ("frame > 3 && src == ::1", 14, "there is no field `src`", "did you mean `outer.src` or `inner.src`?"),
        ("esp.wire == 3", 1, "`esp.wire` has several fields", "esp.wire.spi_bits"),
        ("ip.dst_port == 3", 1, "there is no field `ip.dst_port`", "`inner.dst_port`"),
        ("sa = \"x\"", 4, "`=` is not an operator", "write `==`"),
        ("sa == x", 7, "expected text", "write \"x\""),
        ("sa == 'x'", 7, "text is quoted with `\"`", "write \"text\""),
        ("sa == \"x", 7, "this text is not closed", "add `\"`"),
        ("(sa", 1, "this parenthesis is not closed", "add `)`"),
        ("sa)", 3, "this parenthesis was not opened", "remove it"),
        ("sa & time", 4, "`&` is not an operator", "write `&&`"),
        ("sa | time", 4, "`|` is not an operator", "write `||`"),
        ("sa ~ \"x\"", 4, "`~` is not an operator", "write `matches`"),
        ("sa time", 4, "expected an operator", ""),
        ("and sa", 1, "expected the name of a field before `and`", ""),
        ("status == \"auth-fail\"", 11, "the field never has the value", "did you mean \"auth-failed\"?"),
        ("warnings contains \"dup\"", 19, "the field never has the value", "duplicate replayed"),
        ("frame matches \"3\"", 7, "`frame` is a number, which `matches` does not compare", "== != < <= > >= in"),
        ("sa < \"x\"", 4, "`sa` is text, which `<` does not compare", "contains matches"),
        ("inner.src contains 10.0.0.1", 11, "`inner.src` is an address", "== != in"),
        ("warnings matches \"x\"", 10, "`warnings` is a list", "contains"),
        ("packet > 00", 8, "`packet` is bytes", "contains"),
        ("frame in 3", 10, "`in` is followed by a set", "in {1, 5..9}"),
        ("frame in {1", 10, "this set is not closed", "add `}`"),
        ("frame in {1 2}", 13, "expected `,` or `}`", "{1, 5..9}"),
        ("frame in {5..3}", 11, "this range is empty", "smaller value first"),
        ("time in {5m..3s}", 10, "this range is empty", "smaller value first"),
        ("sa in {\"a\"..\"b\"}", 8, "only numbers and times have ranges", "list the values"),
        ("frame == \"3\"", 10, "expected a number", "without quotes"),
        ("frame == 3.5", 10, "expected a number", ""),
        ("frame == +3", 10, "expected a number", ""),
        ("frame == 0x+3", 10, "expected a number", ""),
        ("frame == 99999999999999999999", 10, "expected a number below 2^64", ""),
        ("inner.src == 1.2.3", 14, "expected an IP address", "192.0.2.1"),
        ("inner.src == 1.2.3.4/33", 14, "expected a prefix length of 0 to 32", ""),
        ("inner.src == \"::1\"", 14, "expected an IP address", "without quotes"),
        ("packet contains dea", 17, "expected bytes in hex", "de:ad or dead"),
        ("packet contains d:ea", 17, "expected bytes in hex", ""),
        ("packet contains \"dead\"", 17, "expected bytes in hex", "without quotes"),
        ("time > \"2026-01-01\"", 8, "expected a time", "2026-01-02T03:04:05Z"),
        ("time > 5", 8, "expected a time", "10m"),
        ("time > 1x", 8, "expected a time", "10m"),
        ("time > 1.s", 8, "expected a time", "10m"),
        ("sa matches \"([\"", 12, "not a regular expression: unclosed character class", ""),
        ("sa matches \"(a{1000}){1000}\"", 12, "not a regular expression", ""),
        // Columns are counted in characters.
        ("sa == \"ü\" && x", 14, "there is no field `x`", ""),
    ] {
        let error = Filter::parse(text).expect_err(text);
        let message = error.to_string();
        let expected = format!("filter, column {column}: {problem}");
        assert!(message.starts_with(&expected), "{text}\n{message}\n{expected}");
        assert!(error.help().contains(help), "{text}: {}", error.help());
        let mark = message.lines().last().unwrap();
        assert_eq!(mark.chars().count(), 4 + column, "{message}");
    }
}

#[test]
fn nesting_is_bounded_and_length_is_not() {
    for text in ["(", "!", "not ", "!("] {
        let error = Filter::parse(&(text.repeat(100_000) + "frame")).unwrap_err();
        assert!(error.to_string().contains("more than 64 nested parentheses"), "{error}");
    }
    assert!(Filter::parse(&format!("{}frame{}", "(".repeat(60), ")".repeat(60))).is_ok());
    assert!(Filter::parse(&vec!["!(frame == 1)"; 20_000].join(" && ")).is_ok());
    assert!(Filter::parse(&format!("frame in {{{}}}", vec!["1..2"; 20_000].join(","))).is_ok());
}

#[test]
fn every_field_can_be_compared_with_a_value_of_its_kind() {
    for field in FIELDS {
        let name = field.full_name();
        let value = match field.kind {
            Kind::Number | Kind::Spi | Kind::Numbers => "1".to_owned(),
            Kind::Text => "\"x\"".to_owned(),
            Kind::Name(names) | Kind::Names(names) => format!("\"{}\"", names()[0]),
            Kind::Address => "::1".to_owned(),
            Kind::Time => "1s".to_owned(),
            Kind::Bytes => "00".to_owned(),
        };
        for text in
            [format!("{name} == {value}"), format!("!{name} != {value}"), format!("{name} in {{{value}}}"), name]
        {
            assert!(Filter::parse(&text).is_ok(), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_has_a_problem_in_it(text: String) {
        check_any(&text);
    }

    #[test]
    fn any_words_are_a_filter_or_have_a_problem_in_them(words in prop::collection::vec(word(), 0..12)) {
        check_any(&words.concat());
        check_any(&words.join(" "));
    }
}

fn word() -> impl Strategy<Value = String> {
    let words = [
        "frame",
        "sa",
        "inner.src",
        "time",
        "warnings",
        "packet",
        "esp.spi",
        "==",
        "!=",
        "<",
        ">=",
        "in",
        "contains",
        "matches",
        "&&",
        "and",
        "||",
        "or",
        "!",
        "not",
        "(",
        ")",
        "{",
        "}",
        ",",
        "..",
        "1",
        "0x1f",
        "-3",
        "1.5s",
        "::1",
        "10.0.0.0/8",
        "de:ad",
        "\"x\"",
        "\"",
        "\\",
        "ü",
        "'",
        "=",
    ];
    prop::sample::select(words.map(str::to_owned).to_vec())
}

fn check_any(text: &str) {
    match syntax::parse(text).and_then(|expression| compile::compile(&expression)) {
        Ok(_) => assert!(Filter::parse(text).is_ok()),
        Err(problem) => {
            assert!(text.is_char_boundary(problem.at), "{text}: {problem:?}");
            assert!(!problem.text.is_empty());
            assert!(Filter::parse(text).is_err());
        }
    }
}
