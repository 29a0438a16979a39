//! The state of a TCP connection as somebody on the way can know it.
//!
//! Each side has a state (of RFC 9293, as far as it shows outside) and a window: the highest sequence number that it
//! has sent (`seqlo`), the highest that the other side lets it send (`seqhi`) and the largest window that it has
//! announced, from which follows what a segment may be ("Real Stateful TCP Packet Filtering in IP Filter", G. van
//! Rooij, 2000). A segment outside is invalid and changes nothing, so that nobody who does not see the connection can
//! end it (RFC 5961).
//!
//! A connection may be met when it is under way: then nothing is known of how windows are scaled (RFC 7323), and the
//! largest scale is assumed.

use ferrovs_datapath::conntrack::{CtPeer, TCPF_BE_LIBERAL, TCPF_WINDOW_SCALE, TcpState};

use crate::extract::{ACK, FIN, PSH, RST, SYN, Segment, URG};
use crate::timeouts::Class;

/// How far behind, or ahead of, what is expected an acknowledgement may be: a window without scale and a segment.
const ACK_SLACK: i32 = 0xffff + 1500;
const MAX_SCALE: u8 = 14;

/// Bits of [`Peer::wscale`] besides the scale.
const SCALE: u8 = 0x0f;
const SCALES: u8 = 0x80;
const SCALE_UNKNOWN: u8 = 0x40;

/// One side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    seqlo: u32,
    seqhi: u32,
    max_win: u16,
    wscale: u8,
    state: TcpState,
}

const NOBODY: Peer = Peer {
    seqlo: 0,
    seqhi: 1,
    max_win: 1,
    wscale: 0,
    state: TcpState::Closed,
};

/// Both sides: who began, then who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp([Peer; 2]);

/// What a segment is to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid(Class),
    /// It fits, but not so well that the connection would live longer for it.
    Tolerated,
    /// The connection is still the one that a first packet asked for.
    ValidNew(Class),
    Invalid,
    /// The old connection is over and a new one begins.
    New,
}

/// `a` is `b` or behind it, in sequence space.
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// Combinations of flags that no side sends.
fn is_nonsense(flags: u8) -> bool {
    if flags & SYN != 0 {
        if flags & (RST | FIN) != 0 {
            return true;
        }
    } else if flags & (ACK | RST) == 0 {
        return true;
    }
    flags & ACK == 0 && flags & (FIN | PSH | URG) != 0
}

fn scale_of(segment: &Segment) -> u8 {
    segment.wscale.map_or(0, |shift| shift | SCALES)
}

/// A window that was not scaled, in units of the scale.
fn unscaled(window: u16, scale: u8) -> u16 {
    u32::from(window).div_ceil(1 << scale) as u16
}

/// Whether a connection can begin with this segment: with SYN, or in the middle, but not in between.
pub fn can_begin(segment: &Segment) -> bool {
    !is_nonsense(segment.flags) && segment.flags & (SYN | ACK) != SYN | ACK
}

impl Tcp {
    /// That of what is no connection of TCP.
    pub const NONE: Tcp = Tcp([NOBODY; 2]);

    /// What its first segment tells.
    pub fn begin(s: &Segment) -> Tcp {
        let (mut a, mut b) = (NOBODY, NOBODY);
        a.seqlo = s.seq;
        a.seqhi = s.seq.wrapping_add(s.len).wrapping_add(1);
        if s.flags & SYN != 0 {
            a.seqhi = a.seqhi.wrapping_add(1);
            a.wscale = scale_of(s);
        } else {
            (a.wscale, b.wscale) = (SCALE_UNKNOWN, SCALE_UNKNOWN);
        }
        a.max_win = unscaled(s.window.max(1), a.wscale & SCALE);
        if s.flags & FIN != 0 {
            a.seqhi = a.seqhi.wrapping_add(1);
        }
        a.state = TcpState::SynSent;
        Tcp([a, b])
    }

    /// A further segment; `checked` says whether it must be within the window.
    // Apart: what other protocols need is much less.
    #[inline(never)]
    pub fn update(&mut self, s: &Segment, reply: bool, checked: bool) -> Verdict {
        let [a, b] = &mut self.0;
        let (src, dst) = if reply { (b, a) } else { (a, b) };
        if is_nonsense(s.flags) {
            return Verdict::Invalid;
        }
        if s.flags & (SYN | ACK) == SYN {
            if dst.state >= TcpState::FinWait2 && src.state >= TcpState::FinWait2 {
                (src.state, dst.state) = (TcpState::Closed, TcpState::Closed);
                return Verdict::New;
            } else if src.state <= TcpState::SynSent {
                src.state = TcpState::SynSent;
                return Verdict::ValidNew(Class::TcpFirst);
            }
        }
        follow(src, dst, s, checked)
    }

