//! Segment routing over IPv6 (RFC 8754): a routing header with the segments in reverse order. Its text is only written.
//!
//! ```text
//!   | next header | length | 4 | segments left | last entry | flags | tag 2 | segments, 16 each ... |
//! ```

use std::fmt::Write;
use std::net::Ipv6Addr;

use crate::push;
use crate::row::HeaderType;

pub static HEADER: HeaderType = HeaderType {
    number: 112,
    format,
    parse: |_, _| None,
    finish: push::finish_nothing,
};

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let segments = usize::from(*l4.get(1)?) * 8 / 16;
    _ = write!(out, ",srv6(segments_left={},segs(", l4.get(3)?);
    for i in 0..segments {
        if i > 0 {
            out.push(',');
        }
        let at = 8 + 16 * (segments - 1 - i);
        let segment: [u8; 16] = l4.get(at..at + 16)?.try_into().ok()?;
        _ = write!(out, "{}", Ipv6Addr::from(segment));
    }
    out.push_str("))");
    Some(())
}
