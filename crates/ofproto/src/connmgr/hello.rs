//! The hello exchange: which versions each side offers, and the error when there is no common one.
//!
//! A hello's header carries the newest version that its sender supports. Since 1.3.1 it may carry a bitmap of
//! versions; without one every version up to the header's is meant. Elements that are unknown are skipped.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ferrovs_openflow::version::{Version, Versions};

const OFPT_HELLO: u8 = 0;
const OFPT_ERROR: u8 = 1;
const OFPHET_VERSIONBITMAP: u16 = 1;

/// The number of the next hello: connections of one process count together.
pub fn next_xid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

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

/// What a peer's hello says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions that it offers, also those that are not known here.
    pub versions: Versions,
    /// Whether everything in it was understood.
    pub understood: bool,
}

/// Reads a peer's hello; None for another message, or one of a version that cannot be.
pub fn decode(msg: &[u8]) -> Option<Hello> {
    if msg.len() < 8 || msg[1] != OFPT_HELLO || msg[0] == 0 {
        return None;
    }
    // Every version up to the header's, unless a bitmap says otherwise.
    let newest = u32::from(msg[0]).min(31);
    let mut hello = Hello {
        versions: Versions((u32::MAX >> (31 - newest)) & !1),
        understood: true,
    };
    let mut at = 8;
    while at < msg.len() {
        let Some(head) = msg.get(at..at + 4) else {
            hello.understood = false;
            break;
        };
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if len < 4 || at + len > msg.len() {
            hello.understood = false;
            break;
        }
        if kind == OFPHET_VERSIONBITMAP && len >= 8 {
            let b = &msg[at + 4..at + 8];
            hello.versions = Versions(u32::from_be_bytes([b[0], b[1], b[2], b[3]]) & !1);
        } else {
            hello.understood = false;
        }
        at += len.next_multiple_of(8);
    }
    Some(hello)
}

/// The error (`OFPET_HELLO_FAILED`, `OFPHFC_INCOMPATIBLE`) that answers a hello with nothing in common, in the
/// newest version that the peer may understand, with a text for people.
pub fn failed(peer: Versions, text: &str) -> Vec<u8> {
    let version = Versions(peer.0 & Versions::ALL.0)
        .newest()
        .unwrap_or(Version::ALL[0]);
    let mut msg = vec![version.wire(), OFPT_ERROR, 0, 0];
    msg.extend_from_slice(&[0; 8]);
    msg.extend_from_slice(text.as_bytes());
    let size = (msg.len() as u16).to_be_bytes();
    msg[2..4].copy_from_slice(&size);
    msg
}

/// "version 0x01", "version 0x04 and earlier", "versions 0x01, 0x04".
pub fn versions_text(versions: Versions) -> String {
    let list: Vec<u32> = (1..32).filter(|n| versions.0 & 1 << n != 0).collect();
    let shown: Vec<String> = list.iter().map(|n| format!("0x{n:02x}")).collect();
    match list.as_slice() {
        [] => "no versions".into(),
        [_] => format!("version {}", shown[0]),
        [1, .., last] if *last as usize == list.len() => {
            format!("version 0x{last:02x} and earlier")
        }
        _ => format!("versions {}", shown.join(", ")),
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
        assert_eq!(decode(&msg).unwrap().versions, offer);
        let all = Versions::up_to(Version::ALL[3]);
        let msg = encode(all, 7);
        assert_eq!((msg.len(), decode(&msg).unwrap().versions), (8, all));
        assert_eq!(versions_text(all), "version 0x04 and earlier");
        assert_eq!(versions_text(offer), "versions 0x01, 0x04");
    }

    #[test]
    fn truncated_elements_fall_back_to_the_header() {
        let msg = [4, 0, 0, 12, 0, 0, 0, 1, 0, 1, 0, 9];
        let versions = Versions::up_to(Version::ALL[3]);
        assert_eq!(
            decode(&msg),
            Some(Hello {
                versions,
                understood: false
            })
        );
    }
}
