//! Bundles: messages that are kept until they are committed, all or none.
//!
//! Messages are checked by themselves as they come, and against the bridge, in their order, by the commit. Flow and
//! group mods of a bundle are one change of the tables. Packet-outs are translated in their place, by the flows and groups that the
//! messages before them made; they are sent, and port mods made, last, when nothing can fail any more.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ferrovs_openflow::message::Message;
use ferrovs_openflow::port::PortMod;
use ferrovs_openflow::switch::{BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags};
use ferrovs_openflow::version::Version;
use ferrovs_openflow::{Msg, OfpErr};
use ferrovs_packet::field::TunTable;

use super::{Done, Request, flow, group, packet_out};
use crate::tables::{Change, Criteria};
use crate::time::to_ms;
use crate::udpif::Translated;

/// Bundles that one connection may have open.
const MAX_BUNDLES: usize = 64;
/// Bytes of messages in all bundles of one connection, and of all connections.
const MAX_CONN_BYTES: usize = 512 * 1024 * 1024;
const MAX_BYTES: usize = 1024 * 1024 * 1024;
/// What a message takes besides its bytes.
const ENTRY_OVERHEAD: usize = 48;

/// Bytes in all bundles there are.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

pub struct Bundle {
    id: u32,
    flags: BundleFlags,
    closed: bool,
    used: Instant,
    /// If nothing is added for so long it is discarded: `bundle-idle-timeout` as it was at the start.
    timeout: Duration,
    /// The messages as they came, which is their smallest form; all of them could be read.
    entries: Vec<Box<[u8]>>,
    size: usize,
}

/// What a bundle does after its change of the tables.
enum Later {
    PortMod(PortMod),
    PacketOut(Box<Translated>),
}

impl Bundle {
    pub fn deadline(&self) -> Instant {
        self.used + self.timeout
    }

    pub fn is_idle(&self, now: Instant) -> bool {
        now >= self.deadline()
    }

    fn push(&mut self, message: Vec<u8>) {
        let size = message.len() + ENTRY_OVERHEAD;
        self.size += size;
        TOTAL.fetch_add(size, Relaxed);
        self.entries.push(message.into());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.size, Relaxed);
    }
}

/// Whether a message has room in the bundles of a connection that hold `held` bytes, when all together hold `total`.
fn has_room(message: usize, held: usize, total: usize) -> bool {
    let size = message + ENTRY_OVERHEAD;
    held + size <= MAX_CONN_BYTES && total + size <= MAX_BYTES
}

