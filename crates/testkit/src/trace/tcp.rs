//! TCP conversations.

use std::net::SocketAddr;

use super::frames::{self, ACK, FIN, PSH, RST, SYN, Segment, TCP};
use super::{Kind, Mark, Script};
use crate::database::Choose;

/// One side of a connection.
#[derive(Clone, Debug)]
pub struct Side {
    way: (SocketAddr, SocketAddr),
    from_client: bool,
    pub next: u32,
    /// What was heard of the other side, in the numbers that this one sees.
    pub heard: u32,
    wscale: Option<u8>,
    pub window: u16,
}

/// A connection: the client's side and the server's.
#[derive(Clone, Debug)]
pub struct Connection {
    pub sides: [Side; 2],
}

impl Script<'_> {
    pub fn number(&mut self) -> u32 {
        let near_the_end = self.random.chance(10);
        match near_the_end {
            true => u32::MAX - self.random.below(500) as u32,
            false => (self.random.below(1 << 16) as u32) << 16 | self.random.below(1 << 16) as u32,
        }
    }

    /// A connection between these ends; who opens it need not be the client of the conversation.
    pub fn connection(
        &mut self,
        client: (SocketAddr, SocketAddr),
        server: (SocketAddr, SocketAddr),
        by_client: bool,
    ) -> Connection {
        let mut side = |way, from_client| Side {
            way,
            from_client,
            next: self.number(),
            heard: 0,
            wscale: match self.random.below(4) {
                0 => None,
                _ => Some(self.random.below(15) as u8),
            },
            window: *self.random.pick(&[0, 512, 8192, 29_200, 65_535]),
        };
        let mut sides = [side(client, by_client), side(server, !by_client)];
        if sides[0].wscale.is_some() && sides[1].wscale.is_none() {
            // Open vSwitch counts a window beyond 65,535 from its start when it takes back the scale.
            (sides[0].wscale, sides[0].window) = (Some(1), sides[0].window.min(29_200));
        }
        Connection { sides }
    }

    /// One segment of side `i`, as it says.
    pub fn segment(&mut self, c: &Connection, i: usize, flags: u8, payload: &[u8]) {
        let side = &c.sides[i];
        let mut options = Vec::new();
        if flags & SYN != 0 {
            options.extend([2, 4, 5, 180]);
            if let Some(shift) = side.wscale {
                options.extend([1, 3, 3, shift]);
            }
        } else if self.random.chance(30) {
            options.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        }
        let s = Segment {
            flags,
            seq: side.next,
            ack: if flags & ACK != 0 { side.heard } else { 0 },
            window: side.window,
            options,
            payload: payload.to_vec(),
        };
        let l4 = frames::tcp(side.way, &s);
        self.send(side.from_client, side.way, TCP, &l4);
    }

    /// The same, and what it takes of sequence space is taken; the other side hears it.
    pub fn say(&mut self, c: &mut Connection, i: usize, flags: u8, payload: &[u8]) {
        self.segment(c, i, flags, payload);
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let side = &mut c.sides[i];
        side.next = side.next.wrapping_add(payload.len() as u32 + controls);
        let next = side.next;
        c.sides[1 - i].heard = next;
        self.pause();
    }

    pub fn open(&mut self, c: &mut Connection) {
        self.say(c, 0, SYN, b"");
        self.say(c, 1, SYN | ACK, b"");
        self.say(c, 0, ACK, b"");
    }

    /// Both sides are done.
    pub fn finish(&mut self, c: &mut Connection) {
        let first = self.random.below(2);
        self.say(c, first, FIN | ACK, b"");
        self.say(c, 1 - first, FIN | ACK, b"");
        self.say(c, first, ACK, b"");
    }

    pub fn close(&mut self, c: &mut Connection) {
        let first = self.random.below(2);
        match self.random.below(5) {
            0 => self.say(c, first, RST, b""),
            1 => self.say(c, first, RST | ACK, b""),
            2 => self.say(c, first, FIN | ACK, b""),
            _ => self.finish(c),
        }
    }

    fn talk(&mut self, c: &mut Connection) {
        for _ in 0..self.random.below(8) {
            let i = self.random.below(2);
            let len = *self.random.pick(&[0, 1, 7, 100, 536, 1400]);
            if self.random.chance(12) {
                self.disturb(c);
            }
            if self.ends.kind == Kind::Marks && self.random.chance(30) {
                self.mark = *self.random.pick(&[Mark::Change, Mark::Force]);
            }
            self.say(c, i, PSH | ACK, &vec![b'x'; len]);
            self.mark = Mark::None;
        }
    }

    /// A segment that does not belong there: outside of the window, of another time, with flags that nobody sends.
    fn disturb(&mut self, c: &Connection) {
        let i = self.random.below(2);
        let mut other = c.clone();
        let by = *self.random.pick(&[1u32, 1000, 70_000, 1 << 20, 1 << 30]);
        let side = &mut other.sides[i];
        match self.random.below(4) {
            0 => side.next = side.next.wrapping_add(by),
            1 => side.next = side.next.wrapping_sub(by),
            2 => side.heard = side.heard.wrapping_add(by),
            _ => side.heard = side.heard.wrapping_sub(by),
        }
        let flags = *self.random.pick(&[
            ACK,
            RST,
            RST | ACK,
            SYN,
            SYN | ACK,
            FIN | ACK,
            SYN | FIN,
            0,
            0x3f,
            PSH,
        ]);
        let len = self.random.below(3);
        self.segment(&other, i, flags, &vec![b'y'; len]);
    }

    /// A connection as it comes: opened, met under way, only asked for; closed, reset, or left; perhaps once more.
    pub fn tcp(&mut self) {
        let (a, b) = (self.way(true), self.way(false));
        let mut c = self.connection(a, b, true);
        match self.random.below(10) {
            0 => {
                for _ in 0..1 + self.random.below(3) {
                    self.segment(&c, 0, SYN, b"");
                    self.pause();
                }
                return;
            }
            1 => {
                c.sides[0].heard = c.sides[1].next;
                c.sides[1].heard = c.sides[0].next;
            }
            2 => {
                // Both at once.
                self.say(&mut c, 0, SYN, b"");
                self.say(&mut c, 1, SYN, b"");
                self.say(&mut c, 0, ACK, b"");
                self.say(&mut c, 1, ACK, b"");
            }
            _ => self.open(&mut c),
        }
        self.talk(&mut c);
        if self.random.chance(20) {
            self.error(TCP);
        }
        if self.random.chance(85) {
            self.close(&mut c);
        }
        if self.random.chance(15) {
            // The same ports again, at once or later.
            self.pause();
            let (a, b) = (self.way(true), self.way(false));
            let mut again = self.connection(a, b, true);
            self.open(&mut again);
            self.talk(&mut again);
            self.close(&mut again);
        }
    }
}
