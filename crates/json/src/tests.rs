use super::*;
use proptest::prelude::*;

fn err(s: &str) -> String {
    parse(s).unwrap_err().to_string()
}

#[test]
fn integral_numbers_are_integers_however_written() {
    for (text, want) in [
        ("[1.0]", "[1]"),
        ("[1e3]", "[1000]"),
        ("[0.1e1]", "[1]"),
        ("[1e-5000]", "[0]"),
        ("[-0.0]", "[0]"),
        ("[100e-2]", "[1]"),
        ("[9223372036854775807]", "[9223372036854775807]"),
        ("[-9223372036854775808]", "[-9223372036854775808]"),
        ("[9223372036854775808]", "[9.22337203685478e+18]"),
        ("[0.00001]", "[1e-05]"),
        ("[123456789.123456789]", "[123456789.123457]"),
        ("[1.5e300]", "[1.5e+300]"),
    ] {
        assert_eq!(to_string(&parse(text).unwrap()), want, "{text}");
    }
}

/// Texts that are not JSON, and what Open vSwitch says of each.
const ERRORS: &[(&str, &str)] = &[
    ("x", "line 0, column 1, byte 1: invalid keyword 'x'"),
    ("", "line 0, column 0, byte 0: empty input stream"),
    ("[1", "line 0, column 2, byte 2: unexpected end of input"),
    (
        "[1 2]",
        "line 0, column 4, byte 4: syntax error expecting ']' or ','",
    ),
    (
        "{\"a\"}",
        "line 0, column 4, byte 4: syntax error parsing object expecting ':'",
    ),
    (
        "{\"a\":}",
        "line 0, column 5, byte 5: syntax error expecting value",
    ),
    (
        "{\"a\":1,}",
        "line 0, column 7, byte 7: syntax error parsing object expecting string",
    ),
    (
        "[\"a",
        "line 0, column 3, byte 3: unexpected end of input in quoted string",
    ),
    ("[\"\\x\"]", "line 0, column 4, byte 4: bad escape \\x"),
    (
        "[\"\\u12\"]",
        "line 0, column 6, byte 6: quoted string ends within \\u escape",
    ),
    (
        "[\"\\ud800\"]",
        "line 0, column 8, byte 8: malformed escaped surrogate pair",
    ),
    (
        "[\"\\u0000\"]",
        "line 0, column 8, byte 8: null bytes not supported in quoted strings",
    ),
    (
        "[01]",
        "line 0, column 3, byte 3: leading zeros not allowed",
    ),
    (
        "[-]",
        "line 0, column 2, byte 2: '-' must be followed by digit",
    ),
    (
        "[1e99999]",
        "line 0, column 8, byte 8: number outside valid range",
    ),
    ("[.5]", "line 0, column 1, byte 1: invalid character '.'"),
    (
        "\"abc\"",
        "line 0, column 4, byte 4: syntax error at beginning of input",
    ),
    (
        "1",
        "line 0, column 1, byte 1: syntax error at beginning of input",
    ),
    (
        "[1][2]",
        "line 0, column 3, byte 3: trailing garbage at end of input",
    ),
    ("[1]x", "line 0, column 4, byte 4: invalid keyword 'x'"),
    (
        "[\"a\tb\"]",
        "line 0, column 3, byte 3: U+0009 must be escaped in quoted string",
    ),
    ("[\n\n  x]", "line 2, column 3, byte 6: invalid keyword 'x'"),
    (
        "[1.5.5]",
        "line 0, column 6, byte 6: syntax error in number",
    ),
    (
        "5",
        "line 0, column 1, byte 1: syntax error at beginning of input",
    ),
    ("", "line 0, column 0, byte 0: empty input stream"),
    (
        "[1,]",
        "line 0, column 3, byte 3: syntax error expecting value",
    ),
    (
        "{\"a\" 5}",
        "line 0, column 6, byte 6: syntax error parsing object expecting ':'",
    ),
    (
        "{\"a\":1 \"b\"}",
        "line 0, column 9, byte 9: syntax error expecting '}' or ','",
    ),
    (
        "[1 2]",
        "line 0, column 4, byte 4: syntax error expecting ']' or ','",
    ),
    (
        "[01]",
        "line 0, column 3, byte 3: leading zeros not allowed",
    ),
    (
        "[-a]",
        "line 0, column 2, byte 2: '-' must be followed by digit",
    ),
    (
        "[1.x]",
        "line 0, column 3, byte 3: decimal point must be followed by digit",
    ),
    (
        "[1e+]",
        "line 0, column 4, byte 4: exponent must contain at least one digit",
    ),
    ("[.5]", "line 0, column 1, byte 1: invalid character '.'"),
    (
        "[1.5.5]",
        "line 0, column 6, byte 6: syntax error in number",
    ),
    ("[foo]", "line 0, column 4, byte 4: invalid keyword 'foo'"),
    (
        "[\"a",
        "line 0, column 3, byte 3: unexpected end of input in quoted string",
    ),
    ("[\"a\\x\"]", "line 0, column 5, byte 5: bad escape \\x"),
    (
        "[\"\\u12\"]",
        "line 0, column 6, byte 6: quoted string ends within \\u escape",
    ),
    (
        "[\"\\u12g4\"]",
        "line 0, column 8, byte 8: malformed \\u escape",
    ),
    (
        "[\"\\ud800\"]",
        "line 0, column 8, byte 8: malformed escaped surrogate pair",
    ),
    (
        "[\"\t\"]",
        "line 0, column 2, byte 2: U+0009 must be escaped in quoted string",
    ),
    (
        "[]]",
        "line 0, column 2, byte 2: trailing garbage at end of input",
    ),
    (
        "[] 5",
        "line 0, column 4, byte 4: trailing garbage at end of input",
    ),
    (
        "[1e-2147483640]",
        "line 0, column 14, byte 14: exponent outside valid range",
    ),
    (
        "[2.2250738585072011e-308]",
        "line 0, column 24, byte 24: number outside valid range",
    ),
    (
        "[1e5000]",
        "line 0, column 7, byte 7: number outside valid range",
    ),
    (
        "[--1]",
        "line 0, column 4, byte 4: '-' must be followed by digit",
    ),
    ("[1-2]", "line 0, column 4, byte 4: syntax error in number"),
    (
        "{\n \"a\":1,\n x}",
        "line 2, column 2, byte 12: invalid keyword 'x'",
    ),
    (
        "{\"a\":1,}",
        "line 0, column 7, byte 7: syntax error parsing object expecting string",
    ),
];

