//! The hello exchange: which versions each side offers, and the error when there is no common one.
//!
//! A hello's header carries the newest version that its sender supports. Since 1.3.1 it may carry a bitmap of
//! versions; without one every version up to the header's is meant. Elements that are unknown are skipped.

use ferrovs_openflow::version::{Version, Versions};

const OFPT_HELLO: u8 = 0;
const OFPT_ERROR: u8 = 1;
const OFPHET_VERSIONBITMAP: u16 = 1;

/// A hello that offers `allowed`; the bitmap is there only when the header cannot say it.
pub fn encode(allowed: Versions, xid: u32) -> Vec<u8> {
    let newest = allowed.newest().unwrap_or(Version::ALL[0]);
    let mut msg = vec![newest.wire(), OFPT_HELLO, 0, 8];
    msg.extend_from_slice(&xid.to_be_bytes());
    if allowed != Versions::up_to(newest) {
        msg.extend_from_slice(&OFPHET_VERSIONBITMAP.to_be_bytes());
        msg.extend_from_slice(&8u16.to_be_bytes());
        msg.extend_from_slice(&allowed.0.to_be_bytes());
        msg[3] = 16;
    }
    msg
}

/// The versions that a peer's hello offers.
pub fn decode(msg: &[u8]) -> Result<Versions, &'static str> {
    if msg.len() < 8 || msg[1] != OFPT_HELLO {
        return Err("expected OFPT_HELLO, received a different message");
    }
    let mut at = 8;
    while at + 4 <= msg.len() {
        let kind = u16::from_be_bytes([msg[at], msg[at + 1]]);
        let len = usize::from(u16::from_be_bytes([msg[at + 2], msg[at + 3]]));
        if len < 4 || at + len > msg.len() {
            break;
        }
        if kind == OFPHET_VERSIONBITMAP && len >= 8 {
            let b = &msg[at + 4..at + 8];
            return Ok(Versions(
                u32::from_be_bytes([b[0], b[1], b[2], b[3]]) & Versions::ALL.0,
            ));
        }
        at += len.next_multiple_of(8);
    }
    // A peer that is newer than everything known here supports everything known here.
    match msg[0] {
        0 => Err("expected OFPT_HELLO, received a version 0 message"),
        wire => Ok(match Version::from_wire(wire) {
            Some(version) => Versions::up_to(version),
            None => Versions::ALL,
        }),
    }
}

/// The error (`OFPET_HELLO_FAILED`, `OFPHFC_INCOMPATIBLE`) that answers `hello`, with a text for people.
pub fn failed(hello: &[u8], text: &str) -> Vec<u8> {
    let version = hello.first().copied().unwrap_or(1).clamp(1, 6);
    let mut msg = vec![version, OFPT_ERROR, 0, 0];
    msg.extend_from_slice(hello.get(4..8).unwrap_or(&[0; 4]));
    msg.extend_from_slice(&[0, 0, 0, 0]);
    msg.extend_from_slice(text.as_bytes());
    let size = (msg.len() as u16).to_be_bytes();
    msg[2..4].copy_from_slice(&size);
    msg
}

/// "version 0x01", "versions 0x01, 0x04".
pub fn versions_text(versions: Versions) -> String {
    let list: Vec<String> = versions
        .iter()
        .map(|v| format!("0x{:02x}", v.wire()))
        .collect();
    match list.len() {
        0 => "no versions".into(),
        1 => format!("version {}", list[0]),
        _ => format!("versions {}", list.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_offer_is_told_by_the_bitmap() {
        let mut offer = Versions::of(Version::ALL[0]);
        offer.insert(Version::ALL[3]);
        let msg = encode(offer, 7);
        assert_eq!(msg.len(), 16);
        assert_eq!(decode(&msg), Ok(offer));
        let all = Versions::up_to(Version::ALL[3]);
        let msg = encode(all, 7);
        assert_eq!((msg.len(), decode(&msg)), (8, Ok(all)));
    }

    #[test]
    fn truncated_elements_fall_back_to_the_header() {
        let msg = [4, 0, 0, 12, 0, 0, 0, 1, 0, 1, 0, 9];
        assert_eq!(decode(&msg), Ok(Versions::up_to(Version::ALL[3])));
    }
}
