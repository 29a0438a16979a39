//! Frames through the connection tracker: keys, states, translation both ways, announcements, fragments.
//!
//! ```text
//!   [choices, length, frame]... --> mended header checksum --> ct of one of some actions --> what came out
//! ```
//!
//! What must hold: nothing panics, no more packets come out than went in, none grows by more than an address, and what
//! is counted is what is shown.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ferrovs_conntrack::Tracker;
use ferrovs_datapath::action::{Action, Ct};
use ferrovs_datapath::conntrack::{Conntrack, CtFilter, IpVersion};
use ferrovs_datapath::text::parse_actions;
use ferrovs_packet::buffer::{Batch, Checksum, Packet};
use ferrovs_packet::checksum::checksum;
use ferrovs_packet::miniflow::MiniflowBuf;

use crate::input::Input;

static ACTIONS: LazyLock<Vec<Ct>> = LazyLock::new(|| {
    let texts = [
        "ct(commit,zone=1)",
        "ct(zone=1)",
        "ct(zone=1,nat)",
        "ct(commit,zone=1,helper=ftp)",
        "ct(commit,zone=1,helper=ftp,nat(src=10.123.123.123))",
        "ct(commit,zone=1,helper=tftp,nat(dst=10.1.1.1:5000-5003))",
        "ct(commit,zone=1,nat(src=fd00::1-fd00::ffff,random))",
        "ct(force_commit,zone=1,mark=0x7/0xf)",
    ];
    let parsed = texts
        .iter()
        .flat_map(|t| parse_actions(t, None).unwrap_or_default());
    let ct = |action| match action {
        Action::Ct(ct) => Some(*ct),
        _ => None,
    };
    parsed.filter_map(ct).collect()
});

/// Most announcements of an address grow it by so much.
const GROWTH: usize = 64;

/// A frame whose IPv4 header checksum is right, and whose transport checksum nobody asks for.
fn frame(data: &[u8]) -> Packet {
    let mut packet = Packet::from_slice(data);
    MiniflowBuf::new().extract(&mut packet);
    let l3 = usize::from(packet.l3);
    let header = match packet.l3_data() {
        [first, ..] if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => 0,
    };
    if header >= 20 && packet.l3_data().len() >= header {
        let ip = &mut packet.data_mut()[l3..l3 + header];
        ip[10..12].fill(0);
        let sum = checksum(ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
    }
    packet.offload.checksum = Checksum::Good;
    packet
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::now();
    let tracker = Tracker::new(now);
    tracker.set_max_count(16);
    _ = tracker.set_max_frags(8);
    _ = tracker.set_min_frag(IpVersion::V4, 400);
    let (mut before, mut after) = (0, 0);
    while !input.is_empty() {
        let choices = input.byte();
        let len = usize::from(u16::from_be_bytes([input.byte(), input.byte()]));
        let packet = frame(input.bytes(len));
        let size = packet.size();
        let ct = &ACTIONS[usize::from(choices) % ACTIONS.len()];
        if choices & 0x80 != 0 {
            now += Duration::from_secs(u64::from(choices & 0x7f));
        }
        before += 1;
        let mut batch: Batch = [packet].into_iter().collect();
        let rest = tracker.execute(&mut batch, ct, now);
        after += batch.len() + rest.len();
        assert!(after <= before, "more packets than came");
        let whole = batch.len() + rest.len() == 1;
        for p in batch.iter().filter(|_| whole) {
            assert!(p.size() <= size.max(2000) + GROWTH, "grown to {}", p.size());
        }
        // Again in the zone, as behind a recirculation.
        _ = tracker.execute(&mut batch, ct, now);
        tracker.sweep(now);
    }
    assert!(tracker.count() <= 16);
    let mut shown = 0;
    tracker.dump(None, now, &mut |_| shown += 1);
    assert!(shown <= tracker.count());
    tracker.flush(&CtFilter::default());
    assert_eq!((tracker.count(), tracker.expectations(None).len()), (0, 0));
}
