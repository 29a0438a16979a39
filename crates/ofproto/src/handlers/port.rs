//! Port and queue messages.

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::port::{PortMod, QUEUE_ALL, QueueConfig, QueueRequest, QueueStats};
use ferrovs_packet::types::OfPort;

use super::{Handled, Request};
use crate::connmgr::{Reply, parts};
use crate::ofproto::Port;

/// The queue of packets that are given to none.
const DEFAULT_QUEUE: u32 = 0;

impl Request<'_> {
    pub(super) fn port_mod(&mut self, m: PortMod) -> Handled {
        self.ofproto.port_mod(&m)?;
        Ok(Reply::None)
    }

    /// The ports that a request for `port` means.
    fn ports(&self, port: OfPort) -> Result<Vec<&Port>, OfpErr> {
        if matches!(port, OfPort::NONE | OfPort::ALL) {
            let ports = &self.ofproto.ports;
            let order = ports.values().map(|p| (p.ofport, p.dp_port));
            let order = crate::port_order::listed(order);
            return Ok(order.iter().filter_map(|port| ports.get(port)).collect());
        }
        Ok(self.ofproto.ports.get(&port).into_iter().collect())
    }

    pub(super) fn port_desc(&mut self, port: OfPort) -> Handled {
        let descs: Vec<_> = self
            .ports(port)?
            .into_iter()
            .map(|p| p.desc.clone())
            .collect();
        let make = |ports| Message::PortDescReply { ports, more: false };
        Ok(self.list(descs, make))
    }

    pub(super) fn port_stats(&mut self, port: OfPort) -> Handled {
        let stats: Vec<_> = self
            .ports(port)?
            .into_iter()
            .map(|p| p.stats(self.now))
            .collect();
        let make = |ports| Message::PortStatsReply { ports, more: false };
        Ok(self.list(stats, make))
    }

    /// Answers with a list, cut into messages.
    pub(super) fn list<T: 'static>(
        &self,
        items: impl IntoIterator<Item = T, IntoIter: 'static>,
        make: impl Fn(Vec<T>) -> Message + 'static,
    ) -> Reply {
        Reply::Parts(parts::list(self.conn.version(), self.xid, items, make))
    }

    /// The ports whose queue a request means: every port has one, number 0, whatever its device has.
    fn queue_ports(&self, request: QueueRequest) -> Result<Vec<OfPort>, OfpErr> {
        let ports: Vec<OfPort> = self.ports(request.port)?.iter().map(|p| p.ofport).collect();
        let any = matches!(request.port, OfPort::NONE | OfPort::ALL);
        if ports.is_empty() && !any {
            return Err(OfpErr::OFPQOFC_BAD_PORT);
        }
        if !matches!(request.queue, QUEUE_ALL | DEFAULT_QUEUE) {
            return Err(OfpErr::OFPQOFC_BAD_QUEUE);
        }
        Ok(ports)
    }

    pub(super) fn queue_config(&mut self, request: QueueRequest) -> Handled {
        let mut ports = self.queue_ports(request)?;
        ports.sort_unstable();
        let queue = |port| QueueConfig {
            port,
            queue: DEFAULT_QUEUE,
            min_rate: None,
            max_rate: None,
        };
        let queues = ports.into_iter().map(queue).collect();
        let port = request.port;
        Ok(Reply::Message(Message::QueueGetConfigReply {
            port,
            queues,
            more: false,
        }))
    }

    pub(super) fn queue_stats(&mut self, request: QueueRequest) -> Handled {
        let unknown = |port| QueueStats {
            port,
            queue: DEFAULT_QUEUE,
            tx_bytes: u64::MAX,
            tx_packets: u64::MAX,
            tx_errors: u64::MAX,
            duration_sec: u32::MAX,
            duration_nsec: u32::MAX,
        };
        let stats = self.queue_ports(request)?.into_iter().map(unknown);
        let stats: Vec<_> = stats.collect();
        let make = |queues| Message::QueueStatsReply {
            queues,
            more: false,
        };
        Ok(self.list(stats, make))
    }
}
