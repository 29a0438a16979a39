//! The application that control commands act on, and the commands of the program itself.

use std::sync::Arc;
use std::time::Duration;

use ferrovs_runtime::daemon::Daemon;
use ferrovs_runtime::memory::{self, Usage};
use ferrovs_runtime::unixctl::{Commands, Output, Reply, Request, Responder};
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::{Poller, clock, dirs, version, vlog};

use ferrovs_datapath::dpif::DpifClass;
use ferrovs_datapath::text::{OpenFlowTexts, PortNames, packet_from_text, set_openflow_texts};
use ferrovs_dpctl::Filter;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::key::{format_flow, parse_exact_match};
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::tun::Tun;
use ferrovs_packet::field::PortMap;
use ferrovs_packet::types::OfPort;
use ferrovs_vswitch::Switch;

/// Everything that runs on the main thread.
pub struct App {
    /// Whoever asked the daemon to exit, and is told when it does.
    pub exiting: Vec<Responder>,
    cleanup: bool,
    daemon: Daemon,
    /// Whether the daemon is ready and has said so.
    announced: bool,
    switch: Switch,
}

impl App {
    pub fn new(daemon: Daemon, switch: Switch) -> App {
        App {
            exiting: Vec::new(),
            cleanup: false,
            daemon,
            announced: false,
            switch,
        }
    }

    pub fn run(&mut self) {
        self.switch.run(clock::now());
        if self.switch.is_ready() && !self.announced {
            self.daemon.daemonize_complete();
            self.announced = true;
            vlog::info!(BRIDGE, "{}", version::line(dirs::program_name()));
        }
    }

    pub fn wait(&mut self, poller: &mut Poller) {
        self.switch.wait(poller);
    }

    pub fn shut_down(&mut self) {
        self.switch.shut_down(self.cleanup);
    }

    pub fn memory_usage(&mut self) -> Usage {
        let mut usage = Usage::new();
        self.switch.memory_usage(&mut usage);
        usage
    }
}

/// Registers the commands of the program itself.
pub fn register(commands: &mut Commands<App>, dummy: bool) {
    commands.register("exit", "[--cleanup]", 0, 1, exit);
    memory::register(commands, |app, usage| *usage = app.memory_usage());
    ferrovs_ofproto::unixctl::register(commands, |app: &mut App| &mut app.switch.ofprotos);
    if dummy {
        ferrovs_packet::hash::fix_seed();
        ferrovs_netdev::dummy::register_commands(commands, packet_from_text);
        commands.register("time/stop", "", 0, 0, |_, _| {
            clock::stop();
            Ok(Output::empty())
        });
        commands.register("time/warp", "[large_msecs] msecs", 1, 2, |_, r| warp(r));
    }
}

/// Registers the commands about datapaths.
pub fn register_datapaths(commands: &mut Commands<App>, classes: &[Arc<dyn DpifClass>]) {
    ferrovs_dpctl::register(commands, classes, flow_filter);
    ferrovs_dpif_netdev::register_commands(commands, classes);
    set_openflow_texts(OpenFlowTexts {
        // A packet by itself came through no port.
        flow: |flow| format_flow(flow, &Names::none(&Tun::auto())).replacen("in_port=0,", "", 1),
        match_: |m| {
            let mut out = String::new();
            format_match(m, None, &Names::none(&Tun::auto()), &mut out);
            out
        },
    });
}

/// Ports of a datapath, as OpenFlow texts have them.
struct DatapathPorts<'a>(&'a PortNames);

impl PortMap for DatapathPorts<'_> {
    fn port_by_name(&self, name: &str) -> Option<OfPort> {
        let port = self.0.number(name)?;
        u16::try_from(port.0).ok().map(OfPort)
    }
}

/// Reads `filter=` of `dpctl/dump-flows`. A flow passes unless it matches a bit that the filter
/// has otherwise.
fn flow_filter(text: &str, ports: &PortNames) -> Result<Filter, String> {
    let tun = Tun::auto();
    let names = Names {
        ports: &DatapathPorts(ports),
        ..Names::none(&tun)
    };
    let want = parse_exact_match(text, &names)?;
    Ok(Box::new(move |flow, wc| {
        let words = flow.words().iter().zip(wc.masks.words());
        let wanted = want.flow.words().iter().zip(want.wc.masks.words());
        words
            .zip(wanted)
            .all(|((have, mask), (want, filter))| (have ^ want) & mask & filter == 0)
    }))
}

fn exit(app: &mut App, request: &Request) -> Reply {
    app.cleanup |= request.arg(1) == Some("--cleanup");
    app.exiting.push(request.responder());
    Ok(Output::Deferred)
}

fn warp(request: &Request) -> Reply {
    let ms = |n: usize| match request.arg(n).and_then(|a| a.parse::<i64>().ok()) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms as u64)),
        _ => Err("invalid MSECS".to_string()),
    };
    let total = ms(1)?;
    let step = if request.argv.len() > 2 {
        ms(2)?
    } else {
        total
    };
    if clock::warp_pending() {
        return Err("A previous warp in progress".to_string());
    }
    let responder = request.responder();
    clock::warp_then(total, step, move || responder.reply(Ok("warped".into())));
    Ok(Output::Deferred)
}
