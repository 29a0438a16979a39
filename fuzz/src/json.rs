//! JSON text. However it is read - whole, as the beginning of more, collected in pieces, walked through, as an
//! array that stays text - the outcome is the same, also about what is wrong and where; what is printed reads as
//! the same again.

use ferrovs_stream::json::{
    self, ParseError, Prefix, RawArray, Scan, Scanner, Stop, Value, WalkError, Walker, walk,
};

use crate::input::Input;

/// The longest error text that may come of any input: a position, a sentence, the beginning of a keyword.
const MAX_ERROR: usize = 1200;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let step = usize::from(input.byte()) % 32 + 1;
    let text = input.rest();
    let whole = json::parse_bytes(text);
    if let Err(e) = &whole {
        check_error(text, e);
    }
    prefix(text, &whole);
    collected(text, step);
    walked(text, &whole);
    if let Ok(v) = &whole {
        round_trip(v);
        // As it prints: of two members with one name both count while they are read, and escapes as they stand.
        let printed = json::to_string(v);
        let room = json::weight(v) + printed.len();
        let limited = json::parse_limited(printed.as_bytes(), room);
        assert_eq!(limited, json::parse(&printed));
    }
    if let Ok(token) = std::str::from_utf8(text)
        && token.starts_with('"')
        && let Ok(s) = json::parse_string_token(token)
    {
        let mut printed = Vec::new();
        json::write_str(&mut printed, &s);
        let again = json::parse_string_token(std::str::from_utf8(&printed).unwrap());
        // Bytes that are not UTF-8 print as replacement characters.
        assert!(json::invalid_utf8(&s).is_some() || again.as_ref() == Ok(&s));
    }
}

fn check_error(text: &[u8], e: &ParseError) {
    let said = e.to_string();
    assert!(
        said.len() <= MAX_ERROR,
        "{} bytes of error: {said}",
        said.len()
    );
    assert!(e.byte <= text.len() && e.line <= e.byte && e.column <= e.byte);
}

fn prefix(text: &[u8], whole: &Result<Value, ParseError>) {
    match (json::parse_prefix(text), whole) {
        (Prefix::Value(v, n), Ok(w)) => {
            assert_eq!(v, *w);
            assert!(text[n..].iter().all(u8::is_ascii_whitespace));
        }
        (Prefix::Value(v, n), Err(_)) => assert_eq!(json::parse_bytes(&text[..n]), Ok(v)),
        (Prefix::Incomplete, r) => assert!(r.is_err(), "it is complete"),
        (Prefix::Failed(e), r) => assert_eq!(r.as_ref(), Err(&e)),
    }
}

/// Like `parse_prefix`, by the scanner.
fn collected(text: &[u8], step: usize) {
    let mut s = Scanner::new(usize::MAX);
    let mut at = 0;
    let mut outcome = Scan::More;
    while at < text.len() && outcome == Scan::More {
        let end = (at + step).min(text.len());
        let (used, scan) = s.feed(&text[at..end]);
        at += used;
        assert!(scan != Scan::More || at == end, "input was left behind");
        outcome = scan;
    }
    match (outcome, json::parse_prefix(text)) {
        (Scan::More, Prefix::Incomplete) => {}
        (Scan::Done, Prefix::Value(v, n)) => {
            assert_eq!(at, n, "where the value ends");
            assert_eq!(json::parse_bytes(&s.take()), Ok(v));
        }
        (Scan::Failed(a), Prefix::Failed(b)) => assert_eq!(a, b, "pieces of {step} bytes"),
        (a, b) => panic!("in pieces of {step} bytes {a:?}, at once {b:?}"),
    }
}

fn walked(text: &[u8], whole: &Result<Value, ParseError>) {
    let mut members = json::Map::new();
    let walk = walk::<()>(text, |name, w| {
        let value = w.value()?;
        members.insert(name, value);
        Ok(())
    });
    match (walk, whole) {
        (Ok(()), whole) => assert_eq!(Ok(&Value::Object(members)), whole.as_ref()),
        (Err(WalkError::Json(e)), Ok(Value::Object(_))) => panic!("walking fails: {e}"),
        (Err(WalkError::Json(e)), _) => check_error(text, &e),
        (Err(WalkError::Found(())), _) => unreachable!("nothing is looked for"),
    }
    if let Ok(Value::Array(items)) = whole {
        let start = text.iter().position(|c| *c == b'[').expect("an array");
        let mut w = Walker::at(&text[start..]);
        let skipped: Result<(), Stop<()>> = w.skip();
        assert!(skipped.is_ok());
        let range = start..start + w.position();
        let raw = RawArray::new(text.to_vec(), range, usize::MAX).expect("an array");
        assert_eq!(raw.len(), items.len());
        assert_eq!(raw.to_value(usize::MAX).as_ref(), whole.as_ref());
        let elements: Vec<Value> = raw
            .iter()
            .map(|t| RawArray::element(t, usize::MAX).expect("elements are values"))
            .collect();
        assert_eq!(elements, *items);
    }
}

fn round_trip(v: &Value) {
    let text = json::to_string(v);
    for form in [&text, &json::to_string_pretty(v)] {
        let again = json::parse(form).expect("what is printed can be parsed");
        // A real may come back as an integer, for 15 digits of it are one; after that nothing changes.
        assert_eq!(json::parse(&json::to_string(&again)), Ok(again));
    }
}
