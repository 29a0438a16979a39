//! What helpers do with packets of control connections: they remember what is announced and, where addresses are
//! translated, write the translated one into the announcement.
//!
//! When that changes the length of a payload, sequence numbers behind it differ from then on: what the sender sends is
//! shifted, and what the other side acknowledges shifted back.

use arrayvec::ArrayVec;
use ferrovs_datapath::action::Ct;
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::{pseudo_v4, pseudo_v6, update};
use ferrovs_packet::types::ip_proto;

use crate::Tracker;
use crate::alg::{self, Announced, Helper};
use crate::conn::{Conn, Extra, Shift, flag};
use crate::expect::Expected;
use crate::extract::{ACK, Segment};
use crate::table::Place;
use crate::tuple::{Addr, Tuple};

/// A control connection as it was when the packet came.
pub struct Watched {
    place: Place,
    serial: u32,
    orig: Tuple,
    answer: Tuple,
    mark: u32,
    labels: [u8; 16],
    helper: Helper,
    translated: bool,
    /// Whether the packet is a reply.
    reply: bool,
}

fn behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// How the numbers of one segment change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shifted {
    seq: u32,
    /// What the segment acknowledges, in the numbers of whoever sent it.
    pub ack: u32,
    /// How the numbers of what is acknowledged were shifted.
    other: Shift,
}

impl Shift {
    /// A number of the sender's of which the other side has spoken.
    fn back(self, number: u32) -> u32 {
        let own = number.wrapping_sub(self.before as u32);
        let by = match behind(own, self.at) {
            true => self.after,
            false => self.before,
        };
        number.wrapping_sub(by as u32)
    }
}

impl Extra {
    /// How the numbers of a segment change; none if they do not.
    pub fn shift_for(&self, s: &Segment, reply: bool) -> Option<Shifted> {
        let [orig, answer] = self.shift;
        if self.shift == [Shift::default(); 2] {
            return None;
        }
        let (own, other) = if reply {
            (answer, orig)
        } else {
            (orig, answer)
        };
        let by = if behind(s.seq, own.at) {
            own.after
        } else {
            own.before
        };
        Some(Shifted {
            seq: s.seq.wrapping_add(by as u32),
            ack: match s.flags & ACK {
                0 => s.ack,
                _ => other.back(s.ack),
            },
            other,
        })
    }

    /// The payload of a segment from `seq` on has changed its length.
    fn note(&mut self, seq: u32, reply: bool, by: i32) {
        let shift = &mut self.shift[usize::from(reply)];
        let first = *shift == Shift::default();
        // A retransmission has been counted.
        if first || behind(seq, shift.at) {
            *shift = Shift {
                at: seq,
                before: shift.after,
                after: shift.after.wrapping_add(by),
            };
        }
    }
}

impl Shifted {
    /// Writes the numbers into the packet.
    pub fn apply(self, packet: &mut Packet) {
        let at = usize::from(packet.l4);
        let Some(old) = packet
            .l4_data()
            .get(4..12)
            .and_then(<[u8]>::first_chunk::<8>)
        else {
            return;
        };
        let mut new = [0; 8];
        new[..4].copy_from_slice(&self.seq.to_be_bytes());
        new[4..].copy_from_slice(&self.ack.to_be_bytes());
        let old = *old;
        if packet.l4_data().len() < 20 {
            return;
        }
        let is_partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
        let tcp = &mut packet.data_mut()[at..];
        let write = |tcp: &mut [u8], at: usize, old: &[u8], new: &[u8]| {
            tcp[at..at + new.len()].copy_from_slice(new);
            if !is_partial {
                let sum = update(u16::from_be_bytes([tcp[16], tcp[17]]), old, new);
                tcp[16..18].copy_from_slice(&sum.to_be_bytes());
            }
        };
        if old != new {
            write(tcp, 4, &old, &new);
        }
        if self.other == Shift::default() {
            return;
        }
        // What was received beyond the acknowledgement (RFC 2018), in the same numbers.
        for at in sack_edges(tcp) {
            let old = [tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]];
            let new = self.other.back(u32::from_be_bytes(old)).to_be_bytes();
            // The checksum's words begin at even places, options anywhere.
            let odd = at % 2;
            let span = at - odd..at + 4 + odd;
            let before: ArrayVec<u8, 6> = tcp[span.clone()].iter().copied().collect();
            let mut after = before.clone();
            after[odd..odd + 4].copy_from_slice(&new);
            write(tcp, span.start, &before, &after);
        }
    }
}

