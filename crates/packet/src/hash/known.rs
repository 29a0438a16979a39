//! Hashes whose values users see: in the choices of groups, `multipath` and `bundle`, in scores that traces tell, in
//! the order of ports. They are Open vSwitch's, so that a choice stays the same: numbers and fields of groups go
//! through MurmurHash3, keys through Bob Jenkins' lookup3.

/// One step of MurmurHash3.
pub fn murmur_add(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    let hash = hash ^ word.wrapping_mul(0x1b87_3593);
    hash.rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

/// The last step of MurmurHash3; `last` is the number of bytes, or another number.
pub fn murmur_finish(hash: u32, last: u32) -> u32 {
    let mut h = hash ^ last;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

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
    murmur_finish(words(bytes).fold(basis, murmur_add), bytes.len() as u32)
}

/// The words of `bytes`, the last one filled up with zeros.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks(4).map(word)
}

fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(word)
}

/// Bob Jenkins' lookup3 of a key.
pub fn jenkins(key: &[u8], basis: u32) -> u32 {
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(basis);
    let mut s = [start; 3];
    for chunk in key.chunks(12) {
        for (s, bytes) in s.iter_mut().zip(chunk.chunks(4)) {
            *s = s.wrapping_add(word(bytes));
        }
        match chunk.len() {
            12 => mix(&mut s),
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
    use crate::flow::Flow;
    use crate::hash::HashFields;
    use crate::types::{MacAddr, eth_type, ip_proto};

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
        assert_eq!(
            scores(HashFields::SymmetricL4.hash(&flow, 0)),
            [467_850, 371_740]
        );
        assert_eq!(scores(bytes(&[10, 0, 0, 1], u64(0))), [411_050, 823_720]);
        let masked = bytes(&[0, 6], bytes(&[10, 0, 0, 0], u64(99)));
        assert_eq!(scores(masked), [193_250, 1_096_660]);
    }
}
