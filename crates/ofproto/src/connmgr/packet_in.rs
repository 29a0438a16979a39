//! Packets for controllers: how each connection gets its share.

use std::time::Instant;

use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::packet_in::{NO_BUFFER, PacketIn, PacketInReason};
use ferrovs_openflow::switch::AsyncType;
use ferrovs_openflow::version::Version;
use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::{
    CS_ESTABLISHED, CS_NEW, CS_REPLY_DIR, FLOW_TNL_PUB_F_MASK, Flow, Match, TUN_METADATA_BYTES,
};
use ferrovs_packet::types::OfPort;

use super::OfConn;
use crate::xlate::snapshot::AsyncPacketIn;

/// The reason that a connection of `version` is told: versions before 1.4 know fewer.
fn reason_for(reason: PacketInReason, version: Version) -> PacketInReason {
    match reason {
        PacketInReason::ExplicitMiss if version < Version::V13 => PacketInReason::Action,
        PacketInReason::ExplicitMiss | PacketInReason::ImplicitMiss => PacketInReason::NoMatch,
        PacketInReason::ActionSet | PacketInReason::Group | PacketInReason::PacketOut
            if version < Version::V14 =>
        {
            PacketInReason::Action
        }
        other => other,
    }
}

/// Fields of the packet, or of the tunnel that it came through, that few packets have.
const ONLY_IF_SET: [FieldId; 7] = [
    FieldId::PacketType,
    FieldId::TunErspanVer,
    FieldId::TunErspanIdx,
    FieldId::TunErspanDir,
    FieldId::TunErspanHwid,
    FieldId::TunGtpuFlags,
    FieldId::TunGtpuMsgtype,
];

/// What a packet-in tells of the packet's key beyond its bytes: everything that is not zero.
fn metadata_of(flow: &Flow) -> Match {
    let mut m = Match::default();
    m.flow.in_port = flow.in_port;
    m.wc.masks.in_port = u32::MAX;
    for (i, &reg) in flow.regs.iter().enumerate() {
        m.flow.regs[i] = reg;
        m.wc.masks.regs[i] = if reg != 0 { u32::MAX } else { 0 };
    }
    let zero = Flow::default();
    macro_rules! copy {
        ($($member:ident).+, $exact:expr) => {
            m.wc.masks.$($member).+ = $exact;
            m.flow.$($member).+ = flow.$($member).+;
            if m.flow.$($member).+ == zero.$($member).+ {
                m.wc.masks.$($member).+ = zero.$($member).+;
            }
        };
    }
    copy!(tunnel.tun_id, u64::MAX.into());
    copy!(tunnel.ip_src, u32::MAX.into());
    copy!(tunnel.ip_dst, u32::MAX.into());
    copy!(tunnel.ipv6_src, [0xff; 16]);
    copy!(tunnel.ipv6_dst, [0xff; 16]);
    copy!(tunnel.gbp_id, u16::MAX.into());
    copy!(tunnel.gbp_flags, u8::MAX);
    for id in ONLY_IF_SET {
        let field = id.field();
        if !field.is_zero(flow) {
            field.set_match_exact(&field.value(flow), &mut m);
        }
    }
    let shown = flow.tunnel.flags & FLOW_TNL_PUB_F_MASK;
    (m.flow.tunnel.flags, m.wc.masks.tunnel.flags) = (shown, shown);
    let options = flow.tunnel.metadata.present;
    if options != 0 {
        m.flow.tunnel.metadata = flow.tunnel.metadata;
        m.wc.masks.tunnel.metadata.present = options;
        m.wc.masks.tunnel.metadata.opts = [0xff; TUN_METADATA_BYTES];
    }
    copy!(metadata, u64::MAX.into());
    copy!(pkt_mark, u32::MAX);
    copy!(ct_state, u8::MAX);
    copy!(ct_zone, u16::MAX);
    copy!(ct_mark, u32::MAX);
    copy!(ct_label, [0xff; 16]);
    if flow.ct_state != 0 {
        // Without it what follows could not be understood.
        m.flow.dl_type = flow.dl_type;
        m.wc.masks.dl_type = u16::MAX.into();
    }
    if flow.ct_state & (CS_NEW | CS_ESTABLISHED | CS_REPLY_DIR) != 0 && flow.ct_nw_proto != 0 {
        copy!(ct_nw_proto, u8::MAX);
        // Ports may be 0: of ICMP they are type and code.
        (m.flow.ct_tp_src, m.flow.ct_tp_dst) = (flow.ct_tp_src, flow.ct_tp_dst);
        m.wc.masks.ct_tp_src = u16::MAX.into();
        m.wc.masks.ct_tp_dst = u16::MAX.into();
        copy!(ct_nw_src, u32::MAX.into());
        copy!(ct_nw_dst, u32::MAX.into());
        copy!(ct_ipv6_src, [0xff; 16]);
        copy!(ct_ipv6_dst, [0xff; 16]);
    }
    m
}

/// Puts what a controller says about a packet into the key of its bytes.
pub(crate) fn restore_metadata(flow: &mut Flow, metadata: &Match) {
    let words = metadata.flow.words().iter().zip(metadata.wc.masks.words());
    for (word, (value, mask)) in flow.words_mut().iter_mut().zip(words) {
        *word = *word & !mask | value & mask;
    }
}

impl OfConn {
    pub(super) fn wants_packet_in(&self, p: &AsyncPacketIn) -> bool {
        let Some(reason) = PacketInReason::from_wire(p.reason) else {
            return false;
        };
        // From 1.3 on the default for a miss is to drop.
        if reason == PacketInReason::ImplicitMiss && self.version() >= Version::V13 {
            return false;
        }
        p.controller_id == self.controller_id
            && self.wants(
                AsyncType::PacketIn,
                reason_for(reason, self.version()) as u32,
            )
    }

    pub(super) fn schedule_packet_in(&mut self, p: &AsyncPacketIn, now: Instant) {
        let Some(reason) = PacketInReason::from_wire(p.reason) else {
            return;
        };
        let version = self.version();
        let is_miss = reason_for(reason, Version::V14) == PacketInReason::NoMatch;
        let packet_in = PacketIn {
            // Packets are not buffered here, and so never cut either.
            packet: p.data.clone(),
            total_len: p.data.len(),
            buffer_id: NO_BUFFER,
            reason: reason_for(reason, version),
            table_id: p.table_id,
            cookie: p.cookie,
            flow_metadata: metadata_of(&p.flow),
            userdata: p.userdata.clone(),
            continuation: None,
        };
        let body = Message::PacketIn {
            packet_in: Box::new(packet_in),
            format: self.packet_in_format,
        };
        let bytes = crate::codec::encode(
            &Msg {
                version,
                xid: 0,
                body,
            },
            &self.tun_table,
        );
        let limit = self.packet_in_limit();
        let schedule = &mut self.schedules[usize::from(!is_miss)];
        let port = OfPort(p.flow.in_port as u16);
        if let Some(bytes) = schedule.push(port, bytes, now) {
            self.rconn.send_packet_in(bytes, limit, now);
        }
    }

    /// Sends packet-ins whose time has come.
    pub(super) fn run_schedules(&mut self, now: Instant) {
        let limit = self.packet_in_limit();
        for schedule in &mut self.schedules {
            while let Some(bytes) = schedule.pop(now) {
                self.rconn.send_packet_in(bytes, limit, now);
            }
        }
    }
}
