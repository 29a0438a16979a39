//! Flow monitors: asking for them, and giving them up.

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::flow::{FlowMonitorCommand, FlowMonitorRequest, FlowUpdateEvent};

use super::{Handled, Request};
use crate::connmgr::Reply;
use crate::connmgr::monitor::{Monitor, current, reply};

impl Request<'_> {
    pub(super) fn flow_monitor(&mut self, requests: Vec<FlowMonitorRequest>) -> Handled {
        let mut fresh = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            let checked = self.monitor_one(request);
            match checked {
                Ok(Some(monitor)) => fresh.push(monitor),
                Ok(None) => {}
                Err(error) => {
                    for earlier in &requests[..i] {
                        if earlier.command == FlowMonitorCommand::Add {
                            self.conn.monitors.remove(&earlier.id);
                        }
                    }
                    return Err(error);
                }
            }
        }
        let initial: Vec<Monitor> = fresh.into_iter().filter(Monitor::tells_initial).collect();
        let updates = current(&self.ofproto.tables, &initial, FlowUpdateEvent::Initial);
        Ok(self.list(updates, reply))
    }

    fn monitor_one(&mut self, request: &FlowMonitorRequest) -> Result<Option<Monitor>, OfpErr> {
        let known = self.conn.monitors.contains_key(&request.id);
        match request.command {
            FlowMonitorCommand::Add if known => return Err(OfpErr::OFPMOFC_MONITOR_EXISTS),
            FlowMonitorCommand::Modify if !known => return Err(OfpErr::OFPMOFC_UNKNOWN_MONITOR),
            FlowMonitorCommand::Delete => {
                if self.conn.monitors.remove(&request.id).is_none() {
                    return Err(OfpErr::OFPMOFC_UNKNOWN_MONITOR);
                }
                return Ok(None);
            }
            _ => {}
        }
        let monitor = Monitor::new(request);
        self.conn.monitors.insert(request.id, monitor.clone());
        Ok(Some(monitor))
    }

    pub(super) fn flow_monitor_cancel(&mut self, id: u32) -> Handled {
        if self.conn.monitors.remove(&id).is_none() {
            return Err(OfpErr::OFPMOFC_UNKNOWN_MONITOR);
        }
        Ok(Reply::None)
    }
}
