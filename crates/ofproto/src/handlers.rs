//! What the switch does about each OpenFlow message: one module for each family.
//!
//! A handler either answers, or gives the error that [`handle`] sends with the message's beginning. Handlers
//! change the bridge at once; what other connections must hear goes through
//! [`notices`](crate::ofproto::Ofproto::notices).

use std::time::Instant;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::Role;
use ferrovs_openflow::version::Version;
use ferrovs_runtime::{coverage, vlog};

use crate::connmgr::OfConn;
use crate::ofproto::Ofproto;

mod basic;
pub mod bundle;
pub(crate) mod check;
mod flow;
pub mod flow_events;
mod group;
mod meter;
pub mod monitor;
mod packet_out;
mod port;
mod table;
mod table_features;
mod tlv;

static RL: vlog::RateLimit = vlog::RateLimit::new(10, 10);

const OFPT_ERROR: u8 = 1;

/// A request under way.
pub(crate) struct Request<'a> {
    pub ofproto: &'a mut Ofproto,
    pub conn: &'a mut OfConn,
    pub generation_id: &'a mut Option<u64>,
    pub xid: u32,
    /// The message's version, which for echoes may differ from the connection's.
    pub version: Version,
    pub now: Instant,
}

impl Request<'_> {
    fn reply(&mut self, body: Message) {
        self.conn.reply(self.xid, body, self.now);
    }
}

type Done = Result<(), OfpErr>;

/// Does what the message `bytes` says.
pub fn handle(
    ofproto: &mut Ofproto,
    conn: &mut OfConn,
    generation_id: &mut Option<u64>,
    bytes: &[u8],
    now: Instant,
) {
    coverage::OFPROTO_RECV_OPENFLOW.inc();
    let result = crate::codec::decode(bytes, &ofproto.tun_table).and_then(|msg| {
        let mut request = Request {
            ofproto,
            conn: &mut *conn,
            generation_id,
            xid: msg.xid,
            version: msg.version,
            now,
        };
        request.dispatch(msg.body)
    });
    if let Err(error) = result
        && bytes.get(1) != Some(&OFPT_ERROR)
    {
        refuse(conn, bytes, error, now);
    }
}

/// Answers a message with an error, and tells the log.
pub fn refuse(conn: &mut OfConn, bytes: &[u8], error: OfpErr, now: Instant) {
    vlog::info_rl!(
        RL,
        vlog::modules::CONNMGR,
        "{}: sending {} error reply to {} message",
        conn.rconn.name(),
        error.name(),
        crate::codec::name(bytes)
    );
    conn.reply_error(bytes, error, now);
}

impl Request<'_> {
    fn dispatch(&mut self, body: Message) -> Done {
        if self.conn.role == Role::Secondary && changes_state(&body) {
            return Err(OfpErr::OFPBRC_IS_SECONDARY);
        }
        match body {
            Message::EchoRequest(data) => self.echo(data),
            Message::EchoReply(_) | Message::Error(_) | Message::Hello { .. } => Ok(()),
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
                Ok(())
            }
            Message::FlowModTableId(on) => {
                self.conn.flow_mod_table_id = on;
                Ok(())
            }
            Message::SetPacketInFormat(format) => {
                self.conn.packet_in_format = format;
                Ok(())
            }
            Message::SetControllerId(id) => {
                self.conn.controller_id = id;
                Ok(())
            }
            Message::FlowAge => Ok(()),

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
    fn ct_flush(&self) -> Done {
        match self.ofproto.backer.features().ct_state {
            false => Ok(()),
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