/// Where the numbers of a segment's selective acknowledgements are.
fn sack_edges(tcp: &[u8]) -> ArrayVec<usize, 8> {
    let mut edges = ArrayVec::new();
    let header = usize::from(tcp[12] >> 4) * 4;
    let mut at = 20;
    while at + 1 < header.min(tcp.len()) {
        let len = match tcp[at] {
            0 => break,
            1 => 1,
            _ => usize::from(tcp[at + 1]),
        };
        if len == 0 || at + len > header.min(tcp.len()) {
            break;
        }
        if tcp[at] == 5 {
            let all = (at + 2..at + len).step_by(4).filter(|e| e + 4 <= at + len);
            // As many as options have room for.
            edges.extend(all.take(edges.remaining_capacity()));
        }
        at += len;
    }
    edges
}

/// Where the payload of a packet begins behind its transport header.
fn payload_at(packet: &Packet, proto: u8) -> Option<usize> {
    let l4 = packet.l4_data();
    let at = match proto {
        ip_proto::TCP => usize::from(l4.get(12)? >> 4) * 4,
        ip_proto::UDP => 8,
        _ => return None,
    };
    (at < l4.len()).then_some(at)
}

impl Watched {
    pub fn new(conn: &Conn, place: Place, serial: u32, reply: bool) -> Watched {
        Watched {
            place,
            serial,
            orig: conn.orig,
            answer: conn.reply(),
            mark: conn.mark,
            labels: conn.labels(),
            helper: conn.helper,
            translated: conn.has(flag::NAT),
            reply,
        }
    }

    /// Whether the helper looks at the packet.
    pub fn wants(&self, packet: &Packet) -> bool {
        let proto = match self.helper {
            Helper::None => return false,
            Helper::Ftp => ip_proto::TCP,
            Helper::Tftp => ip_proto::UDP,
        };
        self.orig.proto == proto && payload_at(packet, proto).is_some()
    }

    /// The connection to `port` of the client (an active transfer) or of the server (a passive one).
    fn expect(&self, passive: bool, port: u16, reply_port: u16) -> Expected {
        // Each is named as those see it whom it concerns: who connects, and who is connected to.
        let (seen, own) = match passive {
            true => (self.orig, self.answer),
            false => (self.answer, self.orig),
        };
        Expected {
            tuple: Tuple {
                src_l4: 0,
                dst_l4: port.into(),
                ..seen
            },
            parent: self.orig,
            place: self.place,
            serial: self.serial,
            mark: self.mark,
            labels: self.labels,
            helper: self.helper,
            reply: (own.src, own.dst, reply_port),
        }
    }
}

impl Tracker {
    /// Has the helper of a control connection look at a packet of it.
    #[cold]
    pub(crate) fn watch(&self, packet: &mut Packet, w: &Watched, ct: &Ct) {
        let Some(at) = payload_at(packet, w.orig.proto) else {
            return;
        };
        match w.helper {
            Helper::Tftp if !w.reply && alg::tftp_asks(&packet.l4_data()[at..]) => {
                let (seen, own) = (w.answer.dst_l4 as u16, w.orig.src_l4 as u16);
                self.expectations.add(w.expect(false, seen, own));
            }
            Helper::Ftp => {
                let payload = &packet.l4_data()[at..];
                if let Some(a) = alg::ftp(payload, w.reply, w.orig.ipv6) {
                    self.ftp(packet, w, &a, at, ct.nat.is_some());
                }
            }
            _ => {}
        }
    }

