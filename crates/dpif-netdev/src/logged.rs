//! A datapath that says in the log what is asked of it.
//!
//! Every datapath is opened through this layer, so that `vlog/set dpif:dbg` shows each operation, and failures are
//! told (WARN, but for those that are part of the game: a flow that is there already, a port that is gone), the same
//! for all kinds. While the level is higher, it costs a comparison. Every method of the trait must be passed on here,
//! those with a default too.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::flow::Match;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::modules::{DPIF, DPIF_NETDEV};
use ferrovs_runtime::vlog::{Level, RateLimit};
use ferrovs_runtime::{clock, vlog};

use ferrovs_datapath::action::Action;
use ferrovs_datapath::conntrack::Conntrack;
use ferrovs_datapath::dpif::{
    DpPortInfo, DpStats, Dpif, DumpWant, Errno, Execute, FlowPut, FlowStats, FlowView, Meter,
    Meters, Op, PortEvents, PortStats, RefusedPut, Shard, Ufid,
};
use ferrovs_datapath::features::DpFeatures;
use ferrovs_datapath::help;
use ferrovs_datapath::offload::Offload;
use ferrovs_datapath::text::{format_actions, format_flow_stats, format_match, format_packet};
use ferrovs_datapath::upcall::UpcallHandler;
use ferrovs_packet::text::hex;

/// Wraps a datapath.
pub struct Logged {
    dp: Arc<dyn Dpif>,
    /// `kind@name`.
    name: String,
}

impl Logged {
    pub fn wrap(dp: Arc<dyn Dpif>) -> Arc<dyn Dpif> {
        let name = format!("{}@{}", dp.kind(), dp.name());
        Arc::new(Logged { dp, name })
    }

    fn verbose(&self) -> bool {
        DPIF.enabled(Level::Dbg)
    }

    fn success(&self, what: &str) {
        vlog::dbg!(DPIF, "{}: {what} success", self.name);
    }

    /// Tells an operation on a flow and how it ended; `rest` makes what follows the identifier.
    fn flow(&self, what: &str, error: Option<Errno>, ufid: Ufid, rest: impl FnOnce() -> String) {
        static RL: RateLimit = RateLimit::new(60, 5);
        match error {
            None => vlog::dbg!(DPIF, "{}: {what} ufid:{ufid} {}", self.name, rest()),
            Some(error @ Errno::EEXIST) => {
                vlog::dbg!(
                    DPIF,
                    "{}: failed to {what} ({error}) ufid:{ufid} {}",
                    self.name,
                    rest()
                );
            }
            Some(error) => vlog::warn_rl!(
                RL,
                DPIF,
                "{}: failed to {what} ({error}) ufid:{ufid} {}",
                self.name,
                rest()
            ),
        }
    }

    /// Tells what is executed, after it was.
    fn execution(
        &self,
        what: &str,
        execute: Execute,
        run: impl FnOnce(Execute) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        static RL: RateLimit = RateLimit::new(60, 5);
        let text = self.verbose().then(|| execute_text(&execute));
        let result = run(execute);
        match (result, text) {
            (Ok(()), Some(text)) => vlog::dbg!(DPIF, "{}: {what} {text}", self.name),
            (Err(error), text) => vlog::warn_rl!(
                RL,
                DPIF,
                "{}: {what} {} failed ({error})",
                self.name,
                text.unwrap_or_default()
            ),
            _ => {}
        }
        result
    }

    /// Executes, in pieces if the datapath may not know all actions.
    fn run_packet(&self, execute: Execute) -> Result<(), Errno> {
        if !execute.needs_help {
            return self.execution("execute", execute, |e| self.dp.execute(e));
        }
        help::execute(execute, &mut |piece| {
            self.execution("sub-execute", piece, |e| self.run_packet(e))
        })
    }

    /// Tells how an operation on a flow ended.
    fn tell(&self, op: &Op<'_>) {
        match op {
            Op::Put { put, result } => {
                let what = put_name(put.put.create().is_some(), put.put.modifies());
                self.flow(what, result.err(), put.ufid, || put_text(put));
            }
            Op::Del { ufid, result, .. } => {
                self.flow("flow_del", result.err(), *ufid, || {
                    result.as_ref().map(stats_text).unwrap_or_default()
                });
            }
            Op::Get { ufid, result, .. } => {
                let error = result.as_ref().err().copied();
                self.flow("flow_get", error, *ufid, || match result {
                    Ok(entry) => format!(
                        "<empty>{}{}",
                        stats_text(&entry.stats),
                        actions_text(&entry.actions)
                    ),
                    Err(_) => format!("<empty>{}", stats_text(&FlowStats::default())),
                });
            }
            Op::Execute { .. } => {}
        }
    }
}