#[test]
fn errors_have_open_vswitchs_texts_and_positions() {
    for (text, want) in ERRORS {
        assert_eq!(err(text), *want, "{text}");
    }
}

#[test]
fn nesting_ends_at_a_thousand() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(parse(&deep(1000)).is_ok());
    assert_eq!(
        err(&deep(1001)),
        "line 0, column 1000, byte 1000: input exceeds maximum nesting depth 1000"
    );
}

#[test]
fn strings_round_trip_with_escapes() {
    let v = parse("[\"a\\u0001\\n\\\"\\\\\\/\u{e9}\\ud834\\udd1e\u{7f}\"]").unwrap();
    assert_eq!(
        to_string(&v),
        "[\"a\\u0001\\n\\\"\\\\/\u{e9}\u{1d11e}\u{7f}\"]"
    );
}

#[test]
fn reals_have_fifteen_digits() {
    let text = "[1.0,1e3,1.5,123456789012345678901234567890,0.1,1e20,1e-7,3.14159265358979,1e300]";
    assert_eq!(
        to_string(&parse(text).unwrap()),
        "[1,1000,1.5,1.23456789012346e+29,0.1,1e+20,1e-07,3.14159265358979,1e+300]"
    );
}

#[test]
fn pretty_text_closes_brackets_where_the_contents_end() {
    let v = parse(r#"[{"a":[1],"b":{}},[]]"#).unwrap();
    assert_eq!(
        to_string_pretty(&v),
        "[\n  {\n    \"a\": [\n      1],\n    \"b\": {\n      }},\n  []]"
    );
}

/// What a scanner says to a text that comes in pieces of `size` bytes: the values, then the fault.
fn scan_all(text: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let mut scanner = Scanner::new(1 << 20);
    let mut seen = Vec::new();
    for chunk in text.chunks(size) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (used, status) = scanner.feed(rest);
            rest = &rest[used..];
            match status {
                Scan::Done => seen.push(scanner.take()),
                Scan::More => assert!(rest.is_empty()),
                Scan::Failed(e) => return (seen, Some(e.to_string())),
            }
        }
    }
    (seen, None)
}

