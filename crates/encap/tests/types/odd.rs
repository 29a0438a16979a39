//! Bytes that nobody sends by mistake: whatever comes, nothing panics, and what is taken lies inside of what came.

use ferrovs_encap::{PortState, pop, push, types};
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::gso;

use super::large::large;
use super::{ALL, datagram, header_of};

#[test]
fn no_bytes_make_a_tunnel_panic() {
    let mut seed = 1u32;
    let mut random = |n: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % n
    };
    let now = ferrovs_runtime::clock::now();
    let (mut taken, mut refused) = (0, 0);
    for (kind, list, inside) in ALL {
        let v6 = random(2) == 1 || kind == "srv6";
        let ty = types::port(kind).unwrap();
        let state = PortState::default();
        let (_, _, header) = header_of(kind, list, v6, inside[0]);
        let mut frames = Vec::new();
        for packet in [large(inside[0]), datagram(inside[0])] {
            push::push(packet, &header, Some(&state), |p| {
                gso::finish(p, |p| frames.push(p));
            });
        }
        for _ in 0..3000 {
            let mut f = frames[random(frames.len())].data().to_vec();
            for _ in 0..random(4) {
                // Headers above all.
                let within = [header.bytes.len() + 40, f.len()][random(2)].min(f.len());
                let at = random(within);
                f[at] = random(256) as u8;
            }
            let cut = random(f.len());
            f.truncate(f.len() - cut * (random(8) / 7));
            let mut p = Packet::from_slice(&f);
            if random(4) > 0 {
                p.offload.checksum = Checksum::Good;
            }
            let whole = match ty.gather {
                Some(gather) => gather(&mut p, &state, now).is_ok_and(|g| g.whole),
                None => true,
            };
            match whole && pop::pop(ty, &mut p).is_ok() {
                true => {
                    taken += 1;
                    assert!(p.size() <= f.len() + 2 * 1460, "{kind}");
                    gso::finish(p, drop);
                }
                false => refused += 1,
            }
        }
    }
    assert!(taken > 10_000 && refused > 1000, "{taken} {refused}");
}
