//! What the switch does about each OpenFlow message: one module for each family.
//!
//! A handler is a function of the switch, the connection's state and the message, which it changes at once; it gives
//! the [`Reply`], or the error that answers the message. It sends nothing itself: that, and what other connections
//! must hear ([`Notice`]), is up to who runs the connections.

use std::time::Instant;

use ferrovs_datapath::action::Masked;
use ferrovs_datapath::conntrack::{CtFilter, CtPattern};
use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::{CtFlush, CtTuple, Role};
use ferrovs_openflow::version::Version;
use ferrovs_runtime::{coverage, vlog};

use crate::connmgr::{Answer, Notice, OfConn, Reply};
use crate::ofproto::Ofproto;

mod basic;
mod bundle;
pub(crate) mod check;
mod flow;
mod group;
mod meter;
mod monitor;
mod packet_out;
mod port;
mod table;
mod table_features;
mod tlv;

/// A request under way.
pub(crate) struct Request<'a> {
    pub ofproto: &'a mut Ofproto,
    pub conn: &'a mut OfConn,
    pub generation_id: &'a mut Option<u64>,
    pub notice: Option<Notice>,
    pub xid: u32,
    /// The message's version, which for echoes may differ from the connection's.
    pub version: Version,
    pub now: Instant,
}

/// How a message was handled.
type Handled = Result<Reply, OfpErr>;

/// A check, or a part of the work.
type Done = Result<(), OfpErr>;

/// Does what the message `bytes` says. `generation_id` is that of the last role request that had one, on any
/// connection.
pub fn handle(
    ofproto: &mut Ofproto,
    conn: &mut OfConn,
    generation_id: &mut Option<u64>,
    bytes: &[u8],
    now: Instant,
) -> Result<Answer, OfpErr> {
    coverage::OFPROTO_RECV_OPENFLOW.inc();
    let msg = crate::codec::decode(bytes, &ofproto.tun_table)?;
    let mut request = Request {
        ofproto,
        conn,
        generation_id,
        notice: None,
        xid: msg.xid,
        version: msg.version,
        now,
    };
    let reply = request.dispatch(msg.body)?;
    let notice = request.notice;
    Ok(Answer { reply, notice })
}

impl Request<'_> {
    fn dispatch(&mut self, body: Message) -> Handled {
        if self.conn.role == Role::Secondary && changes_state(&body) {
            return Err(OfpErr::OFPBRC_IS_SECONDARY);
        }
        match body {
            Message::EchoRequest(data) => self.echo(data),
            Message::EchoReply(_) | Message::Error(_) | Message::Hello { .. } => Ok(Reply::None),
            Message::FeaturesRequest => self.features(),
            Message::GetConfigRequest => self.config(),
            Message::SetConfig(config) => self.set_config(config),
            Message::BarrierRequest => self.barrier(),
            Message::RoleRequest(request) => self.role(request),
            Message::GetAsyncRequest => self.async_config(),
            Message::SetAsync { change, .. } => self.set_async(change),
            Message::DescRequest => self.desc(),
            Message::SetFlowFormat { nxm } => {
                self.conn.nxm = nxm;
                Ok(Reply::None)
            }
            Message::FlowModTableId(on) => {
                self.conn.flow_mod_table_id = on;
                Ok(Reply::None)
            }
            Message::SetPacketInFormat(format) => {
                self.conn.packet_in_format = format;
                Ok(Reply::None)
            }
            Message::SetControllerId(id) => {
                self.conn.controller_id = id;
                Ok(Reply::None)
            }
            Message::FlowAge => Ok(Reply::None),

            Message::FlowMod { flow_mod, .. } => self.flow_mod(*flow_mod),
            Message::FlowStatsRequest { request, nxm } => self.flow_stats(*request, nxm),
            Message::PacketOut(packet_out) => self.packet_out(*packet_out),

            Message::PortMod(m) => self.port_mod(m),
            Message::PortDescRequest { port } => self.port_desc(port),
            Message::PortStatsRequest { port } => self.port_stats(port),
            Message::QueueGetConfigRequest(request) => self.queue_config(request),
            Message::QueueStatsRequest(request) => self.queue_stats(request),

            Message::TableMod(m) => self.table_mod(m),
            Message::TableStatsRequest => self.table_stats(),
            Message::TableDescRequest => self.table_desc(),
            Message::TableFeaturesRequest { tables, .. } => self.table_features(tables),

            Message::GroupMod(m) => self.group_mod(m),
            Message::GroupStatsRequest { group } => self.group_stats(group),
            Message::GroupDescRequest { group } => self.group_desc(group),
            Message::GroupFeaturesRequest => self.group_features(),

            Message::MeterMod(m) => self.meter_mod(m),
            Message::MeterStatsRequest { meter } => self.meter_stats(meter),
            Message::MeterConfigRequest { meter } => self.meter_config(meter),
            Message::MeterFeaturesRequest => self.meter_features(),

            Message::BundleControl(ctrl) => self.bundle_control(ctrl),
            Message::BundleAdd(add) => self.bundle_add(add),
            Message::FlowMonitorRequest(requests) => self.flow_monitor(requests),
            Message::FlowMonitorCancel { id } => self.flow_monitor_cancel(id),

            Message::IpfixBridgeRequest | Message::IpfixFlowRequest => {
                Err(OfpErr::NXST_NOT_CONFIGURED)
            }
            Message::TlvTableMod(m) => self.tlv_table_mod(m),
            Message::TlvTableRequest => self.tlv_table(),
            Message::CtFlushZone(zone) => self.ct_flush_zone(zone),
            Message::CtFlush(f) => self.ct_flush(&f),
            _ => Err(OfpErr::OFPBRC_BAD_TYPE),
        }
    }
}

