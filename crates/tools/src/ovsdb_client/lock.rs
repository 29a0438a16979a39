//! Locks: `lock`, `steal`, `unlock`. The tool holds its lock for as long as it runs.

use super::Client;
use ferrovs_runtime::daemon::Access;
use ferrovs_stream::json::{Value, to_string, to_string_pretty};
use ferrovs_stream::jsonrpc::Msg;

pub(super) fn lock(client: &mut Client, args: Vec<String>) {
    run(client, "lock", &args[0]);
}

pub(super) fn steal(client: &mut Client, args: Vec<String>) {
    run(client, "steal", &args[0]);
}

pub(super) fn unlock(client: &mut Client, args: Vec<String>) {
    run(client, "unlock", &args[0]);
}

fn run(client: &mut Client, method: &str, name: &str) {
    client.daemon.keep_stdout();
    if client.daemon.detaching() {
        client.daemon.daemonize_start(Access::default());
    }
    let request = client.rpc().send(method, vec![name.into()]);
    loop {
        match client.rpc().receive() {
            Msg::Request { method, params, id } if method == "echo" => {
                client
                    .rpc()
                    .connection
                    .send(&Msg::reply(Value::Array(params), id));
            }
            Msg::Reply { result, id } if id == request => {
                say(client, &result);
                client.daemon.daemonize_complete();
            }
            Msg::Notify { method, params } => {
                println!("{method}");
                say(client, &Value::Array(params));
            }
            _ => {}
        }
    }
}

fn say(client: &Client, json: &Value) {
    use std::io::Write;
    let text = if client.style.pretty {
        to_string_pretty(json)
    } else {
        to_string(json)
    };
    println!("{text}");
    let _ = std::io::stdout().flush();
}
