//! Providers for tests: they recognise packets by comparing them with flows, one after the other, and say so in the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_datapath::dpif::{Errno, FlowStats, Ufid};
use ferrovs_datapath::offload::{FlowRef, Offloaded, PortRef, Provider};
use ferrovs_datapath::text::{format_openflow_flow, format_openflow_match};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Match;
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_OFFLOAD_DUMMY;

/// Two of them, so that there is a choice.
pub const KINDS: [&str; 2] = ["dummy", "dummy_x"];

pub fn providers() -> Vec<Arc<dyn Provider>> {
    let new = |kind| -> Arc<dyn Provider> {
        Arc::new(Dummy {
            kind,
            flows: Mutex::default(),
        })
    };
    KINDS.map(new).into()
}

struct Dummy {
    kind: &'static str,
    flows: Mutex<BTreeMap<(DpPort, Ufid), Known>>,
}

/// A flow.
struct Known {
    /// Without the port.
    match_: Match,
    /// The number that its packets are marked with.
    mark: u32,
    /// Threads that have it.
    users: usize,
}

impl Dummy {
    fn flows(&self) -> MutexGuard<'_, BTreeMap<(DpPort, Ufid), Known>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a flow that comes or changes.
fn tell(port: PortRef<'_>, flow: FlowRef<'_>, mark: u32, (what, done): (&str, &str)) {
    vlog::dbg!(
        DPIF_OFFLOAD_DUMMY,
        "{}: flow put[{what}]: ufid:{} flow match: {}, mark: {mark}",
        port.name,
        flow.ufid,
        format_openflow_match(flow.match_)
    );
    vlog::dbg!(
        DPIF_OFFLOAD_DUMMY,
        "succeed to {done} netdev flow {}",
        flow.ufid
    );
}

impl Provider for Dummy {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn takes(&self, _: PortRef<'_>) -> bool {
        true
    }

    fn port_gone(&self, port: PortRef<'_>) {
        self.flows().retain(|(number, _), _| *number != port.number);
    }

    fn put(&self, port: PortRef<'_>, flow: FlowRef<'_>) -> Result<Offloaded, Errno> {
        let mut flows = self.flows();
        if let Some(known) = flows.get_mut(&(port.number, flow.ufid)) {
            tell(port, flow, known.mark, ("modify", "modify"));
            known.users += 1;
            return Ok(Offloaded::Partial);
        }
        let is_free = |mark: &u32| flows.values().all(|known| known.mark != *mark);
        let mark = (1..).find(is_free).ok_or(Errno::EFBIG)?;
        tell(port, flow, mark, ("create", "add"));
        let mut match_ = *flow.match_;
        (match_.flow.in_port, match_.wc.masks.in_port) = (0, 0);
        let known = Known {
            match_,
            mark,
            users: 1,
        };
        flows.insert((port.number, flow.ufid), known);
        Ok(Offloaded::Partial)
    }

    fn changed(&self, port: PortRef<'_>, flow: FlowRef<'_>) -> Result<Offloaded, Errno> {
        let flows = self.flows();
        let known = flows.get(&(port.number, flow.ufid)).ok_or(Errno::ENOENT)?;
        tell(port, flow, known.mark, ("modify", "modify"));
        Ok(Offloaded::Partial)
    }

    fn del(&self, port: PortRef<'_>, ufid: Ufid) {
        let mut flows = self.flows();
        let Some(known) = flows.get_mut(&(port.number, ufid)) else {
            return;
        };
        vlog::dbg!(
            DPIF_OFFLOAD_DUMMY,
            "{}: flow del: ufid:{ufid} mark: {}",
            port.name,
            known.mark
        );
        vlog::dbg!(DPIF_OFFLOAD_DUMMY, "succeed to delete netdev flow {ufid}");
        known.users -= 1;
        if known.users == 0 {
            flows.remove(&(port.number, ufid));
        }
    }

    fn stats(&self, _: Ufid) -> Option<FlowStats> {
        // The datapath counts what it is told the flow of.
        None
    }

    fn recognise(&self, port: PortRef<'_>, packet: &mut Packet) -> Option<Ufid> {
        let mut key = MiniflowBuf::new();
        key.extract(packet);
        let mut packets = key.expand();
        packets.in_port = 0;
        let of_port = |(number, _): &(DpPort, Ufid)| *number == port.number;
        let flows = self.flows();
        let ((_, ufid), known) =
            flows
                .iter()
                .filter(|(key, _)| of_port(key))
                .find(|(_, known)| {
                    let Match { flow, wc } = &known.match_;
                    let words = flow.words().iter().zip(packets.words());
                    let mut masked = words.zip(wc.masks.words());
                    masked.all(|((want, have), mask)| (want ^ have) & mask == 0)
                })?;
        vlog::dbg!(
            DPIF_OFFLOAD_DUMMY,
            "{}: packet: {} matches with flow: ufid:{ufid} {} with mark: {}",
            port.name,
            format_openflow_flow(&packets),
            format_openflow_match(&known.match_),
            known.mark
        );
        Some(*ufid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_packet::flow::FlowWildcards;

    const PORT: PortRef<'_> = PortRef {
        number: DpPort(3),
        name: "p3",
        kind: "dummy",
    };

    /// A frame with that last byte of its source.
    fn frame(src: u8) -> Packet {
        Packet::from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, src, 0x12, 0x34])
    }

    #[test]
    fn a_packet_is_recognised_as_long_as_a_thread_has_its_flow() {
        let provider = &providers()[0];
        let mut match_ = Match::default();
        match_.wc = FlowWildcards::default();
        match_.flow.in_port = 3;
        match_.wc.masks.in_port = u32::MAX;
        match_.flow.dl_src.0 = [2, 0, 0, 0, 0, 1];
        match_.wc.masks.dl_src.0 = [0xff; 6];
        let ufid = Ufid(7);
        let flow = FlowRef {
            ufid,
            match_: &match_,
            actions: &[],
        };
        let known = |src| provider.recognise(PORT, &mut frame(src));
        assert!(provider.changed(PORT, flow).is_err());
        assert_eq!(known(1), None);
        for _ in 0..2 {
            assert_eq!(provider.put(PORT, flow), Ok(Offloaded::Partial));
        }
        assert_eq!(provider.changed(PORT, flow), Ok(Offloaded::Partial));
        assert_eq!((known(1), known(2)), (Some(ufid), None));
        let other = PortRef {
            number: DpPort(4),
            ..PORT
        };
        assert_eq!(provider.recognise(other, &mut frame(1)), None);
        provider.del(PORT, ufid);
        assert_eq!(known(1), Some(ufid));
        provider.del(PORT, ufid);
        assert_eq!(known(1), None);
        assert_eq!(provider.put(PORT, flow), Ok(Offloaded::Partial));
        provider.port_gone(PORT);
        assert_eq!(known(1), None);
    }
}
