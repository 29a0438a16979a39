//! Bundles: messages that are kept until they are committed, all or none.
//!
//! Messages are checked by themselves as they come, and against the bridge, in their order, by the commit. Flow and
//! group mods of a bundle are one change of the tables. Packet-outs are translated in their place, by the flows and groups that the
//! messages before them made; they are sent, and port mods made, last, when nothing can fail any more.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::port::PortMod;
use ferrovs_openflow::switch::{BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags};
use ferrovs_openflow::version::Version;
use ferrovs_openflow::{Msg, OfpErr};
use ferrovs_packet::field::TunTable;

use super::{Done, Handled, Request, flow, group, packet_out};
use crate::connmgr::bundle::{Bundle, MAX_BUNDLES, has_room};
use crate::connmgr::{OfConn, Reply};
use crate::ofproto::Ofproto;
use crate::tables::{Change, Criteria, Requester, Tables};
use crate::time::to_ms;
use crate::udpif::Translated;

/// What a bundle does after its change of the tables.
enum Later {
    PortMod(PortMod),
    PacketOut(Box<Translated>),
}

impl Request<'_> {
    pub(super) fn bundle_control(&mut self, ctrl: BundleCtrl) -> Handled {
        let id = ctrl.bundle_id;
        let reply_type = match ctrl.type_ {
            BundleCtrlType::OpenRequest => {
                if self.conn.bundles.remove(&id).is_some() {
                    return Err(OfpErr::OFPBFC_BAD_ID);
                }
                self.open_bundle(id, ctrl.flags)?;
                BundleCtrlType::OpenReply
            }
            BundleCtrlType::CloseRequest => {
                let bundle = self
                    .conn
                    .bundles
                    .get_mut(&id)
                    .ok_or(OfpErr::OFPBFC_BAD_ID)?;
                if bundle.closed || bundle.flags != ctrl.flags {
                    let closed = bundle.closed;
                    self.conn.bundles.remove(&id);
                    return Err(if closed {
                        OfpErr::OFPBFC_BUNDLE_CLOSED
                    } else {
                        OfpErr::OFPBFC_BAD_FLAGS
                    });
                }
                bundle.closed = true;
                bundle.used = self.now;
                BundleCtrlType::CloseReply
            }
            BundleCtrlType::CommitRequest => {
                let bundle = self.conn.bundles.remove(&id).ok_or(OfpErr::OFPBFC_BAD_ID)?;
                if bundle.flags != ctrl.flags {
                    return Err(OfpErr::OFPBFC_BAD_FLAGS);
                }
                if let Some((message, error)) = self.commit(bundle) {
                    return Ok(Reply::BundleFailed(message, error));
                }
                BundleCtrlType::CommitReply
            }
            BundleCtrlType::DiscardRequest => {
                self.conn.bundles.remove(&id).ok_or(OfpErr::OFPBFC_BAD_ID)?;
                BundleCtrlType::DiscardReply
            }
            _ => return Err(OfpErr::OFPBFC_BAD_TYPE),
        };
        // Replies have no flags.
        let flags = BundleFlags::empty();
        Ok(Reply::Message(Message::BundleControl(BundleCtrl {
            bundle_id: id,
            type_: reply_type,
            flags,
        })))
    }

    fn open_bundle(&mut self, id: u32, flags: BundleFlags) -> Done {
        if self.conn.bundles.len() >= MAX_BUNDLES {
            return Err(OfpErr::OFPBFC_OUT_OF_BUNDLES);
        }
        let settings = &self.ofproto.backer.udpif.settings;
        let timeout_s = settings.bundle_idle_timeout_s.load(Relaxed);
        let bundle = Bundle::new(id, flags, Duration::from_secs(timeout_s), self.now);
        self.conn.bundles.insert(id, bundle);
        Ok(())
    }

    pub(super) fn bundle_add(&mut self, add: BundleAdd) -> Handled {
        let mut msg = crate::codec::decode(&add.msg, &self.ofproto.tun_table)?;
        if msg.version != self.conn.version() {
            return Err(OfpErr::OFPBFC_BAD_VERSION);
        }
        if msg.xid != self.xid {
            return Err(OfpErr::OFPBFC_MSG_BAD_XID);
        }
        let fits = matches!(
            msg.body,
            Message::FlowMod { .. }
                | Message::GroupMod(_)
                | Message::PortMod(_)
                | Message::PacketOut(_)
        );
        if !fits {
            return Err(OfpErr::OFPBFC_MSG_UNSUP);
        }
        if let Message::FlowMod { flow_mod, .. } = &mut msg.body {
            flow::check_alone(self.ofproto, self.conn, flow_mod)?;
        }
        if !self.conn.bundles.contains_key(&add.bundle_id) {
            self.open_bundle(add.bundle_id, add.flags)?;
        }
        let held = self.conn.bundles.values().map(Bundle::size).sum();
        let Some(bundle) = self.conn.bundles.get_mut(&add.bundle_id) else {
            return Ok(Reply::None);
        };
        let wrong = if bundle.closed {
            Some(OfpErr::OFPBFC_BUNDLE_CLOSED)
        } else if bundle.flags != add.flags {
            Some(OfpErr::OFPBFC_BAD_FLAGS)
        } else if !has_room(add.msg.len(), held) {
            Some(OfpErr::OFPBFC_MSG_TOO_MANY)
        } else {
            None
        };
        if let Some(error) = wrong {
            self.conn.bundles.remove(&add.bundle_id);
            return Err(error);
        }
        bundle.used = self.now;
        bundle.push(add.msg);
        Ok(Reply::None)
    }

    /// Does what the messages say, or nothing: then returns the message that brought the first that failed, and why.
    fn commit(&mut self, mut bundle: Bundle) -> Option<(Vec<u8>, OfpErr)> {
        let tables = self.ofproto.tables.clone();
        let mut plan = Plan {
            tables: &tables,
            requester: self.requester(),
            now_ms: to_ms(self.now),
            change: None,
            commands: Vec::new(),
            later: Vec::new(),
        };
        let (version, tun_table) = (self.conn.version(), self.ofproto.tun_table.clone());
        for bytes in bundle.take_entries() {
            let body = crate::codec::decode(&bytes, &tun_table).map(|msg| msg.body);
            let added = body.and_then(|body| plan.add(self.ofproto, self.conn, body));
            if let Err(error) = added {
                let add = BundleAdd {
                    bundle_id: bundle.id,
                    flags: bundle.flags,
                    msg: bytes.into(),
                };
                return Some((add_bytes(add, version, &tun_table), error));
            }
        }
        for command in plan.commands {
            self.conn.flow_mods.count(command, self.now);
        }
        if let Some(change) = plan.change {
            change.commit();
        }
        for message in plan.later {
            // These were checked as far as they can be; what fails now must not undo the rest.
            let _ = match message {
                Later::PortMod(m) => self.ofproto.port_mod(&m),
                Later::PacketOut(po) => {
                    self.ofproto.backer.udpif.send(*po);
                    Ok(())
                }
            };
        }
        None
    }
}

