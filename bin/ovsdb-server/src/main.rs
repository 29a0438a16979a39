//! ovsdb-server: databases served over JSON-RPC.
//!
//! The engine and the protocol are in `ferrovs-ovsdb`; this program gives them files, sockets, the
//! clock and a control socket, and runs the one loop.

#![forbid(unsafe_code)]

mod app;
mod arguments;
mod commands;
mod config;
mod databases;
mod db_config;
mod now;
mod remotes;
mod source;
mod state;
mod watch;

use std::process::ExitCode;

use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::vlog::modules::OVSDB_SERVER;
use ferrovs_runtime::{Poller, clock, dirs, fatal, memory, unixctl, version, vlog};

use app::App;

/// Tables of a million flows or rows are built and freed at once, in threads of several kinds: here the C library's
/// allocator takes twice as long, and keeps what was freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clock::init();
    ferrovs_runtime::end_with_standard_output();
    dirs::set_program_name("ovsdb-server");
    let mut arguments = arguments::parse();
    arguments.daemon.daemonize_start(Access::default());

    let run = arguments.run.take();
    let unixctl_path = arguments.unixctl.clone();
    let (column_diff, data_conversion) = (arguments.column_diff, arguments.data_conversion);
    let mut app = App::new(arguments);
    // Each says in the log what is wrong.
    if !(app.open_databases() & app.check_remotes()) {
        fatal("server configuration failed");
    }
    app.reconfigure();

    let Ok(mut server) = unixctl::Server::open(unixctl_path.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let mut commands = unixctl::Commands::new();
    commands::register(&mut commands, column_diff, data_conversion);
    let mut poller = Poller::new();
    app.set_waker(poller.waker());
    let mut child = run.map(|command| app::Child::start(&command, poller.waker()));
    app.daemon().daemonize_complete();
    if child.is_none() {
        vlog::info!(OVSDB_SERVER, "{}", version::line(dirs::program_name()));
    }

    poller.let_linger();
    let mut memory = memory::Monitor::new();
    let mut ended = None;
    while app.exiting.is_empty() && ended.is_none() {
        if memory.run() {
            let mut usage = memory::Usage::new();
            app.memory_usage(&mut usage);
            memory.report(&usage);
        }
        server.run(&mut commands, &mut app);
        app.run();
        ended = child.as_mut().and_then(app::Child::ended);

        memory.wait(&mut poller);
        server.wait(&mut poller);
        app.wait(&mut poller);
        if !app.exiting.is_empty() || ended.is_some() {
            poller.wake_now();
        }
        poller.block();
    }
    for responder in app.exiting.drain(..) {
        responder.reply(Ok(unixctl::Output::empty()));
    }
    server.flush();
    drop(app);
    if let Some(Err(why)) = ended {
        fatal(why);
    }
    ExitCode::SUCCESS
}
