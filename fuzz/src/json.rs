//! JSON text. The scanner that takes its input in pieces and the parser that takes it whole must agree, also about
//! what is wrong and where; what is printed must read as the same again.

use ferrovs_ovsdb::json as whole;
use serde_json::Value;

use crate::input::Input;

/// The longest error text that may come of any input: a position and a sentence.
const MAX_ERROR: usize = 300;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let step = usize::from(input.byte()) % 32 + 1;
    let text = input.rest();
    let by_push = push(text, step);
    let at_once = push(text, usize::MAX);
    assert_eq!(by_push, at_once, "pieces of {step} bytes");
    let parsed = whole::parse_bytes(text);
    let error = parsed.as_ref().err().map(ToString::to_string);
    check_error(error.as_deref());
    match (&parsed, &by_push) {
        (Ok(a), Ok((b, rest))) => {
            assert_eq!(a, b);
            assert!(text[*rest..].iter().all(u8::is_ascii_whitespace));
        }
        (Ok(_), Err(e)) => panic!("refused in pieces only: {e}"),
        // What follows the first value is no business of the parser of a stream.
        (Err(_), Ok(_)) => {}
        (Err(_), Err(b)) => {
            let first = text.trim_ascii_start().first();
            if first.is_some_and(|c| b"[{".contains(c)) {
                assert_eq!(error.as_deref(), Some(b.as_str()));
            }
        }
    }
    if let Ok(v) = &parsed {
        round_trip(v);
    }
    if let Ok(token) = std::str::from_utf8(text)
        && token.starts_with('"')
        && let Ok(s) = whole::parse_string_token(token)
    {
        let mut printed = Vec::new();
        whole::write_str(&mut printed, &s);
        let again = whole::parse_string_token(std::str::from_utf8(&printed).unwrap());
        assert_eq!(again.as_ref(), Ok(&s));
    }
}

fn check_error(error: Option<&str>) {
    if let Some(e) = error {
        assert!(e.len() <= MAX_ERROR, "{} bytes of error: {e}", e.len());
    }
}

/// The first value of the text and where it ends.
fn push(text: &[u8], step: usize) -> Result<(Value, usize), String> {
    let mut scanner = whole::Scanner::new(usize::MAX);
    let mut at = 0_usize;
    while at < text.len() {
        let end = at.saturating_add(step).min(text.len());
        let (used, status) = scanner.feed(&text[at..end]);
        at += used;
        match status {
            whole::Scan::More => assert_eq!(at, end, "input was left behind"),
            whole::Scan::Done => {
                let v = whole::parse_bytes(&scanner.take()).expect("what was scanned can be parsed");
                return Ok((v, at));
            }
            whole::Scan::Failed(why) => {
                check_error(Some(&why.to_string()));
                return Err(why.to_string());
            }
        }
    }
    // What is not complete is for the parser to judge.
    whole::parse_bytes(text)
        .map(|v| (v, at))
        .map_err(|e| e.to_string())
}

fn round_trip(v: &Value) {
    let text = whole::to_string(v);
    if largest(v) > 1.797_693_134_862_315e308 {
        // Printed with 15 digits it is more than a double holds.
        return;
    }
    for text in [&text, &whole::to_string_pretty(v)] {
        let again = whole::parse(text).expect("what is printed can be parsed");
        assert_eq!(
            *text == whole::to_string(v),
            *text == whole::to_string(&again)
        );
        assert_eq!(whole::to_string(&again), whole::to_string(v));
    }
}

fn largest(v: &Value) -> f64 {
    match v {
        Value::Number(n) => n.as_f64().unwrap_or(0.0).abs(),
        Value::Array(a) => a.iter().map(largest).fold(0.0, f64::max),
        Value::Object(m) => m.values().map(largest).fold(0.0, f64::max),
        _ => 0.0,
    }
}
