//! Large packets, which are many segments: what leaves is what each segment alone would have become.

use ferrovs_encap::{PortState, pop, push, types};
use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload, Packet};
use ferrovs_packet::checksum::{checksum, pseudo_v4};
use ferrovs_packet::flow::PT_ETH;
use ferrovs_packet::gso;

use super::{ALL, header_of};

const MSS: usize = 1000;

/// 2500 bytes of TCP in three segments, whose checksums are left to the sender.
pub(super) fn large(ty: u32) -> Packet {
    let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 8, 0];
    f.extend([
        0x45, 0, 0x09, 0xec, 0, 77, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2,
    ]);
    let sum = checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f.extend([
        0, 1, 0, 2, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
    ]);
    f.extend((0..2500).map(|n| (n ^ n >> 8) as u8));
    let sum = pseudo_v4([10, 1, 0, 1], [10, 1, 0, 2], 6, 2520).fold();
    f[50..52].copy_from_slice(&sum.to_be_bytes());
    let mut p = Packet::from_slice(&f);
    (p.l3, p.l4) = (14, 34);
    p.offload = Offload {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Some(Gso {
            kind: GsoType::Tcp4,
            size: MSS as u16,
            hdr_len: 54,
            ecn: false,
        }),
    };
    if ty != PT_ETH {
        p.pull(14);
        (p.l3, p.l4) = (0, 20);
        p.md.packet_type = ty;
    }
    p
}

/// The segments of the packet by itself.
fn segments(ty: u32) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let behind = if ty == PT_ETH { 0 } else { 14 };
    gso::finish(large(PT_ETH), |p| out.push(p.data()[behind..].to_vec()));
    out
}

#[test]
fn a_large_packet_becomes_its_segments_each_with_a_right_header() {
    for (kind, list, inside) in ALL {
        for (v6, ty) in [false, true]
            .into_iter()
            .flat_map(|v6| inside.iter().map(move |ty| (v6, *ty)))
        {
            // STT cuts the whole, with what is open in it.
            if kind == "srv6" && !v6 || kind == "stt" {
                continue;
            }
            let (_, _, header) = header_of(kind, list, v6, ty);
            let state = PortState::default();
            let mut frames = Vec::new();
            push::push(large(ty), &header, Some(&state), |p| {
                gso::finish(p, |p| frames.push(p));
            });
            let what = format!("{kind} {list:?} {v6} {ty:#x}");
            let want = segments(ty);
            assert_eq!((frames.len(), want.len()), (3, 3), "{what}");
            let mut sequence = Vec::new();
            for (frame, want) in frames.iter().zip(&want) {
                assert!(frame.size() <= header.bytes.len() + MSS + 54, "{what}");
                // As it comes from the wire: nobody has vouched for anything.
                let mut p = Packet::from_slice(frame.data());
                sequence.push(p.data()[header.bytes.len() - 4..header.bytes.len()].to_vec());
                let ty = types::port(kind).unwrap();
                pop::pop(ty, &mut p).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(
                    p.data() == &want[..],
                    "{what}: {:x?} {:x?}",
                    &p.data()[..64],
                    &want[..64]
                );
            }
            if list.contains(&("seq", "true")) {
                assert_eq!(
                    sequence,
                    [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]],
                    "{what}"
                );
            }
        }
    }
}
