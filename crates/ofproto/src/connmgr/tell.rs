//! What connections are told without having asked: what happened to the switch, and what other connections did.

use std::time::Instant;

use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::port::{PortDesc, PortStatus};
use ferrovs_openflow::switch::{AsyncType, Role, RoleReason, RoleStatus};
use ferrovs_openflow::version::Version;

use super::{ConnMgr, Notice, OfConn, flow_events};
use crate::ofproto::{Events, PortEvent};
use crate::xlate::snapshot::AsyncPacketIn;

impl ConnMgr {
    /// Flow monitors of all connections.
    pub fn n_monitors(&self) -> usize {
        self.conns.iter().map(|c| c.monitors.len()).sum()
    }

    /// Tells what happened to the switch.
    pub fn deliver(&mut self, events: Events, now: Instant) {
        for change in events.flows {
            flow_events::deliver(&mut self.conns, &change, now);
        }
        for event in events.ports {
            for conn in &mut self.conns {
                tell_port(conn, &event, now);
            }
        }
    }

    /// Tells what one connection did to the others.
    pub fn tell(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Demote { except } => self.demote(except, now),
            Notice::Request { from, request } => {
                let reason = u32::from(matches!(request, Message::MeterMod(_)));
                for conn in &mut self.conns {
                    if conn.id != from && conn.wants(AsyncType::RequestForward, reason) {
                        let request = Box::new(request.clone());
                        conn.send(Message::RequestForward { xid: 0, request }, now);
                    }
                }
            }
        }
    }

    /// Makes every primary connection but one secondary.
    fn demote(&mut self, except: u64, now: Instant) {
        let generation_id = self.generation_id.unwrap_or(u64::MAX);
        for conn in &mut self.conns {
            if conn.id != except && conn.role == Role::Primary {
                conn.role = Role::Secondary;
                // Whoever loses its role is told, whatever else it wants to hear.
                if conn.version() >= Version::V13 {
                    let status = RoleStatus {
                        role: Role::Secondary,
                        generation_id,
                        reason: RoleReason::PrimaryRequest,
                    };
                    conn.send(Message::RoleStatus(status), now);
                }
            }
        }
    }

    /// Hands packets to those controllers that want them, and sends those whose time has come.
    pub fn send_packet_ins(
        &mut self,
        packet_ins: impl Iterator<Item = AsyncPacketIn>,
        now: Instant,
    ) {
        packet_ins.for_each(|packet_in| self.send_packet_in(&packet_in, now));
        self.conns.iter_mut().for_each(|c| c.run_schedules(now));
    }

    pub fn send_packet_in(&mut self, packet_in: &AsyncPacketIn, now: Instant) {
        for conn in &mut self.conns {
            if conn.wants_packet_in(packet_in) {
                conn.schedule_packet_in(packet_in, now);
            }
        }
    }

    /// Whether a packet that meets no flow goes to some controller when its table does not say.
    pub fn wants_misses(&self) -> bool {
        self.conns.iter().any(|c| {
            c.rconn.is_connected() && c.version() < Version::V13 && c.wants(AsyncType::PacketIn, 0)
        })
    }
}

fn tell_port(conn: &mut OfConn, event: &PortEvent, now: Instant) {
    let PortEvent { status, old } = event;
    if !conn.wants(AsyncType::PortStatus, status.reason as u32) {
        return;
    }
    // A change that the connection's version cannot say is no news to it.
    let say = |desc: &PortDesc| {
        let body = Message::PortStatus(PortStatus {
            reason: status.reason,
            desc: desc.clone(),
        });
        let (version, xid) = (conn.version(), 0);
        crate::codec::encode(&Msg { version, xid, body }, &conn.tun_table)
    };
    if (old.as_ref()).is_some_and(|old| say(old) == say(&status.desc)) {
        return;
    }
    conn.send(Message::PortStatus(status.clone()), now);
}
