//! What the kernel reports of links, addresses, routes, rules and neighbours: any bytes are datagrams of it.
//!
//! What must hold: nothing panics, and there are no more events than messages fit.

use ferrovs_sys::rtnetlink::events;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

/// Types that something is read from: links, addresses, routes, neighbours, rules, next hops.
const KINDS: [u16; 12] = [16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 104, 105];
const HEADER: usize = 16;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.below(4) == 0 {
        let bytes = input.rest();
        assert!(events(bytes).count() <= bytes.len() / HEADER);
        return;
    }
    // Messages whose lengths are right; attributes are the fuzzer's.
    let (mut bytes, mut n) = (Vec::new(), 0);
    while !input.is_empty() && bytes.len() < 1 << 16 {
        let (kind, flags, len) = (KINDS[input.below(KINDS.len())], input.byte(), input.byte());
        let body = input.bytes(len.into());
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((u16::from(flags) << 4).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        n += 1;
    }
    assert!(events(&bytes).count() <= n);
}