    /// As dumps show it.
    pub fn to_entry(self) -> [CtPeer; 2] {
        self.0.map(|p| CtPeer {
            state: p.state,
            wscale: p.wscale & SCALE,
            flags: match p.wscale {
                w if w & SCALES != 0 => TCPF_WINDOW_SCALE,
                w if w & SCALE_UNKNOWN != 0 => TCPF_BE_LIBERAL,
                _ => 0,
            },
        })
    }
}

/// Scales of the windows of both sides for a segment.
fn scales(src: &Peer, dst: &Peer, flags: u8) -> (u8, u8) {
    if flags & SYN != 0 {
        return (0, 0);
    }
    if src.wscale & SCALES != 0 && dst.wscale & SCALES != 0 {
        return (src.wscale & SCALE, dst.wscale & SCALE);
    }
    match src.wscale & dst.wscale & SCALE_UNKNOWN {
        0 => (0, 0),
        _ => (MAX_SCALE, MAX_SCALE),
    }
}

/// The first segment of a side.
struct First {
    window: u16,
    sws: u8,
    dws: u8,
    /// Acknowledgements are not to be compared with what is known.
    lenient: bool,
}

/// Learns from the first segment of a side, which ends at `end`.
fn meet(src: &mut Peer, dst: &mut Peer, s: &Segment, end: u32, scales: (u8, u8)) -> First {
    let mut first = First {
        window: s.window,
        sws: scales.0,
        dws: scales.1,
        lenient: false,
    };
    if s.flags & SYN != 0 && dst.wscale & SCALES != 0 {
        src.wscale = scale_of(s);
        if src.wscale & SCALES != 0 {
            first.sws = src.wscale & SCALE;
            first.window = unscaled(s.window, first.sws);
            first.dws = dst.wscale & SCALE;
        } else {
            // Nobody scales: the window that the other side announced is what it said after all.
            let shifted = u32::from(dst.max_win) << (dst.wscale & SCALE);
            dst.max_win = shifted.min(0xffff) as u16;
            dst.wscale = 0;
        }
    }
    src.seqlo = s.seq;
    src.state = TcpState::SynSent;
    let allowed = end.wrapping_add((u32::from(dst.max_win) << first.dws).max(1));
    if src.seqhi == 1 || at_or_after(allowed, src.seqhi) {
        src.seqhi = allowed;
        first.lenient = true;
    }
    src.max_win = src.max_win.max(first.window);
    first
}

