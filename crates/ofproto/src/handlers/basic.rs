//! Echo, features, configuration, barriers, roles, asynchronous message masks and descriptions.

use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::{
    AsyncMod, Capabilities, FragHandling, Role, RoleRequest, SwitchConfig, SwitchFeatures,
};
use ferrovs_openflow::version::Version;
use ferrovs_openflow::{Msg, OfpErr};
use ferrovs_runtime::vlog;

use super::{Handled, Request};
use crate::connmgr::{Notice, Reply};
use crate::tables::N_VISIBLE_TABLES;

/// Actions of OpenFlow 1.0, one bit each: all twelve.
const OFP10_ACTIONS: u32 = 0xfff;

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

impl Request<'_> {
    pub(super) fn echo(&mut self, data: Vec<u8>) -> Handled {
        let body = Message::EchoReply(data);
        if self.version == self.conn.version() {
            return Ok(Reply::Message(body));
        }
        let (version, xid) = (self.version, self.xid);
        let bytes = crate::codec::encode(&Msg { version, xid, body }, &self.conn.tun_table);
        Ok(Reply::Bytes(bytes))
    }

    pub(super) fn features(&mut self) -> Handled {
        let version = self.conn.version();
        let mut capabilities = Capabilities::FLOW_STATS
            | Capabilities::TABLE_STATS
            | Capabilities::PORT_STATS
            | Capabilities::QUEUE_STATS;
        if version < Version::V12 {
            capabilities |= Capabilities::ARP_MATCH_IP;
        }
        if version > Version::V10 {
            capabilities |= Capabilities::GROUP_STATS;
        }
        if version >= Version::V14 {
            capabilities |= Capabilities::BUNDLES;
        }
        let ports = if version < Version::V13 {
            self.ofproto
                .ports
                .values()
                .map(|p| p.desc.clone())
                .collect()
        } else {
            Vec::new()
        };
        Ok(Reply::Message(Message::FeaturesReply(SwitchFeatures {
            datapath_id: self.ofproto.datapath_id,
            n_buffers: 0,
            n_tables: N_VISIBLE_TABLES,
            auxiliary_id: 0,
            capabilities,
            actions: OFP10_ACTIONS,
            ports,
        })))
    }

    pub(super) fn config(&mut self) -> Handled {
        let config = SwitchConfig {
            frag: self.ofproto.frag,
            invalid_ttl_to_controller: Some(self.conn.wants_invalid_ttl()),
            miss_send_len: self.conn.miss_send_len,
        };
        Ok(Reply::Message(Message::GetConfigReply(config)))
    }

    pub(super) fn set_config(&mut self, config: SwitchConfig) -> Handled {
        if self.conn.role != Role::Secondary && config.frag != self.ofproto.frag {
            if config.frag == FragHandling::Reassemble {
                vlog::warn_rl!(
                    RL,
                    vlog::modules::OFPROTO,
                    "{}: unsupported fragment handling mode {}",
                    self.ofproto.name,
                    config.frag.name()
                );
            } else {
                self.ofproto.frag = config.frag;
                self.ofproto.dirty = true;
            }
        }
        if let Some(wanted) = config.invalid_ttl_to_controller {
            self.conn.set_wants_invalid_ttl(wanted);
        }
        self.conn.miss_send_len = config.miss_send_len;
        Ok(Reply::None)
    }

    pub(super) fn barrier(&mut self) -> Handled {
        let reply = Message::BarrierReply;
        Ok(match self.ofproto.barrier() {
            Some(round) => Reply::After(round, reply),
            None => Reply::Message(reply),
        })
    }

    pub(super) fn role(&mut self, request: RoleRequest) -> Handled {
        if request.role != Role::NoChange {
            if let Some(id) = request.generation_id
                && matches!(request.role, Role::Primary | Role::Secondary)
            {
                // Numbers wrap around: a smaller one is one that is less than half the circle behind.
                if self
                    .generation_id
                    .is_some_and(|old| (id.wrapping_sub(old) as i64) < 0)
                {
                    return Err(OfpErr::OFPRRFC_STALE);
                }
                *self.generation_id = Some(id);
            }
            self.conn.role = request.role;
            if request.role == Role::Primary {
                self.notice = Some(Notice::Demote {
                    except: self.conn.id,
                });
            }
        }
        let reply = RoleRequest {
            role: self.conn.role,
            generation_id: *self.generation_id,
            nicira: request.nicira,
        };
        Ok(Reply::Message(Message::RoleReply(reply)))
    }

    pub(super) fn async_config(&mut self) -> Handled {
        Ok(Reply::Message(Message::GetAsyncReply(
            self.conn.async_config,
        )))
    }

    pub(super) fn set_async(&mut self, change: AsyncMod) -> Handled {
        self.conn.async_config.apply(&change);
        // Who asks for asynchronous messages on a service connection wants packets too.
        if self.conn.miss_send_len == 0 {
            self.conn.miss_send_len = 128;
        }
        Ok(Reply::None)
    }

    pub(super) fn desc(&mut self) -> Handled {
        Ok(Reply::Message(Message::DescReply(
            self.ofproto.desc.clone(),
        )))
    }
}