impl Request<'_> {
    fn ct_flush_zone(&self, zone: u16) -> Handled {
        let filter = CtFilter {
            zone: Some(zone),
            ..CtFilter::default()
        };
        Ok(self.forget(&filter))
    }

    fn ct_flush(&self, f: &CtFlush) -> Handled {
        Ok(self.forget(&filter_of(f)))
    }

    /// Forgets connections of the datapath; one that tracks none has none left afterwards.
    fn forget(&self, filter: &CtFilter) -> Reply {
        let dpif = &self.ofproto.backer.dpif;
        if let Some(conntrack) = dpif.conntrack() {
            let (kind, name) = (dpif.kind(), dpif.name());
            vlog::dbg!(vlog::modules::CT_DPIF, "{kind}@{name}: ct_flush: {filter}");
            conntrack.flush(filter);
        }
        Reply::None
    }
}

/// The connections that a message wants forgotten. Parts of a tuple that are zero say nothing.
fn filter_of(f: &CtFlush) -> CtFilter {
    let pattern = |t: &CtTuple| {
        let some = |n: u16| (n != 0).then_some(n);
        let icmp =
            matches!(f.ip_proto, 1 | 58) && (t.icmp_id, t.icmp_type, t.icmp_code) != (0, 0, 0);
        CtPattern {
            src: t.src.filter(|a| !a.is_unspecified()),
            dst: t.dst.filter(|a| !a.is_unspecified()),
            proto: (f.ip_proto != 0).then_some(f.ip_proto),
            tp_src: some(t.src_port),
            tp_dst: some(t.dst_port),
            icmp_id: icmp.then_some(t.icmp_id),
            icmp_type: icmp.then_some(t.icmp_type),
            icmp_code: icmp.then_some(t.icmp_code),
        }
    };
    CtFilter {
        zone: f.zone,
        mark: (f.mark_mask != 0).then_some(Masked {
            value: f.mark,
            mask: f.mark_mask,
        }),
        labels: (f.labels_mask != 0).then_some(Masked {
            value: f.labels.to_be_bytes(),
            mask: f.labels_mask.to_be_bytes(),
        }),
        orig: pattern(&f.orig),
        reply: pattern(&f.reply),
    }
}

/// Whether a secondary controller may not send the message.
fn changes_state(body: &Message) -> bool {
    matches!(
        body,
        Message::FlowMod { .. }
            | Message::GroupMod(_)
            | Message::MeterMod(_)
            | Message::PortMod(_)
            | Message::TableMod(_)
            | Message::PacketOut(_)
            | Message::BundleControl(_)
            | Message::BundleAdd(_)
            | Message::TlvTableMod(_)
    )
}

#[cfg(test)]
mod tests;