#[test]
fn values_come_back_to_back_however_the_bytes_are_cut() {
    let stream = br#" {"a":[1,"x\u00e9\n"]}[true,null]{"b":-1.5e0} "#;
    for cut in 1..stream.len() {
        let (seen, fault) = scan_all(stream, cut);
        let seen: Vec<String> = seen
            .iter()
            .map(|t| to_string(&parse_bytes(t).unwrap()))
            .collect();
        assert_eq!(
            seen,
            ["{\"a\":[1,\"xé\\n\"]}", "[true,null]", "{\"b\":-1.5}"]
        );
        assert_eq!(fault, None);
    }
}

#[test]
fn what_is_too_long_or_too_heavy_is_refused() {
    let mut scanner = Scanner::new(10);
    let (_, status) = scanner.feed(b"[\"aaaaaaaaaaaaaaaaaaaaaaa");
    assert!(matches!(status, Scan::Failed(_)));
    let ones = format!("[{}1]", "1,".repeat(999));
    assert!(parse_limited(ones.as_bytes(), 100_000).is_ok());
    assert!(parse_limited(ones.as_bytes(), 50_000).is_err());
    assert!(weight(&parse(&ones).unwrap()) > 50_000);
}

#[test]
fn an_array_gives_its_elements_one_at_a_time() {
    let text = br#"{"params": [ "db" , {"a":"]"}, [1,[2]],3 ,"\"x" ]}"#.to_vec();
    let start = text.iter().position(|&c| c == b'[').unwrap();
    let end = text.len() - 1;
    assert_eq!(
        RawArray::new(text.clone(), start..end, 4),
        Err(text.clone())
    );
    let raw = RawArray::new(text, start..end, 5).unwrap();
    let elements: Vec<String> = raw
        .iter()
        .map(|t| to_string(&RawArray::element(t, 1000).unwrap()))
        .collect();
    assert_eq!(
        elements,
        ["\"db\"", "{\"a\":\"]\"}", "[1,[2]]", "3", "\"\\\"x\""]
    );
    assert_eq!(raw.len(), 5);
    assert_eq!(raw.to_value(100_000).unwrap()[3], 3);
}

proptest! {
    /// The scanner and the parser agree on what is JSON, where it ends and what is wrong with it.
    #[test]
    fn the_scanner_agrees_with_the_parser(
        text in r#"[\[{]([\[\]{},: \n]|"[a\\]{0,2}"|1|-0|2\.5|[ae.]|true|nul){0,12}"#,
        size in 1usize..8,
    ) {
        let (seen, fault) = scan_all(text.as_bytes(), size);
        match parse_prefix(text.as_bytes()) {
            Prefix::Value(v, used) => {
                prop_assert_eq!(parse_bytes(&seen[0]).unwrap(), v);
                prop_assert_eq!(seen[0].len(), used);
            }
            Prefix::Incomplete => prop_assert_eq!((seen.len(), fault), (0, None)),
            Prefix::Failed(e) => prop_assert_eq!((seen.len(), fault), (0, Some(e.to_string()))),
        }
    }
}
