use super::*;

fn error(text: &str) -> String {
    parse(text).expect_err(text)
}

#[test]
fn faults_are_told_where_and_how_open_vswitch_tells_them() {
    for (text, told) in [
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
    ] {
        assert_eq!(error(text), told, "{text}");
    }
    let deep = "[".repeat(MAX_NESTING + 1);
    assert!(error(&deep).contains("input exceeds maximum nesting depth 1000"));
    assert!(
        parse(&format!(
            "{}{}",
            "[".repeat(MAX_NESTING),
            "]".repeat(MAX_NESTING)
        ))
        .is_ok()
    );
}

#[test]
fn integral_numbers_are_integers_and_reals_have_fifteen_digits() {
    let text = "[1.0,1e3,1.5,123456789012345678901234567890,0.1,1e20,1e-7,3.14159265358979,1e300]";
    assert_eq!(
        to_string(&parse(text).unwrap()),
        "[1,1000,1.5,1.23456789012346e+29,0.1,1e+20,1e-07,3.14159265358979,1e+300]"
    );
}

#[test]
fn values_come_back_to_back_however_the_bytes_are_cut() {
    let stream = br#" {"a":[1,"x\u00e9\n"]}[true,null]{"b":-1.5e0} "#;
    for cut in 1..stream.len() {
        let mut parser = Parser::new(1 << 20);
        let mut seen = Vec::new();
        for chunk in stream.chunks(cut) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let (used, status) = parser.feed(rest);
                rest = &rest[used..];
                match status {
                    Status::Done => seen.push(to_string(&parser.take().unwrap())),
                    Status::More => {}
                    Status::Failed(why) => panic!("{why}"),
                }
            }
        }
        assert_eq!(
            seen,
            ["{\"a\":[1,\"xé\\n\"]}", "[true,null]", "{\"b\":-1.5}"]
        );
        assert!(parser.is_idle());
    }
}

#[test]
fn an_oversized_value_is_refused() {
    let mut parser = Parser::new(10);
    let (_, status) = parser.feed(b"[\"aaaaaaaaaaaaaaaaaaaaaaa");
    assert!(matches!(status, Status::Failed(_)));
}
