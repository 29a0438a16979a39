//! JSON of the kind that databases send: many short strings, UUIDs and sets.

use std::fmt::Write;
use std::iter::repeat_n;

use ferrovs_json::{Scanner, parse, to_string};

use crate::{Bench, counted};

pub const BENCHES: &[Bench] = &[
    ("json/parse", || {
        let text = update();
        counted(repeat_n((), 5), |()| parse(&text).expect("JSON"))
    }),
    ("json/print", || {
        let value = parse(&update()).expect("JSON");
        counted(repeat_n((), 5), |()| to_string(&value))
    }),
    // What comes in pieces is followed byte by byte.
    ("json/scan", || {
        let text = update();
        counted(repeat_n((), 5), |()| scan(text.as_bytes()))
    }),
];

fn scan(text: &[u8]) {
    let mut scanner = Scanner::new(text.len() + 1);
    for piece in text.chunks(1000) {
        scanner.feed(piece);
    }
}

/// A monitor's update of 100 rows.
fn update() -> String {
    let mut out = String::from(r#"{"method":"update2","id":null,"params":["m",{"Interface":{"#);
    for n in 0..100u32 {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            out,
            r#"{comma}"{:08x}-0000-4000-8000-000000000000":{{"insert":{{"name":"port{n}","ofport":{n},"mtu":1500,"#,
            n.wrapping_mul(0x9e37_79b9)
        );
        let _ = write!(
            out,
            r#""external_ids":["map",[["iface-id","{n}"],["note","a \"quoted\" text\n"]]],"options":["map",[]],"#
        );
        out.push_str(r#""statistics":["map",[["rx_bytes",123456789],["tx_bytes",0.5]]],"up":true,"error":["set",[]]}}"#);
    }
    out.push_str("}}]}");
    out
}
