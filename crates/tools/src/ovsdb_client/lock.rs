//! Locks: `lock`, `steal`, `unlock`. The tool holds its lock for as long as it runs; in the
//! background, its control socket takes more of the same.

use super::Client;
use super::control::{Control, Wishes};
use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::unixctl::{Commands, Output};
use ferrovs_stream::json::Value;
use ferrovs_stream::jsonrpc::Msg;

/// The requests, which are also commands of the control socket.
const METHODS: [&str; 3] = ["lock", "steal", "unlock"];

pub(super) fn lock(client: &mut Client, args: Vec<String>) {
    run(client, "lock", &args[0]);
}

pub(super) fn steal(client: &mut Client, args: Vec<String>) {
    run(client, "steal", &args[0]);
}

pub(super) fn unlock(client: &mut Client, args: Vec<String>) {
    run(client, "unlock", &args[0]);
}

fn request(method: &str, lock: &str) -> Msg {
    Msg::request(method, vec![lock.into()]).0
}

fn register(commands: &mut Commands<Wishes>) {
    for method in METHODS {
        commands.register(method, "LOCK", 1, 1, move |wishes, asked| {
            let lock = asked.arg(1).unwrap_or_default();
            wishes.requests.push(request(method, lock));
            Ok(Output::empty())
        });
    }
}

fn run(client: &mut Client, method: &str, name: &str) {
    let detached = client.daemon.detaching();
    client.daemon.keep_stdout();
    client.daemon.daemonize_start(Access::default());
    let mut control = Control::open(detached, register);
    client.rpc().connection.send(&request(method, name));
    while let Some(msg) = control.receive(client.rpc()) {
        match msg {
            // Errors are not answered to anybody: whoever asked for nonsense waits.
            Msg::Reply { result, .. } => {
                client.print_json(&result);
                client.flush();
                client.daemon.daemonize_complete();
            }
            Msg::Notify { method, params } => {
                println!("{method}");
                client.print_json(&Value::Array(params));
                client.flush();
            }
            _ => {}
        }
    }
}
