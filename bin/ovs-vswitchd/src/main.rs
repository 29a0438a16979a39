//! ovs-vswitchd: the switch as a daemon.
//!
//! This program only puts the parts together: it reads the command line, chooses which kinds of
//! datapath and device exist, and runs the one loop. What the switch does is in the crates below;
//! what it is told to do is in the database.

#![forbid(unsafe_code)]

mod arguments;
mod commands;

use std::process::ExitCode;

use ferrovs_netdev::dummy::Replace;
use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::vlog::modules::VSWITCHD;
use ferrovs_runtime::{Poller, clock, dirs, fatal_io, memory, numa, unixctl, vlog};
use ferrovs_vswitch::Switch;

use arguments::Dummy;
use commands::App;

/// Tables of a million flows or rows are built and freed at once, in threads of several kinds: here the C library's
/// allocator takes twice as long, and keeps what was freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clock::init();
    ferrovs_runtime::end_with_standard_output();
    dirs::set_program_name("ovs-vswitchd");
    // A translation may nest 4096 resubmits deep.
    ferrovs_sys::process::raise_stack_limit(64 << 20);
    let mut arguments = arguments::parse();
    arguments.daemon.daemonize_start(Access {
        datapath: true,
        hardware: arguments.hw_rawio,
    });

    if arguments.mlockall
        && let Err(e) = ferrovs_sys::process::mlockall()
    {
        vlog::err!(
            VSWITCHD,
            "mlockall failed: {}",
            ferrovs_runtime::text::errno(&e)
        );
    }

    let Ok(mut server) = unixctl::Server::open(arguments.unixctl.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let mut commands = unixctl::Commands::new();
    commands::register(&mut commands, arguments.dummy.is_some());
    numa::topology();

    let dummy = match arguments.dummy {
        None => ferrovs_dpif_netdev::Dummy::Off,
        Some(Dummy::Normal) => ferrovs_dpif_netdev::Dummy::Normal,
        Some(Dummy::System) => ferrovs_dpif_netdev::Dummy::System,
        Some(Dummy::Override) => ferrovs_dpif_netdev::Dummy::Override,
    };
    if let Some(dummy) = arguments.dummy {
        ferrovs_openflow::action::decode::enable_debug_actions();
        ferrovs_netdev::dummy::set_receive_hook(ferrovs_dpif_netdev::quiesce_all);
        ferrovs_netdev::dummy::enable(match dummy {
            Dummy::Normal => Replace::Nothing,
            Dummy::System => Replace::System,
            Dummy::Override => Replace::All,
        });
    }
    if arguments.disable_system_route {
        ferrovs_tunnel::router::disable_system();
    }
    // `--disable-system` forbids the kernel's datapath, of which there is none among these.
    let classes = ferrovs_dpif_netdev::classes(dummy);
    commands::register_datapaths(&mut commands, &classes);
    let switch = match Switch::new(&arguments.remote, classes, arguments.ssl, clock::now()) {
        Ok(s) => s,
        Err(e) => fatal_io(&e, "could not start the switch"),
    };
    let mut app = App::new(arguments.daemon, switch);
    let mut memory = memory::Monitor::new();
    let mut poller = Poller::new();
    poller.let_linger();
    while app.exiting.is_empty() {
        if memory.run() {
            memory.report(&app.memory_usage());
        }
        app.run();
        server.run(&mut commands, &mut app);

        memory.wait(&mut poller);
        app.wait(&mut poller);
        server.wait(&mut poller);
        if !app.exiting.is_empty() {
            poller.wake_now();
        }
        poller.block();
    }
    app.shut_down();
    for responder in app.exiting.drain(..) {
        responder.reply(Ok(unixctl::Output::empty()));
    }
    server.flush();
    ExitCode::SUCCESS
}
