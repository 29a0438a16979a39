//! The hashes by which groups choose buckets: users compare the choice, and traces tell the scores.
//!
//! Numbers and fields go through MurmurHash3, whole flows through Bob Jenkins' lookup3.

use ferrovs_packet::flow::{Flow, VLAN_VID_MASK};
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::port_order::{murmur_add, murmur_finish};

/// Hash of a number.
pub fn int(value: u32, basis: u32) -> u32 {
    murmur_finish(murmur_add(murmur_add(value, 0), basis), 8)
}

/// Hash of a greater number.
pub fn u64(value: u64) -> u32 {
    let halves = [value as u32, (value >> 32) as u32];
    murmur_finish(halves.into_iter().fold(0, murmur_add), 8)
}

/// Hash of bytes.
pub fn bytes(bytes: &[u8], basis: u32) -> u32 {
    murmur_finish(words(bytes).fold(basis, murmur_add), bytes.len())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    })
}

/// Hash of addresses, VLAN, protocol and TCP or SCTP ports that is the same for both directions.
pub fn symmetric_l4(flow: &Flow, basis: u32) -> u32 {
    let mut key = [0u8; 32];
    let xor = |out: &mut [u8], a: &[u8], b: &[u8]| {
        for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *out = a ^ b;
        }
    };
    let vlans = flow.vlans.iter().map(|v| v.tci.get() & VLAN_VID_MASK);
    let vlan = vlans.fold(0, |acc, vid| acc ^ vid);
    key[16..18].copy_from_slice(&flow.dl_type.get().to_be_bytes());
    key[18..20].copy_from_slice(&vlan.to_be_bytes());
    xor(&mut key[22..28], &flow.dl_src.0, &flow.dl_dst.0);
    match flow.dl_type.get() {
        eth_type::IP => {
            let both = flow.nw_src.get() ^ flow.nw_dst.get();
            key[..4].copy_from_slice(&both.to_be_bytes());
        }
        eth_type::IPV6 => xor(&mut key[..16], &flow.ipv6_src, &flow.ipv6_dst),
        _ => return jenkins(&key, basis),
    }
    key[28] = flow.nw_proto;
    if matches!(flow.nw_proto, ip_proto::TCP | ip_proto::SCTP) {
        let both = flow.tp_src.get() ^ flow.tp_dst.get();
        key[20..22].copy_from_slice(&both.to_be_bytes());
    }
    jenkins(&key, basis)
}

/// Bob Jenkins' lookup3 of a key of 32 bytes.
fn jenkins(key: &[u8; 32], basis: u32) -> u32 {
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(basis);
    let mut s = [start; 3];
    let words: Vec<u32> = words(key).collect();
    for chunk in words.chunks(3) {
        for (s, word) in s.iter_mut().zip(chunk) {
            *s = s.wrapping_add(*word);
        }
        match chunk.len() {
            3 => mix(&mut s),
            _ => last_mix(&mut s),
        }
    }
    s[2]
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: u32, n: u32| *x = x.wrapping_sub(y) ^ y.rotate_left(n);
    step(a, *c, 4);
    *c = c.wrapping_add(*b);
    step(b, *a, 6);
    *a = a.wrapping_add(*c);
    step(c, *b, 8);
    *b = b.wrapping_add(*a);
    step(a, *c, 16);
    *c = c.wrapping_add(*b);
    step(b, *a, 19);
    *a = a.wrapping_add(*c);
    step(c, *b, 4);
    *b = b.wrapping_add(*a);
}

fn last_mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: u32, n: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(n));
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_packet::types::MacAddr;

    fn scores(basis: u32) -> [u32; 2] {
        [(0, 10), (1, 20)].map(|(id, weight)| (int(id, basis) & 0xffff) * weight)
    }

    #[test]
    fn scores_are_those_of_open_vswitch() {
        let flow = Flow {
            dl_src: MacAddr([2, 0, 0, 0, 0, 1]),
            dl_dst: MacAddr([2, 0, 0, 0, 0, 2]),
            dl_type: eth_type::IP.into(),
            nw_src: 0x0a00_0001.into(),
            nw_dst: 0x0a00_0002.into(),
            nw_proto: ip_proto::TCP,
            tp_src: 5.into(),
            tp_dst: 6.into(),
            ..Flow::default()
        };
        assert_eq!(scores(symmetric_l4(&flow, 0)), [467_850, 371_740]);
        assert_eq!(scores(bytes(&[10, 0, 0, 1], u64(0))), [411_050, 823_720]);
        let masked = bytes(&[0, 6], bytes(&[10, 0, 0, 0], u64(99)));
        assert_eq!(scores(masked), [193_250, 1_096_660]);
    }
}
