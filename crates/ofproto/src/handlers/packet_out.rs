//! Packet-out.

use ferrovs_runtime::coverage;
use std::sync::Arc;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::Action;
use ferrovs_openflow::packet_in::{NO_BUFFER, PacketOut};
use ferrovs_openflow::version::Version;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::OfPort;

use super::check::Check;
use super::{Done, Handled, Request};
use crate::connmgr::Reply;
use crate::connmgr::packet_in::restore_metadata;
use crate::ofproto::{MAX_PORTS, Ofproto};
use crate::udpif::Translated;
use crate::xlate::snapshot::XBridge;

/// A packet-out that may be sent.
pub(crate) struct Prepared {
    packet: Packet,
    flow: Flow,
    actions: Vec<Action>,
}

/// Checks a packet-out against the bridge as it is.
pub(crate) fn prepare(
    ofproto: &Ofproto,
    mut po: PacketOut,
    version: Version,
) -> Result<Prepared, OfpErr> {
    let in_port = po.in_port();
    let special = matches!(in_port, OfPort::LOCAL | OfPort::NONE | OfPort::CONTROLLER);
    if in_port.0 >= MAX_PORTS && !special {
        return Err(OfpErr::OFPBRC_BAD_PORT);
    }
    if po.buffer_id != NO_BUFFER {
        return Err(OfpErr::OFPBRC_BUFFER_UNKNOWN);
    }
    let mut packet = Packet::from_slice(&po.packet);
    let mut key = MiniflowBuf::new();
    key.extract(&mut packet);
    let mut flow = key.expand();
    restore_metadata(&mut flow, &po.flow_metadata);
    flow.in_port = u32::from(in_port.0);
    let known = Match {
        flow,
        ..Match::default()
    };
    let check = Check {
        ofproto,
        version,
        table_id: 0,
        references: true,
    };
    check.actions(&mut po.actions, &known)?;
    Ok(Prepared {
        packet,
        flow,
        actions: po.actions,
    })
}

/// The bridge as translations see it; it must have been published.
fn published(ofproto: &Ofproto) -> Result<Arc<XBridge>, OfpErr> {
    let snapshot = ofproto.backer.snapshot.load();
    let bridge = snapshot.bridges.get(&ofproto.id);
    bridge.cloned().ok_or(OfpErr::OFPBRC_EPERM)
}

/// Sends the packet through its actions.
pub(crate) fn execute(ofproto: &Ofproto, po: Prepared) -> Done {
    let bridge = &published(ofproto)?;
    let udpif = &ofproto.backer.udpif;
    let result = udpif.packet_out(bridge, po.packet, &po.flow, &po.actions);
    // Open vSwitch has no better word for a packet that its tables send in circles.
    result.map_err(|_| OfpErr::OFPFMFC_UNKNOWN)
}

/// What becomes of the packet if the change that makes `version` of the tables is committed, as far as it has come.
pub(crate) fn translate(
    ofproto: &Ofproto,
    po: Prepared,
    version: Option<u64>,
) -> Result<Translated, OfpErr> {
    let bridge = &published(ofproto)?;
    let udpif = &ofproto.backer.udpif;
    let translated = udpif.prepare(bridge, po.packet, &po.flow, &po.actions, version);
    translated.map_err(|_| OfpErr::OFPFMFC_UNKNOWN)
}

impl Request<'_> {
    pub(super) fn packet_out(&mut self, po: PacketOut) -> Handled {
        coverage::OFPROTO_PACKET_OUT.inc();
        let prepared = prepare(self.ofproto, po, self.conn.version())?;
        execute(self.ofproto, prepared)?;
        Ok(Reply::None)
    }
}