impl Request<'_> {
    pub(super) fn bundle_control(&mut self, ctrl: BundleCtrl) -> Done {
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
                self.commit(bundle)?;
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
        self.reply(Message::BundleControl(BundleCtrl {
            bundle_id: id,
            type_: reply_type,
            flags,
        }));
        Ok(())
    }

    fn open_bundle(&mut self, id: u32, flags: BundleFlags) -> Done {
        if self.conn.bundles.len() >= MAX_BUNDLES {
            return Err(OfpErr::OFPBFC_OUT_OF_BUNDLES);
        }
        let settings = &self.ofproto.backer.udpif.settings;
        let timeout_s = settings.bundle_idle_timeout_s.load(Relaxed);
        let bundle = Bundle {
            id,
            flags,
            closed: false,
            used: self.now,
            timeout: Duration::from_secs(timeout_s),
            entries: Vec::new(),
            size: 0,
        };
        self.conn.bundles.insert(id, bundle);
        Ok(())
    }

    pub(super) fn bundle_add(&mut self, add: BundleAdd) -> Done {
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
        let held = self.conn.bundles.values().map(|b| b.size).sum();
        let Some(bundle) = self.conn.bundles.get_mut(&add.bundle_id) else {
            return Ok(());
        };
        let wrong = if bundle.closed {
            Some(OfpErr::OFPBFC_BUNDLE_CLOSED)
        } else if bundle.flags != add.flags {
            Some(OfpErr::OFPBFC_BAD_FLAGS)
        } else if !has_room(add.msg.len(), held, TOTAL.load(Relaxed)) {
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
        Ok(())
    }

    /// Does what the messages say, or nothing.
    fn commit(&mut self, mut bundle: Bundle) -> Done {
        let now_ms = to_ms(self.now);
        let requester = self.requester();
        let (id, flags) = (bundle.id, bundle.flags);
        let version = self.conn.version();
        let tables = self.ofproto.tables.clone();
        let mut change = None;
        let mut later = Vec::new();
        let mut commands = Vec::new();
        let mut failed = None;
        let tun_table = self.ofproto.tun_table.clone();
        for bytes in std::mem::take(&mut bundle.entries) {
            let body = crate::codec::decode(&bytes, &tun_table).map(|msg| msg.body);
            let result = match body {
                Err(error) => Err(error),
                Ok(Message::FlowMod { mut flow_mod, .. }) => {
                    commands.push(flow_mod.command);
                    let change = change.get_or_insert_with(|| tables.change(requester, now_ms));
                    let finds = |criteria: &Criteria| !change.collect(criteria).is_empty();
                    flow::prepare(self.ofproto, self.conn, &mut flow_mod, finds)
                        .and_then(|()| change.flow_mod(*flow_mod))
                }
                Ok(Message::GroupMod(m)) => {
                    let change = change.get_or_insert_with(|| tables.change(requester, now_ms));
                    group::apply(self.ofproto, &m, change, version, now_ms)
                }
                Ok(Message::PortMod(m)) => {
                    let known = self.ofproto.ports.contains_key(&m.port_no);
                    later.push(Later::PortMod(m));
                    if known {
                        Ok(())
                    } else {
                        Err(OfpErr::OFPPMFC_BAD_PORT)
                    }
                }
                Ok(Message::PacketOut(po)) => {
                    let at = change.as_ref().map(Change::version);
                    packet_out::prepare(self.ofproto, *po, version)
                        .and_then(|po| packet_out::translate(self.ofproto, po, at))
                        .map(|po| later.push(Later::PacketOut(Box::new(po))))
                }
                Ok(_) => Err(OfpErr::OFPBFC_MSG_UNSUP),
            };
            if let Err(error) = result {
                failed = Some((bytes, error));
                break;
            }
        }
        if let Some((bytes, error)) = failed {
            drop(change);
            let add = BundleAdd {
                bundle_id: id,
                flags,
                msg: bytes.into(),
            };
            super::refuse(
                self.conn,
                &add_bytes(add, version, &tun_table),
                error,
                self.now,
            );
            return Err(OfpErr::OFPBFC_MSG_FAILED);
        }
        for command in commands {
            self.conn.flow_mods.count(command, self.now);
        }
        if let Some(change) = change {
            change.commit();
        }
        for message in later {
            // These were checked as far as they can be; what fails now must not undo the rest.
            let _ = match message {
                Later::PortMod(m) => self.ofproto.port_mod(&m),
                Later::PacketOut(po) => {
                    self.ofproto.backer.udpif.send(*po);
                    Ok(())
                }
            };
        }
        Ok(())
    }
}

/// The message that brought another into a bundle.
fn add_bytes(add: BundleAdd, version: Version, tun: &TunTable) -> Vec<u8> {
    let xid = add.msg.get(4..8).and_then(|b| b.try_into().ok());
    let xid = xid.map_or(0, u32::from_be_bytes);
    let body = Message::BundleAdd(add);
    crate::codec::encode(&Msg { version, xid, body }, tun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_share_one_limit_for_a_connection_and_one_for_all() {
        assert!(has_room(100, 0, 0));
        assert!(!has_room(100, MAX_CONN_BYTES - 100, 0));
        assert!(!has_room(100, 0, MAX_BYTES - 100));
    }
}
