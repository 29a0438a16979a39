//! What the switch does about each OpenFlow message: one module for each family.
//!
//! A handler is a function of the switch, the connection's state and the message, which it changes at once; it gives
//! the [`Reply`], or the error that answers the message. It sends nothing itself: that, and what other connections
//! must hear ([`Notice`]), is up to who runs the connections.

use std::time::Instant;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::Role;
use ferrovs_openflow::version::Version;
use ferrovs_runtime::coverage;

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
            Message::CtFlushZone(_) | Message::CtFlush(_) => self.ct_flush(),
            _ => Err(OfpErr::OFPBRC_BAD_TYPE),
        }
    }
}

impl Request<'_> {
    /// A datapath that tracks no connection has none left afterwards.
    fn ct_flush(&self) -> Handled {
        match self.ofproto.backer.features().ct_state {
            false => Ok(Reply::None),
            true => Err(OfpErr::OFPBRC_BAD_TYPE),
        }
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