    fn ftp(&self, packet: &mut Packet, w: &Watched, a: &Announced, at: usize, nat: bool) {
        // The sender as it knows itself, and as the receiver knows it.
        let (own, known) = match w.reply {
            false => (w.orig.src, w.answer.dst),
            true => (w.answer.src, w.orig.dst),
        };
        if a.addr.as_ref().is_some_and(|(addr, ..)| *addr != own) {
            return;
        }
        self.expectations.add(w.expect(w.reply, a.port, a.port));
        if let Some((_, style, span)) = &a.addr
            && w.translated
            && nat
            && own != known
        {
            let text = alg::write_addr(&known, *style, w.orig.ipv6);
            let span = at + span.start..at + span.end;
            let seq = packet
                .l4_data()
                .get(4..8)
                .and_then(<[u8]>::first_chunk::<4>);
            let seq = seq.map_or(0, |b| u32::from_be_bytes(*b));
            let by = text.len() as i32 - span.len() as i32;
            if replace(packet, span, text.as_bytes(), w.orig.ipv6) && by != 0 {
                self.shift(w, seq, by);
            }
        }
    }

    /// Notes that the payload of the segment which now begins at `seq` grew.
    fn shift(&self, w: &Watched, seq: u32, by: i32) {
        let mut shard = self.table.lock(w.place.shard);
        let conn = shard.get_mut(w.place.slot);
        if let Some(conn) = conn.filter(|c| c.serial == w.serial && c.has(flag::USED)) {
            let extra = conn.extra_mut();
            // In the numbers of the sender.
            let shift = extra.shift[usize::from(w.reply)];
            let own = seq.wrapping_sub(shift.after as u32);
            let own = match behind(own, shift.at) {
                true => own,
                false => seq.wrapping_sub(shift.before as u32),
            };
            extra.note(own, w.reply, by);
        }
    }
}

/// Replaces a part of a TCP segment, `span` from its header on; false, and nothing done, where that cannot be.
fn replace(packet: &mut Packet, span: std::ops::Range<usize>, text: &[u8], ipv6: bool) -> bool {
    let l4 = usize::from(packet.l4);
    let l3 = usize::from(packet.l3);
    let size = packet.l4_data().len();
    let total = l4.saturating_sub(l3) + size - span.len() + text.len();
    let unfit = span.end > size || packet.offload.gso.is_some() || total > usize::from(u16::MAX);
    if unfit {
        return false;
    }
    let tail = packet.l4_data()[span.end..].to_vec();
    packet.truncate(l4 + span.start);
    packet.l2_pad = 0;
    packet.append(text);
    packet.append(&tail);
    let len = (packet.size() - l4) as u32;
    let is_partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
    let data = packet.data_mut();
    let addr = |at: usize| -> Addr {
        let mut a = [0; 16];
        let n = if ipv6 { 16 } else { 4 };
        a[..n].copy_from_slice(&data[at..at + n]);
        a
    };
    let pseudo = if ipv6 {
        let (src, dst) = (addr(l3 + 8), addr(l3 + 24));
        let whole = (data.len() - l3 - 40) as u16;
        data[l3 + 4..l3 + 6].copy_from_slice(&whole.to_be_bytes());
        pseudo_v6(&src, &dst, ip_proto::TCP, len)
    } else {
        let four = |a: Addr| [a[0], a[1], a[2], a[3]];
        let (src, dst) = (four(addr(l3 + 12)), four(addr(l3 + 16)));
        let new = ((data.len() - l3) as u16).to_be_bytes();
        let old = [data[l3 + 2], data[l3 + 3]];
        let sum = update(
            u16::from_be_bytes([data[l3 + 10], data[l3 + 11]]),
            &old,
            &new,
        );
        data[l3 + 2..l3 + 4].copy_from_slice(&new);
        data[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        pseudo_v4(src, dst, ip_proto::TCP, len)
    };
    let tcp = &mut data[l4..];
    tcp[16..18].fill(0);
    let sum = match is_partial {
        true => pseudo.fold(),
        false => pseudo.add(tcp).finish(),
    };
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    true
}