fn put_text(put: &FlowPut<'_>) -> String {
    key_text(&put.put.told_as().expand()) + &actions_text(&put.actions)
}

fn put_name(create: bool, modify: bool) -> &'static str {
    match (create, modify) {
        (true, false) => "put[create]",
        (false, true) => "put[modify]",
        (true, true) => "put[create][modify]",
        (false, false) => "put",
    }
}

fn is_packet(op: &Op<'_>) -> bool {
    matches!(op, Op::Execute { .. })
}

/// A flow of a dump; a reader who goes by identifiers and statistics is not told the key.
fn shown_text(flow: &dyn FlowView, want: DumpWant) -> String {
    if !want.key {
        return format!("<empty>{}", stats_text(&flow.stats()));
    }
    let m = Match {
        flow: flow.key(),
        wc: flow.mask(),
    };
    key_text(&m) + &stats_text(&flow.stats()) + &actions_text(&flow.actions())
}

fn key_text(m: &Match) -> String {
    let mut out = String::new();
    format_match(&mut out, &m.flow, Some(&m.wc), None, true);
    out
}

fn stats_text(stats: &FlowStats) -> String {
    let mut out = String::from(", ");
    format_flow_stats(&mut out, stats, clock::now());
    out
}

fn actions_text(actions: &[Action]) -> String {
    let mut out = String::from(", actions:");
    format_actions(&mut out, actions, None);
    out
}

/// `execute ACTIONS on packet FLOW` and the metadata that goes with it.
fn execute_text(execute: &Execute) -> String {
    let mut out = String::new();
    format_actions(&mut out, &execute.actions, None);
    _ = write!(
        out,
        " on packet {}\n with metadata ",
        format_packet(&execute.packet)
    );
    let flow = &execute.flow;
    for (name, value) in [
        ("skb_priority", flow.skb_priority),
        ("skb_mark", flow.pkt_mark),
    ] {
        _ = write!(out, "{name}(");
        hex(&mut out, value.into());
        out.push_str("),");
    }
    _ = write!(out, "in_port({}) mtu {}", flow.in_port, execute.mtu);
    out
}

