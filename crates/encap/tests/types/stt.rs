//! STT: its bytes, frames in segments, and what is none of either.

use std::time::{Duration, Instant};

use ferrovs_encap::row::{Gathered, PopError};
use ferrovs_encap::types::stt::PORT;
use ferrovs_encap::{PortState, pop, push};
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::pseudo_v4;
use ferrovs_packet::flow::PT_ETH;
use ferrovs_packet::gso;

use super::large::large;
use super::{datagram, header_of, outer};

/// A segment on the wire, with its checksum.
fn segment(len: u16, offset: u16, id: u8, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![0x80, 1, 0x1d, 0x2f];
    f.extend(len.to_be_bytes());
    f.extend(offset.to_be_bytes());
    f.extend([0, 0, 0, id, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    f.extend(payload);
    let pseudo = pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], 6, f.len() as u32);
    let sum = pseudo.add(&f).finish();
    f[16..18].copy_from_slice(&sum.to_be_bytes());
    outer(6, &f)
}

fn stt_header(flags: u8, l4: u8, mss: u16, vlan: u16) -> Vec<u8> {
    let mut h = vec![0, flags, l4, 0];
    h.extend(mss.to_be_bytes());
    h.extend(vlan.to_be_bytes());
    h.extend([0, 0, 0, 5, 0, 0, 0, 7, 0, 0]);
    h
}

fn gather(p: &mut Packet, state: &PortState, now: Instant) -> Result<Gathered, PopError> {
    PORT.gather.unwrap()(p, state, now)
}

/// What the frames make, as they come from the wire.
fn received(frames: &[&Packet], state: &PortState) -> Vec<Packet> {
    let now = ferrovs_runtime::clock::now();
    let mut out = Vec::new();
    for frame in frames {
        let mut p = Packet::from_slice(frame.data());
        let gathered = gather(&mut p, state, now).unwrap();
        assert_eq!(gathered.given_up, 0);
        if gathered.whole {
            pop::pop(&PORT, &mut p).unwrap();
            out.push(p);
        }
    }
    out
}

fn sent(packet: Packet, v6: bool, state: &PortState) -> Vec<Packet> {
    let (_, _, header) = header_of("stt", &[], v6, PT_ETH);
    let mut frames = Vec::new();
    push::push(packet, &header, Some(state), |p| {
        gso::finish(p, |p| frames.push(p));
    });
    frames
}

#[test]
fn a_small_frame_is_one_segment_that_tells_what_is_open() {
    let frames = sent(datagram(PT_ETH), false, &PortState::default());
    let d = frames[0].data();
    // Behind Ethernet and IP: ports, length, offset, identification, and the rest of TCP's header.
    assert_eq!(d[23], 6);
    assert_eq!(d[36..48], [0x1d, 0x2f, 0, 65, 0, 0, 0, 0, 0, 0, 0x50, 0x18]);
    // UDP of IPv4 at 34, whose checksum is to be computed; context 42.
    assert_eq!(
        d[54..72],
        [0, 6, 34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0]
    );
    let a = |at: usize| [d[at], d[at + 1], d[at + 2], d[at + 3]];
    let sum = pseudo_v4(a(26), a(30), 6, (d.len() - 34) as u32);
    assert_eq!(sum.add(&d[34..]).finish(), 0);
}

#[test]
fn a_large_frame_is_large_again_at_the_other_end() {
    for v6 in [false, true] {
        let (from, to) = (PortState::default(), PortState::default());
        let one = sent(large(PT_ETH), v6, &from);
        let other = sent(large(PT_ETH), v6, &from);
        assert_eq!((one.len(), other.len()), (2, 2));
        let got = received(&[&other[1], &one[0], &other[0], &one[1]], &to);
        assert_eq!(got.len(), 2);
        let want = large(PT_ETH);
        for p in got {
            assert_eq!(p.data(), want.data());
            assert_eq!(p.offload, want.offload);
            assert_eq!(p.md.tunnel.get().unwrap().tun_id.get(), 42);
        }
    }
}

