//! Requests that come in parts: from OpenFlow 1.3 on a multipart request may say that more of it follows.
//!
//! The parts of one request have the same transaction id and type. They wait here until the last has come and are
//! then one message, whose length may exceed what a header can say. A request whose next part does not come in
//! time, or that asks for too much memory, is answered with an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrovs_openflow::version::Version;
use ferrovs_openflow::{OfpErr, raw};

/// How long the next part may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a connection may make the switch hold of unfinished requests, each with something for its place.
const MAX_BYTES: usize = 1 << 20;
const OVERHEAD: usize = 256;
/// Where the flags of a multipart message are.
const FLAGS: std::ops::Range<usize> = 10..12;

struct Unfinished {
    /// The first part with the bodies of those that followed.
    bytes: Vec<u8>,
    /// Length of the first part.
    first: usize,
    deadline: Instant,
}

/// The unfinished requests of a connection, by transaction id.
#[derive(Default)]
pub struct Multipart {
    requests: BTreeMap<u32, Unfinished>,
    bytes: usize,
}

/// What a message is good for.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// It can be carried out: as it came, or put together.
    Whole(Cow<'a, [u8]>),
    /// More of it must come.
    Wait,
    /// It is refused; the error quotes these bytes.
    Refused(Cow<'a, [u8]>, OfpErr),
}

impl Multipart {
    /// Takes a message that arrived.
    pub fn input<'a>(&mut self, now: Instant, message: &'a [u8]) -> Input<'a> {
        let is_part = |p: &raw::Parsed| {
            // A part may be without any of the body.
            p.body == message.len() && (p.more || self.requests.contains_key(&p.xid))
        };
        let parsed =
            raw::parse(message).or_else(|e| raw::identify(message).ok().filter(is_part).ok_or(e));
        let parsed = match parsed {
            Ok(p) if p.raw.is_multipart() && !p.raw.is_multipart_reply() => p,
            // Errors are told by who carries messages out.
            _ => return Input::Whole(message.into()),
        };
        if parsed.version < Version::V13 {
            return Input::Whole(message.into());
        }
        let Some(request) = self.requests.get_mut(&parsed.xid) else {
            if !parsed.more {
                return Input::Whole(message.into());
            }
            if self.bytes + message.len() + OVERHEAD > MAX_BYTES {
                return Input::Refused(message.into(), OfpErr::OFPBRC_MULTIPART_BUFFER_OVERFLOW);
            }
            self.bytes += message.len() + OVERHEAD;
            let first = message.len();
            self.requests.insert(
                parsed.xid,
                Unfinished {
                    bytes: message.to_vec(),
                    first,
                    deadline: now + TIMEOUT,
                },
            );
            return Input::Wait;
        };
        let same = raw::identify(&request.bytes).is_ok_and(|p| {
            (p.raw.kind, p.raw.carrier, p.version)
                == (parsed.raw.kind, parsed.raw.carrier, parsed.version)
        });
        if !same {
            return Input::Refused(message.into(), OfpErr::OFPBRC_BAD_STAT);
        }
        let body = &message[parsed.body..];
        if self.bytes + body.len() > MAX_BYTES {
            self.take(parsed.xid);
            return Input::Refused(message.into(), OfpErr::OFPBRC_MULTIPART_BUFFER_OVERFLOW);
        }
        request.bytes.extend_from_slice(body);
        request.deadline = now + TIMEOUT;
        self.bytes += body.len();
        if !body.is_empty() && raw::parse(&request.bytes).is_err() {
            // Only a list can have parts.
            let refused = self.take(parsed.xid).map(|r| r.bytes[..r.first].to_vec());
            let refused = refused.map_or(message.into(), Cow::Owned);
            return Input::Refused(refused, OfpErr::OFPBRC_BAD_STAT);
        }
        if parsed.more {
            return Input::Wait;
        }
        match self.take(parsed.xid) {
            Some(mut request) => {
                request.bytes[FLAGS].fill(0);
                Input::Whole(request.bytes.into())
            }
            None => Input::Wait,
        }
    }

    fn take(&mut self, xid: u32) -> Option<Unfinished> {
        let request = self.requests.remove(&xid)?;
        self.bytes -= request.bytes.len() + OVERHEAD;
        Some(request)
    }

    /// A request whose next part did not come in time, as far as it came first.
    pub fn expire(&mut self, now: Instant) -> Option<Vec<u8>> {
        let late = self.requests.iter().find(|(_, r)| r.deadline <= now)?;
        let xid = *late.0;
        self.take(xid).map(|r| r.bytes[..r.first].to_vec())
    }

    /// When [`Multipart::expire`] has something to tell.
    pub fn deadline(&self) -> Option<Instant> {
        self.requests.values().map(|r| r.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESC: u16 = 0;
    const TABLE: u16 = 3;
    const METER: u16 = 9;
    const FLOW_MONITOR: u16 = 16;

    fn part(kind: u16, xid: u8, more: bool, body: &[u8]) -> Vec<u8> {
        let mut m = vec![5, 18, 0, 0, 0, 0, 0, xid];
        m.extend(kind.to_be_bytes());
        m.extend([0, u8::from(more), 0, 0, 0, 0]);
        m.extend(body);
        let len = (m.len() as u16).to_be_bytes();
        m[2..4].copy_from_slice(&len);
        m
    }

    #[test]
    fn parts_of_one_request_become_one_message() {
        let now = ferrovs_runtime::clock::now();
        let mut mp = Multipart::default();
        let whole = part(DESC, 1, false, &[]);
        assert_eq!(mp.input(now, &whole), Input::Whole(whole.as_slice().into()));
        let (a, b) = ([1; 24], [2; 24]);
        assert_eq!(mp.input(now, &part(FLOW_MONITOR, 2, true, &a)), Input::Wait);
        // Others go their way meanwhile.
        let other = part(TABLE, 3, false, &[]);
        assert_eq!(mp.input(now, &other), Input::Whole(other.as_slice().into()));
        let last = part(FLOW_MONITOR, 2, false, &b);
        let Input::Whole(m) = mp.input(now, &last) else {
            panic!("the last part ends it");
        };
        assert_eq!(&m[16..], [a, b].concat());
        assert_eq!(m[10..12], [0, 0]);
        assert_eq!((mp.bytes, mp.deadline()), (0, None));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let now = ferrovs_runtime::clock::now();
        let mut mp = Multipart::default();
        assert_eq!(mp.input(now, &part(TABLE, 1, true, &[])), Input::Wait);
        let other = part(DESC, 1, false, &[]);
        assert_eq!(
            mp.input(now, &other),
            Input::Refused(other.as_slice().into(), OfpErr::OFPBRC_BAD_STAT)
        );
        // What is no list cannot go on.
        let first = part(METER, 2, true, &[0; 8]);
        assert_eq!(mp.input(now, &first), Input::Wait);
        assert_eq!(
            mp.input(now, &part(METER, 2, false, &[0; 8])),
            Input::Refused(first.as_slice().into(), OfpErr::OFPBRC_BAD_STAT)
        );
        assert_eq!(mp.requests.len(), 1);
    }

    #[test]
    fn a_part_may_be_without_a_body_that_the_whole_must_have() {
        let now = ferrovs_runtime::clock::now();
        let mut mp = Multipart::default();
        let whole = part(METER, 1, false, &[7; 8]);
        for parts in [
            vec![part(METER, 1, true, &[7; 8]), part(METER, 1, false, &[])],
            vec![part(METER, 1, true, &[]), part(METER, 1, false, &[7; 8])],
            vec![
                part(METER, 1, true, &[]),
                part(METER, 1, true, &[7; 8]),
                part(METER, 1, true, &[]),
                part(METER, 1, false, &[]),
            ],
        ] {
            let (last, first) = parts.split_last().unwrap();
            for p in first {
                assert_eq!(mp.input(now, p), Input::Wait);
            }
            let Input::Whole(m) = mp.input(now, last) else {
                panic!("the last part ends it");
            };
            let mut m = m.into_owned();
            // Its length is that of the first part.
            m[2..4].copy_from_slice(&whole[2..4]);
            assert_eq!(m, whole);
        }
        // Half of a body is no part, and no part is without a beginning.
        for odd in [part(METER, 1, true, &[7; 4]), part(METER, 1, false, &[])] {
            assert_eq!(mp.input(now, &odd), Input::Whole(odd.as_slice().into()));
        }
    }

    #[test]
    fn a_request_that_does_not_go_on_times_out() {
        let now = ferrovs_runtime::clock::now();
        let mut mp = Multipart::default();
        let first = part(FLOW_MONITOR, 1, true, &[1; 24]);
        assert_eq!(mp.input(now, &first), Input::Wait);
        assert_eq!(
            mp.input(now, &part(FLOW_MONITOR, 1, true, &[2; 24])),
            Input::Wait
        );
        assert_eq!(mp.expire(now), None);
        let at = mp.deadline().unwrap();
        assert_eq!((at, mp.expire(at)), (now + TIMEOUT, Some(first)));
        assert_eq!((mp.expire(at), mp.bytes), (None, 0));
    }

    #[test]
    fn unfinished_requests_take_bounded_memory() {
        let now = ferrovs_runtime::clock::now();
        let mut mp = Multipart::default();
        let mut refused = 0;
        for xid in 0..=255 {
            match mp.input(now, &part(FLOW_MONITOR, xid, true, &[0; 24 * 1000])) {
                Input::Wait => {}
                Input::Refused(_, e) => {
                    assert_eq!(e, OfpErr::OFPBRC_MULTIPART_BUFFER_OVERFLOW);
                    refused += 1;
                }
                Input::Whole(_) => panic!("more was announced"),
            }
        }
        assert!(refused > 200 && mp.bytes <= MAX_BYTES);
    }
}
