//! One bridge: a switch, and the connections by which controllers govern it. Neither holds the other; what passes
//! between them passes here.
//!
//! ```text
//!            messages -> handlers -> changes
//!   ConnMgr                                  Ofproto
//!            <- replies, events, packet-ins <-
//! ```
//!
//! What a message did to the switch is told to all connections before the next message is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_runtime::{Poller, clock, coverage};
use ferrovs_sync::Waker;

use crate::backer::Backer;
use crate::connmgr::fail_open::{Act, bogus_packet_in};
use crate::connmgr::{ConnMgr, ControllerSettings, FailMode, Input};
use crate::handlers;
use crate::ofproto::Ofproto;
use crate::xlate::snapshot::BridgeId;

#[cfg(test)]
mod tests;

/// Messages that one connection may have handled before others get their turn.
const MESSAGES_PER_TURN: usize = 500;
/// So long one that waits for the answer to each message may go on before that.
const DIALOGUE: Duration = Duration::from_micros(250);

/// See the module's text.
pub struct Bridge {
    pub ofproto: Ofproto,
    pub connmgr: ConnMgr,
    /// The message in the works; its memory serves for all.
    message: Vec<u8>,
}

impl Bridge {
    /// A bridge without ports and controllers.
    pub fn new(
        name: &str,
        id: BridgeId,
        backer: Arc<Backer>,
        waker: &Arc<Waker>,
        now: Instant,
    ) -> Bridge {
        let bridge = Bridge {
            ofproto: Ofproto::new(name, id, backer, waker, now),
            connmgr: ConnMgr::new(name),
            message: Vec::new(),
        };
        bridge.flushed(now);
        bridge
    }

    pub fn set_controllers(&mut self, wanted: Vec<ControllerSettings>, now: Instant) {
        if self.connmgr.set_controllers(wanted, now) {
            self.flush_flows(now);
        }
    }

    pub fn set_fail_mode(&mut self, mode: FailMode, now: Instant) {
        if self.connmgr.fail_mode != mode {
            self.connmgr.fail_mode = mode;
            if !self.connmgr.has_controllers() {
                self.flush_flows(now);
            }
        }
    }

    /// Removes every flow that OpenFlow can see or the fail mode made, with all groups and meters, and begins anew.
    fn flush_flows(&mut self, now: Instant) {
        coverage::OFPROTO_FLUSH.inc();
        self.ofproto.remove_flows(now);
        self.flushed(now);
    }

    /// After all flows went: a bridge that no controller shall govern becomes a learning switch.
    fn flushed(&self, now: Instant) {
        if self.connmgr.is_ungoverned() {
            self.ofproto.add_normal_flow(now);
        }
    }

    /// Does what is due: ports, flows, connections.
    pub fn run(&mut self, now: Instant) {
        self.ofproto.run(now);
        self.connmgr.accept(now);
        for i in self.connmgr.places() {
            self.run_conn(i, now);
        }
        self.tell_events(now);
        let packet_ins = self.ofproto.take_packet_ins();
        self.connmgr.send_packet_ins(packet_ins, now);
        self.connmgr.flush(now);
        if !self.connmgr.restoring {
            self.run_fail_open(now);
        }
        self.ofproto.set_wants_misses(self.connmgr.wants_misses());
        self.ofproto.revalidate();
    }

    /// Carries out what came on a connection.
    fn run_conn(&mut self, i: usize, now: Instant) {
        if !self.connmgr.run_conn(i, &self.ofproto, now) {
            return;
        }
        let (mut now, end) = (now, clock::real_now() + DIALOGUE);
        for _ in 0..MESSAGES_PER_TURN {
            let (conn, _) = self.connmgr.conn_mut(i);
            while !conn.recv(&mut self.message, now) {
                if clock::real_now() >= end || !conn.flush_and_listen(now) {
                    return conn.rconn.flush(now);
                }
                now = clock::now();
            }
            // Whoever speaks now may be the controller that the bridge was waiting for.
            if self.connmgr.is_fail_open() {
                self.run_fail_open(now);
            }
            self.carry_out(i, now);
        }
        self.connmgr.conn_mut(i).0.rconn.flush(now);
    }

    /// Does what the message in the works says, and tells everybody whom it concerns.
    fn carry_out(&mut self, i: usize, now: Instant) {
        let (conn, generation_id) = self.connmgr.conn_mut(i);
        let notice = match conn.input(now, &self.message) {
            Input::Whole(m) => {
                let handled = handlers::handle(&mut self.ofproto, conn, generation_id, &m, now);
                conn.answer(&m, handled, now)
            }
            Input::Wait => None,
            Input::Refused(m, error) => conn.answer(&m, Err(error), now),
        };
        conn.tun_table.clone_from(&self.ofproto.tun_table);
        self.tell_events(now);
        if let Some(notice) = notice {
            self.connmgr.tell(notice, now);
        }
    }

    /// Tells the connections what happened to the switch.
    fn tell_events(&mut self, now: Instant) {
        self.ofproto.tables.set_monitors(self.connmgr.n_monitors());
        self.connmgr.deliver(self.ofproto.take_events(), now);
    }

    /// Does what the fail mode asks for.
    fn run_fail_open(&mut self, now: Instant) {
        match self.connmgr.run_fail_open(now) {
            None => {}
            Some(Act::Open) => {
                self.ofproto.remove_flows(now);
                self.ofproto.set_fail_open(true, now);
            }
            Some(Act::Close) => self.ofproto.set_fail_open(false, now),
            Some(Act::Packet) => self.connmgr.send_packet_in(&bogus_packet_in(now), now),
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        self.ofproto.wait(poller);
        self.connmgr.wait(poller);
    }
}
