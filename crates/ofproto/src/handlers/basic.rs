//! Echo, features, configuration, barriers, roles, asynchronous message masks and descriptions.

use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::{
    AsyncMod, Capabilities, FragHandling, Role, RoleRequest, SwitchConfig, SwitchFeatures,
};
use ferrovs_openflow::version::Version;
use ferrovs_openflow::{Msg, OfpErr};
use ferrovs_runtime::vlog;

use super::{Done, Request};
use crate::connmgr::Notice;
use crate::tables::N_VISIBLE_TABLES;

/// Actions of OpenFlow 1.0, one bit each: all twelve.
const OFP10_ACTIONS: u32 = 0xfff;

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

impl Request<'_> {
    pub(super) fn echo(&mut self, data: Vec<u8>) -> Done {
        let body = Message::EchoReply(data);
        if self.version == self.conn.version() {
            self.reply(body);
        } else {
            let (version, xid) = (self.version, self.xid);
            let bytes = crate::codec::encode(&Msg { version, xid, body }, &self.conn.tun_table);
            self.conn.rconn.send(bytes, self.now);
        }
        Ok(())
    }

    pub(super) fn features(&mut self) -> Done {
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
        self.reply(Message::FeaturesReply(SwitchFeatures {
            datapath_id: self.ofproto.datapath_id,
            n_buffers: 0,
            n_tables: N_VISIBLE_TABLES,
            auxiliary_id: 0,
            capabilities,
            actions: OFP10_ACTIONS,
            ports,
        }));
        Ok(())
    }

    pub(super) fn config(&mut self) -> Done {
        let config = SwitchConfig {
            frag: self.ofproto.frag,
            invalid_ttl_to_controller: Some(self.conn.wants_invalid_ttl()),
            miss_send_len: self.conn.miss_send_len,
        };
        self.reply(Message::GetConfigReply(config));
        Ok(())
    }

    pub(super) fn set_config(&mut self, config: SwitchConfig) -> Done {
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
        Ok(())
    }

    pub(super) fn barrier(&mut self) -> Done {
        if let Some(round) = self.ofproto.barrier() {
            self.conn.hold(round);
        }
        self.reply(Message::BarrierReply);
        Ok(())
    }

    pub(super) fn role(&mut self, request: RoleRequest) -> Done {
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
                self.ofproto.notices.push(Notice::Demote {
                    except: self.conn.id,
                });
            }
        }
        let reply = RoleRequest {
            role: self.conn.role,
            generation_id: *self.generation_id,
            nicira: request.nicira,
        };
        self.reply(Message::RoleReply(reply));
        Ok(())
    }

    pub(super) fn async_config(&mut self) -> Done {
        self.reply(Message::GetAsyncReply(self.conn.async_config));
        Ok(())
    }

    pub(super) fn set_async(&mut self, change: AsyncMod) -> Done {
        self.conn.async_config.apply(&change);
        // Who asks for asynchronous messages on a service connection wants packets too.
        if self.conn.miss_send_len == 0 {
            self.conn.miss_send_len = 128;
        }
        Ok(())
    }

    pub(super) fn desc(&mut self) -> Done {
        self.reply(Message::DescReply(self.ofproto.desc.clone()));
        Ok(())
    }
}