impl Dpif for Logged {
    fn kind(&self) -> &'static str {
        self.dp.kind()
    }

    fn name(&self) -> &str {
        self.dp.name()
    }

    fn run(&self) {
        self.dp.run();
    }

    fn features(&self) -> DpFeatures {
        self.dp.features()
    }

    fn stats(&self) -> DpStats {
        self.success("get_stats");
        self.dp.stats()
    }

    fn port_add(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno> {
        let result = self.dp.port_add(name, kind, wanted);
        match result {
            Ok(port) => vlog::dbg!(DPIF, "{}: added {name} as port {}", self.name, port.0),
            Err(error) => vlog::warn!(DPIF, "{}: failed to add {name} as port: {error}", self.name),
        }
        result
    }

    fn port_del(&self, port: DpPort) -> Result<(), Errno> {
        let result = self.dp.port_del(port);
        if result.is_ok() {
            vlog::dbg!(DPIF, "{}: port_del({})", self.name, port.0);
        }
        result
    }

    fn port_by_number(&self, port: DpPort) -> Result<DpPortInfo, Errno> {
        let result = self.dp.port_by_number(port);
        match &result {
            Ok(info) => vlog::dbg!(
                DPIF,
                "{}: port {} is device {}",
                self.name,
                port.0,
                info.name
            ),
            Err(error) => vlog::dbg!(
                DPIF,
                "{}: failed to query port {}: {error}",
                self.name,
                port.0
            ),
        }
        result
    }

    fn port_by_name(&self, name: &str) -> Result<DpPortInfo, Errno> {
        let result = self.dp.port_by_name(name);
        match &result {
            Ok(info) => vlog::dbg!(
                DPIF,
                "{}: device {name} is on port {}",
                self.name,
                info.port.0
            ),
            Err(error) => vlog::dbg!(DPIF, "{}: failed to query port {name}: {error}", self.name),
        }
        result
    }

    fn ports(&self) -> Vec<DpPortInfo> {
        let ports = self.dp.ports();
        if self.verbose() {
            self.success("port_dump_start");
            ports.iter().for_each(|_| self.success("port_dump_next"));
            vlog::dbg!(DPIF, "{}: dumped all ports", self.name);
        }
        ports
    }

    fn outlives_process(&self) -> bool {
        self.dp.outlives_process()
    }

    fn port_events(&self) -> PortEvents {
        self.dp.port_events()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, Errno> {
        self.dp.port_stats(port)
    }

    fn port_set_config(
        &self,
        port: DpPort,
        config: &BTreeMap<String, String>,
    ) -> Result<(), Errno> {
        self.dp.port_set_config(port, config)
    }

    fn set_config(&self, config: &BTreeMap<String, String>) {
        self.dp.set_config(config);
    }

    fn operate(&self, ops: &mut [Op<'_>]) {
        for part in ops.chunk_by_mut(|a, b| is_packet(a) == is_packet(b)) {
            if part.first().is_some_and(is_packet) {
                for op in part {
                    if let Op::Execute { execute, result } = op
                        && let Some(execute) = execute.take()
                    {
                        *result = self.run_packet(execute);
                    }
                }
            } else {
                self.dp.operate(part);
                part.iter().for_each(|op| self.tell(op));
            }
        }
    }

    fn flow_refused(&self, put: &RefusedPut<'_>) -> Errno {
        static RL: RateLimit = RateLimit::new(60, 5);
        let what = put_name(put.create, put.modify);
        let error = self.dp.flow_refused(put);
        if put.no_port {
            vlog::err_rl!(
                RL,
                DPIF_NETDEV,
                "failed to {what} flow: in_port is not an exact match"
            );
        } else {
            vlog::err_rl!(
                RL,
                DPIF_NETDEV,
                "internal error parsing flow key {}",
                put.key
            );
        }
        self.flow(what, Some(error), put.ufid, || {
            put.key.to_owned() + &actions_text(put.actions)
        });
        error
    }

    fn dump_shards(&self) -> usize {
        self.dp.dump_shards()
    }

    fn dump(&self, shard: Shard, want: DumpWant, visit: &mut dyn FnMut(&dyn FlowView)) {
        if !self.verbose() {
            return self.dp.dump(shard, want, visit);
        }
        self.dp.dump(shard, want, &mut |flow| {
            self.flow("flow_dump", None, flow.ufid(), || shown_text(flow, want));
            visit(flow);
        });
        if shard.index + 1 == shard.of {
            vlog::dbg!(DPIF, "{}: dumped all flows", self.name);
            self.success("flow_dump_destroy");
        }
    }

    fn flow_flush(&self) {
        self.dp.flow_flush();
        self.success("flow_flush");
    }

    fn set_upcall_handler(&self, handler: Option<Arc<dyn UpcallHandler>>) {
        self.dp.set_upcall_handler(handler);
    }

    fn quiesce(&self) {
        self.dp.quiesce();
    }

    fn recv_enable(&self, enable: bool) {
        self.dp.recv_enable(enable);
    }

    fn meters(&self) -> Option<&dyn Meters> {
        self.dp.meters().map(|_| self as &dyn Meters)
    }

    fn offload(&self) -> Option<&dyn Offload> {
        self.dp.offload()
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        self.dp.conntrack()
    }

    fn destroy(&self) {
        self.dp.destroy();
    }
}

impl Logged {
    fn inner_meters(&self) -> Result<&dyn Meters, Errno> {
        self.dp.meters().ok_or(Errno::EOPNOTSUPP)
    }
}

impl Meters for Logged {
    fn set(&self, id: u32, meter: &Meter, now: Instant) -> Result<(), Errno> {
        let result = self.inner_meters()?.set(id, meter, now);
        if result.is_ok() {
            vlog::dbg!(DPIF, "{}: DPIF meter {id} set", self.name);
        }
        result
    }

    fn stats(&self, id: u32) -> Result<Meter, Errno> {
        self.inner_meters()?.stats(id)
    }

    fn delete(&self, id: u32) -> Result<Meter, Errno> {
        let result = self.inner_meters()?.delete(id);
        if result.is_ok() {
            vlog::dbg!(DPIF, "{}: DPIF meter {id} deleted", self.name);
        }
        result
    }
}