fn follow(src: &mut Peer, dst: &mut Peer, s: &Segment, checked: bool) -> Verdict {
    let flags = s.flags;
    let mut seq = s.seq;
    let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let mut end = seq.wrapping_add(s.len).wrapping_add(controls);
    let scales = scales(src, dst, flags);
    let is_first = src.state < TcpState::SynSent;
    let First {
        window,
        sws,
        dws,
        lenient,
    } = match is_first {
        true => meet(src, dst, s, end, scales),
        false => First {
            window: s.window,
            sws: scales.0,
            dws: scales.1,
            lenient: false,
        },
    };
    // Stacks that reset, or end, what they never knew have nothing to acknowledge.
    let acks_nothing = flags & ACK == 0 || (s.ack == 0 && flags & (ACK | RST) == ACK | RST);
    let ack = if acks_nothing { dst.seqlo } else { s.ack };
    if seq == end {
        // What carries nothing need not be in order.
        (seq, end) = (src.seqlo, src.seqlo);
    }
    let skew = match lenient {
        true => 0,
        false => dst.seqlo.wrapping_sub(ack) as i32,
    };
    let behind = src.seqlo.wrapping_sub(u32::from(dst.max_win) << dws);
    let reset_fits = flags & RST == 0 || s.seq.wrapping_sub(src.seqlo).wrapping_add(1) <= 2;
    let fits = at_or_after(src.seqhi, end)
        && at_or_after(seq, behind)
        && skew >= -ACK_SLACK
        && i64::from(skew) <= i64::from(ACK_SLACK) << sws
        && reset_fits;
    if fits || !checked {
        advance(src, dst, end, ack, window, sws);
        return Verdict::Valid(transition(src, dst, flags));
    }
    let loose = dst.state < TcpState::SynSent
        || dst.state >= TcpState::FinWait2
        || src.state >= TcpState::FinWait2;
    let near = at_or_after(src.seqhi.wrapping_add(ACK_SLACK as u32), end)
        && at_or_after(seq, src.seqlo.wrapping_sub(ACK_SLACK as u32));
    if !(loose && near) {
        return Verdict::Invalid;
    }
    // One side was down, or a SYN crossed another: the window of the other side is not known well enough to learn it.
    advance(src, dst, end, ack, window, sws);
    if flags & FIN != 0 && src.state < TcpState::Closing {
        src.state = TcpState::Closing;
    }
    if flags & RST != 0 {
        (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
    }
    Verdict::Tolerated
}

/// Moves the windows along.
fn advance(src: &mut Peer, dst: &mut Peer, end: u32, ack: u32, window: u16, sws: u8) {
    src.max_win = src.max_win.max(window);
    if after(end, src.seqlo) {
        src.seqlo = end;
    }
    let offered = u32::from(window) << sws;
    if at_or_after(ack.wrapping_add(offered), dst.seqhi) {
        dst.seqhi = ack.wrapping_add(offered.max(1));
    }
}

/// Moves the states along.
fn transition(src: &mut Peer, dst: &mut Peer, flags: u8) -> Class {
    if flags & SYN != 0 && src.state < TcpState::SynSent {
        src.state = TcpState::SynSent;
    }
    if flags & FIN != 0 && src.state < TcpState::Closing {
        src.state = TcpState::Closing;
    }
    if flags & ACK != 0 {
        match dst.state {
            TcpState::SynSent => dst.state = TcpState::Established,
            TcpState::Closing => dst.state = TcpState::FinWait2,
            _ => {}
        }
    }
    if flags & RST != 0 {
        (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
    }
    class(src, dst)
}

fn class(src: &Peer, dst: &Peer) -> Class {
    let (less, more) = (src.state.min(dst.state), src.state.max(dst.state));
    if less >= TcpState::FinWait2 {
        Class::TcpClosed
    } else if less >= TcpState::Closing {
        Class::TcpFinWait
    } else if less < TcpState::Established {
        Class::TcpOpening
    } else if more >= TcpState::Closing {
        Class::TcpClosing
    } else {
        Class::TcpEstablished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seg(flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
        Segment {
            flags,
            seq,
            ack,
            window: 1000,
            len,
            wscale: None,
        }
    }

    /// A connection in which both sides have agreed; the next numbers are 101 and 501.
    fn established() -> Tcp {
        let mut t = Tcp::begin(&seg(SYN, 100, 0, 0));
        let answer = t.update(&seg(SYN | ACK, 500, 101, 0), true, true);
        assert_eq!(answer, Verdict::Valid(Class::TcpOpening));
        let third = t.update(&seg(ACK, 101, 501, 0), false, true);
        assert_eq!(third, Verdict::Valid(Class::TcpEstablished));
        t
    }

    fn states(t: &Tcp) -> [TcpState; 2] {
        t.0.map(|p| p.state)
    }

    #[test]
    fn a_connection_opens_and_closes() {
        use TcpState::*;
        let mut t = Tcp::begin(&seg(SYN, 100, 0, 0));
        assert_eq!(states(&t), [SynSent, Closed]);
        let again = t.update(&seg(SYN, 100, 0, 0), false, true);
        assert_eq!(again, Verdict::ValidNew(Class::TcpFirst));
        t.update(&seg(SYN | ACK, 500, 101, 0), true, true);
        assert_eq!(states(&t), [Established, SynSent]);
        t.update(&seg(ACK, 101, 501, 0), false, true);
        assert_eq!(states(&t), [Established, Established]);
        let fin = t.update(&seg(FIN | ACK, 101, 501, 0), false, true);
        assert_eq!(fin, Verdict::Valid(Class::TcpClosing));
        assert_eq!(states(&t), [Closing, Established]);
        let fin = t.update(&seg(FIN | ACK, 501, 102, 0), true, true);
        assert_eq!(fin, Verdict::Valid(Class::TcpFinWait));
        assert_eq!(states(&t), [FinWait2, Closing]);
        let last = t.update(&seg(ACK, 102, 502, 0), false, true);
        assert_eq!(last, Verdict::Valid(Class::TcpClosed));
        // A new one may begin at once, from either side.
        let new = t.update(&seg(SYN, 9000, 0, 0), true, true);
        assert_eq!(new, Verdict::New);
    }

    #[test]
    fn what_is_outside_of_the_window_is_invalid_and_changes_nothing() {
        for bad in [
            seg(ACK, 101 + 1001, 501, 1),
            seg(ACK, 100u32.wrapping_sub(1001), 501, 1),
            seg(ACK, 101, 501 + 70_000, 1),
            seg(ACK, 101, 501u32.wrapping_sub(70_000), 1),
            seg(RST, 98, 0, 0),
            seg(RST | ACK, 103, 501, 0),
            seg(SYN | FIN, 101, 0, 0),
            seg(0, 101, 501, 0),
            seg(FIN, 101, 0, 0),
        ] {
            let mut t = established();
            let before = t;
            assert_eq!(t.update(&bad, false, true), Verdict::Invalid, "{bad:?}");
            assert_eq!(t, before);
        }
        // Unless nobody checks.
        let mut t = established();
        let far = t.update(&seg(ACK, 101 + 1001, 501, 1), false, false);
        assert_eq!(far, Verdict::Valid(Class::TcpEstablished));
    }

    #[test]
    fn a_reset_at_the_right_place_ends_a_connection() {
        // No byte has been sent yet: what is exact is not known better.
        for seq in [99, 100, 101] {
            let mut t = established();
            let v = t.update(&seg(RST, seq, 0, 0), false, true);
            assert_eq!(v, Verdict::Valid(Class::TcpClosed), "{seq}");
        }
    }

    #[test]
    fn windows_are_scaled_once_both_sides_said_so() {
        let scaled = |s: Segment, shift| Segment {
            wscale: Some(shift),
            ..s
        };
        let mut t = Tcp::begin(&scaled(seg(SYN, 100, 0, 0), 7));
        t.update(&scaled(seg(SYN | ACK, 500, 101, 0), 7), true, true);
        t.update(&seg(ACK, 101, 501, 0), false, true);
        let end = 101 + (1000 << 7);
        // The other side has only announced 1000 yet, unscaled.
        let mut early = t;
        let v = early.update(&seg(ACK, end - 1, 501, 1), false, true);
        assert_eq!(v, Verdict::Invalid);
        t.update(&seg(ACK, 501, 101, 0), true, true);
        let v = t.update(&seg(ACK, end - 1, 501, 1), false, true);
        assert_eq!(v, Verdict::Valid(Class::TcpEstablished));
        let v = t.update(&seg(ACK, end + 200, 501, 1), false, true);
        assert_eq!(v, Verdict::Invalid);
        let [a, b] = t.to_entry();
        assert_eq!((a.wscale, b.flags), (7, TCPF_WINDOW_SCALE));
    }

    #[test]
    fn a_connection_is_met_under_way() {
        let mut t = Tcp::begin(&seg(ACK | PSH, 7000, 90, 10));
        let answer = t.update(&seg(ACK, 90, 7010, 20), true, true);
        assert_eq!(answer, Verdict::Valid(Class::TcpOpening));
        let next = t.update(&seg(ACK, 7010, 110, 10), false, true);
        assert_eq!(next, Verdict::Valid(Class::TcpEstablished));
        assert_eq!(t.to_entry()[0].flags, TCPF_BE_LIBERAL);
    }

    #[test]
    fn a_side_that_was_not_heard_yet_has_the_window_that_the_other_side_tells() {
        for ack in [1000, 1_500_000_000, 2_500_000_000, 4_000_000_000] {
            let mut t = Tcp::begin(&seg(ACK, 7000, ack, 10));
            t.update(&seg(ACK, 7010, ack, 10), false, true);
            let answer = t.update(&seg(ACK, ack, 7020, 10), true, true);
            assert_eq!(answer, Verdict::Valid(Class::TcpOpening), "{ack}");
        }
    }

    #[test]
    fn what_is_only_tolerated_does_not_prolong_a_connection() {
        let mut t = established();
        t.update(&seg(FIN | ACK, 101, 501, 0), false, true);
        t.update(&seg(FIN | ACK, 501, 102, 0), true, true);
        let late = t.update(&seg(ACK, 102 + 2000, 502, 10), false, true);
        assert_eq!(late, Verdict::Tolerated);
    }

    #[test]
    fn a_connection_does_not_begin_with_an_answer() {
        assert!(can_begin(&seg(SYN, 1, 0, 0)) && can_begin(&seg(ACK, 1, 0, 0)));
        assert!(!can_begin(&seg(SYN | ACK, 1, 1, 0)));
        assert!(!can_begin(&seg(SYN | RST, 1, 1, 0)) && !can_begin(&seg(PSH, 1, 1, 0)));
    }
}
