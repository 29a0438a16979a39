use super::*;
use crate::buffer::Offload;
use crate::checksum::checksum;

const TUNNEL: usize = 8 + 14;

fn ip4(proto: u8, len: usize, last: u8) -> Vec<u8> {
    let mut h = vec![
        0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, last,
    ];
    fix_ip(&mut h, 0, 20, 0);
    put_u16(&mut h, 2, (20 + len) as u16);
    put_u16(&mut h, 10, 0);
    let sum = checksum(&h);
    put_u16(&mut h, 10, sum);
    h
}

fn eth(ty: u16) -> Vec<u8> {
    let mut e = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    e.extend_from_slice(&ty.to_be_bytes());
    e
}

/// Ethernet, IPv4, TCP with timestamps, and `len` bytes of payload.
fn tcp4(len: usize) -> Vec<u8> {
    let mut f = eth(0x0800);
    f.extend(ip4(6, 32 + len, 2));
    let tcp = f.len();
    f.extend_from_slice(&[
        0, 80, 0x30, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 5, 0x80, 0x99, 1, 0, 0, 0, 0, 0,
    ]);
    f.extend_from_slice(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    f.extend((0..len).map(|i| (i * 7) as u8));
    let sum = pseudo(&f, 14, 6, f.len() - tcp).fold();
    put_u16(&mut f, tcp + 16, sum);
    f
}

fn large(bytes: &[u8], start: u16, mss: u16) -> Packet {
    let mut p = Packet::from_slice(bytes);
    p.offload = Offload {
        checksum: Checksum::Partial { start, offset: 16 },
        gso: Some(Gso {
            kind: GsoType::Tcp4,
            size: mss,
            hdr_len: start + 32,
            ecn: false,
        }),
    };
    p
}

fn vxlan(inner: &[u8], csum: bool) -> Vec<u8> {
    let mut f = eth(0x0800);
    f.extend(ip4(17, 16 + inner.len(), 9));
    f.extend_from_slice(&[0x90, 0, 0x12, 0xb5]);
    f.extend_from_slice(&((16 + inner.len()) as u16).to_be_bytes());
    f.extend_from_slice(if csum { &[0xff, 0xff] } else { &[0, 0] });
    f.extend_from_slice(&[8, 0, 0, 0, 0, 0, 42, 0]);
    f.extend_from_slice(inner);
    f
}

/// Checks a TCP/IPv4 packet's checksums and returns (sequence number, flags, payload).
fn check_tcp4(ip: &[u8]) -> (u32, u8, Vec<u8>) {
    assert_eq!(checksum(&ip[..20]), 0);
    assert_eq!(usize::from(u16_at(ip, 2)), ip.len());
    assert_eq!(pseudo(ip, 0, 6, ip.len() - 20).add(&ip[20..]).finish(), 0);
    let seq = u32::from_be_bytes([ip[24], ip[25], ip[26], ip[27]]);
    (seq, ip[33], ip[52..].to_vec())
}

#[test]
fn tcp_is_cut_into_segments_that_add_up() {
    let whole = tcp4(5000);
    let mut segs = Vec::new();
    segment(large(&whole, 34, 1448), |p| segs.push(p));
    assert_eq!(segs.len(), 4);
    let mut payload = Vec::new();
    for (i, s) in segs.iter().enumerate() {
        assert_eq!(s.offload, Offload::default());
        assert_eq!(u16_at(s.data(), 18), 7 + i as u16);
        let (seq, flags, data) = check_tcp4(&s.data()[14..]);
        assert_eq!(seq, 0xffff_ff00u32.wrapping_add(1448 * i as u32));
        // CWR only first, FIN and PSH only last.
        assert_eq!(flags, [0x90, 0x10, 0x10, 0x19][i]);
        payload.extend(data);
    }
    assert_eq!(payload, whole[66..]);
}

#[test]
fn a_tunnel_frame_becomes_datagrams_of_ready_packets() {
    let inner = tcp4(60_000);
    for csum in [false, true] {
        let mut frames = Vec::new();
        to_uso(large(&vxlan(&inner, csum), 84, 1398), |p| frames.push(p));
        let size = 8 + 14 + 20 + 32 + 1398;
        let mut payload = Vec::new();
        let mut n = 0;
        for f in &frames {
            let d = f.data();
            assert_eq!(
                f.offload.checksum,
                Checksum::Partial {
                    start: 34,
                    offset: 6
                }
            );
            assert_eq!(f.offload.gso.unwrap().size, size as u16);
            assert_eq!(u16_at(d, 16) as usize, d.len() - 14);
            assert_eq!(u16_at(d, 38) as usize, d.len() - 34);
            for seg in d[42..].chunks(size) {
                assert_eq!(seg[..8], [8, 0, 0, 0, 0, 0, 42, 0]);
                let (seq, _, data) = check_tcp4(&seg[TUNNEL..]);
                assert_eq!(seq, 0xffff_ff00u32.wrapping_add(1398 * n));
                payload.extend(data);
                n += 1;
            }
        }
        assert_eq!(payload, inner[66..]);
        assert!(frames.len() <= 2);
    }
}

#[test]
fn segmenting_a_tunnel_frame_directly_or_by_way_of_uso_gives_the_same_packets() {
    let frame = vxlan(&tcp4(4000), true);
    let (mut direct, mut by_uso) = (Vec::new(), Vec::new());
    segment(large(&frame, 84, 1398), |p| direct.push(p.data().to_vec()));
    to_uso(large(&frame, 84, 1398), |p| {
        segment(p, |s| by_uso.push(s.data().to_vec()))
    });
    assert_eq!(direct.len(), 3);
    assert_eq!(direct, by_uso);
    for f in &direct {
        assert_eq!(pseudo(f, 14, 17, f.len() - 34).add(&f[34..]).finish(), 0);
    }
    // Without an outer checksum none appears.
    let mut plain = Vec::new();
    segment(large(&vxlan(&tcp4(4000), false), 84, 1398), |p| {
        plain.push(p)
    });
    assert!(plain.iter().all(|p| u16_at(p.data(), 40) == 0));
}

#[test]
fn a_frame_can_be_split_into_large_ones() {
    let whole = tcp4(60_000);
    let mut direct = Vec::new();
    segment(large(&whole, 34, 1448), |p| direct.push(p.data().to_vec()));
    let (mut parts, mut segs) = (0, Vec::new());
    split(large(&whole, 34, 1448), 40_000, |p| {
        assert!(p.offload.gso.is_some() && p.size() < 40_100);
        parts += 1;
        segment(p, |s| segs.push(s.data().to_vec()));
    });
    assert_eq!(parts, 2);
    assert_eq!(direct, segs);
}

#[test]
fn a_partial_checksum_is_completed() {
    let mut p = Packet::from_slice(&tcp4(100));
    p.offload.checksum = Checksum::Partial {
        start: 34,
        offset: 16,
    };
    complete_checksum(&mut p);
    check_tcp4(&p.data()[14..]);
    assert_eq!(p.offload.checksum, Checksum::Unknown);
}

#[test]
fn nonsense_comes_out_unchanged_and_never_panics() {
    let frame = vxlan(&tcp4(300), true);
    for len in 0..frame.len() {
        for start in [0, 14, 34, 84, 4000] {
            let p = large(&frame[..len], start, 100);
            let mut bytes = 0;
            segment(p.duplicate(), |s| bytes += s.size());
            assert!(bytes >= len);
            to_uso(p.duplicate(), |_| {});
            split(p, 50, |_| {});
        }
    }
}