/// What a commit comes to: given up, it leaves no trace.
struct Plan<'a> {
    tables: &'a Tables,
    requester: Requester,
    now_ms: i64,
    change: Option<Change<'a>>,
    /// Of the flow mods, for the log.
    commands: Vec<FlowModCommand>,
    later: Vec<Later>,
}

impl<'a> Plan<'a> {
    fn change(&mut self) -> &mut Change<'a> {
        let (tables, requester, now_ms) = (self.tables, self.requester, self.now_ms);
        (self.change).get_or_insert_with(|| tables.change(requester, now_ms))
    }

    /// Adds what a message of the bundle does, after those before it.
    fn add(&mut self, ofproto: &Ofproto, conn: &OfConn, body: Message) -> Done {
        let version = conn.version();
        match body {
            Message::FlowMod { mut flow_mod, .. } => {
                self.commands.push(flow_mod.command);
                let change = self.change();
                let finds = |criteria: &Criteria| !change.collect(criteria).is_empty();
                flow::prepare(ofproto, conn, &mut flow_mod, finds)?;
                change.flow_mod(*flow_mod)
            }
            Message::GroupMod(m) => {
                let now_ms = self.now_ms;
                group::apply(ofproto, &m, self.change(), version, now_ms)
            }
            Message::PortMod(m) => {
                let known = ofproto.ports.contains_key(&m.port_no);
                self.later.push(Later::PortMod(m));
                match known {
                    true => Ok(()),
                    false => Err(OfpErr::OFPPMFC_BAD_PORT),
                }
            }
            Message::PacketOut(po) => {
                let at = self.change.as_ref().map(Change::version);
                let po = packet_out::prepare(ofproto, *po, version)?;
                let po = packet_out::translate(ofproto, po, at)?;
                self.later.push(Later::PacketOut(Box::new(po)));
                Ok(())
            }
            _ => Err(OfpErr::OFPBFC_MSG_UNSUP),
        }
    }
}

/// The message that brought another into a bundle.
fn add_bytes(add: BundleAdd, version: Version, tun: &TunTable) -> Vec<u8> {
    let xid = add.msg.get(4..8).and_then(|b| b.try_into().ok());
    let xid = xid.map_or(0, u32::from_be_bytes);
    let body = Message::BundleAdd(add);
    crate::codec::encode(&Msg { version, xid, body }, tun)
}