#[test]
fn segments_are_as_long_as_the_device_sends() {
    for (mtu, n) in [(9000, 1), (1400, 2), (1000, 3)] {
        let state = PortState::default();
        state.set_mtu(mtu);
        let frames = sent(large(PT_ETH), true, &state);
        assert_eq!(frames.len(), n);
        assert!(frames.iter().all(|f| f.size() <= 14 + mtu as usize));
        let frames: Vec<&Packet> = frames.iter().collect();
        assert_eq!(received(&frames, &state)[0].data(), large(PT_ETH).data());
    }
}

#[test]
fn segments_that_never_become_a_frame_are_given_up_in_time() {
    let (state, now) = (PortState::default(), ferrovs_runtime::clock::now());
    let part = |id| Packet::from_slice(&segment(100, 0, id, &[0; 40]));
    let first = gather(&mut part(1), &state, now).unwrap();
    assert_eq!((first.whole, first.given_up), (false, 0));
    let later = gather(&mut part(2), &state, now + Duration::from_secs(2)).unwrap();
    assert_eq!((later.whole, later.given_up), (false, 1));
}

#[test]
fn a_vlan_in_the_header_is_put_back_and_open_checksums_stay_where_they_are() {
    let inner = datagram(PT_ETH);
    let frame = [
        stt_header(6, 34, 0, 0x1000 | 3 << 13 | 9),
        inner.data().to_vec(),
    ]
    .concat();
    let mut p = Packet::from_slice(&segment(frame.len() as u16, 0, 1, &frame));
    assert!(
        gather(&mut p, &PortState::default(), ferrovs_runtime::clock::now())
            .unwrap()
            .whole
    );
    pop::pop(&PORT, &mut p).unwrap();
    assert_eq!(p.data()[12..18], [0x81, 0, 0x60, 9, 8, 0]);
    assert_eq!(
        p.offload.checksum,
        Checksum::Partial {
            start: 38,
            offset: 6
        }
    );
    let t = p.md.tunnel.get().unwrap();
    assert_eq!((t.tun_id.get(), t.tp_dst.get()), (0x5_0000_0007, 7471));
}

#[test]
fn what_is_no_segment_is_refused() {
    let inner = datagram(PT_ETH).data().to_vec();
    let good = [stt_header(0, 0, 0, 0), inner.clone()].concat();
    let len = good.len() as u16;
    let state = PortState::default();
    let try_it = |frame: &[u8]| {
        let mut p = Packet::from_slice(frame);
        let gathered = gather(&mut p, &state, ferrovs_runtime::clock::now())?;
        assert!(gathered.whole);
        pop::pop(&PORT, &mut p)
    };
    assert_eq!(try_it(&segment(len, 0, 1, &good)), Ok(()));
    for (what, frame) in [
        ("longer than the whole", segment(len - 1, 0, 1, &good)),
        ("behind the end", segment(len, 1, 1, &good)),
        ("nothing", segment(len, 0, 1, &[])),
        ("shorter than a header", segment(10, 0, 1, &good[..10])),
        (
            "another version",
            segment(len, 0, 1, &[&[1], &good[1..]].concat()),
        ),
        (
            "checksum before the frame",
            segment(len, 0, 1, &[&stt_header(2, 3, 0, 0)[..], &inner].concat()),
        ),
        (
            "checksum behind the frame",
            segment(len, 0, 1, &[&stt_header(10, 40, 9, 0)[..], &inner].concat()),
        ),
    ] {
        assert_eq!(try_it(&frame), Err(PopError::Header), "{what}");
    }
    let no_frame = segment(20, 0, 1, &good[..20]);
    assert_eq!(try_it(&no_frame), Err(PopError::Truncated));
    let whole = segment(len, 0, 1, &good);
    for cut in 0..whole.len() {
        assert!(try_it(&whole[..cut]).is_err(), "{cut}");
    }
    // SYN and RST, options, and any bit elsewhere, which the checksums find.
    for (at, value) in [(47, 0x02), (47, 0x14), (46, 0x60)] {
        let mut f = whole.clone();
        f[at] = value;
        let mut p = Packet::from_slice(&f);
        p.offload.checksum = Checksum::Good;
        assert_eq!(
            gather(&mut p, &state, ferrovs_runtime::clock::now()),
            Err(PopError::Header)
        );
    }
    for at in 34..whole.len() {
        let mut f = whole.clone();
        f[at] ^= 0x10;
        assert_eq!(try_it(&f), Err(PopError::Checksum), "{at}");
    }
}
