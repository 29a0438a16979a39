//! The control socket of a client that went into the background, and its connection beside it.
//!
//! Commands only note what they want; the client's own loop does it between two messages.

use super::rpc::Rpc;
use ferrovs_runtime::unixctl::{Commands, Output, Server};
use ferrovs_runtime::{Poller, fatal, fatal_io};
use ferrovs_stream::error_text;
use ferrovs_stream::json::Value;
use ferrovs_stream::jsonrpc::Msg;

/// What was asked for over the control socket and is still to be done.
#[derive(Default)]
pub(super) struct Wishes {
    exiting: bool,
    /// Nothing is received until it is lifted.
    pub blocked: bool,
    pub requests: Vec<Msg>,
}

pub(super) struct Control {
    /// None in the foreground.
    server: Option<Server>,
    commands: Commands<Wishes>,
    wishes: Wishes,
}

impl Control {
    /// Opens the socket if `detached`; its commands are `exit` and what `register` adds.
    pub fn open(detached: bool, register: impl FnOnce(&mut Commands<Wishes>)) -> Control {
        let open = || {
            Server::open(None).unwrap_or_else(|e| fatal_io(&e, "failed to create unixctl server"))
        };
        let mut commands: Commands<Wishes> = Commands::new();
        commands.register("exit", "", 0, 0, |wishes, _| {
            wishes.exiting = true;
            Ok(Output::empty())
        });
        register(&mut commands);
        Control {
            server: detached.then(open),
            commands,
            wishes: Wishes::default(),
        }
    }

    /// The next message from the server, however long it takes; None when the client is to exit.
    /// The end of the connection is the end of the program.
    pub fn receive(&mut self, rpc: &mut Rpc) -> Option<Msg> {
        let mut poller = Poller::new();
        loop {
            if let Some(server) = &mut self.server {
                server.run(&mut self.commands, &mut self.wishes);
            }
            for request in self.wishes.requests.drain(..) {
                rpc.connection.send(&request);
            }
            if self.wishes.exiting {
                if let Some(server) = &mut self.server {
                    server.flush();
                }
                return None;
            }
            if !self.wishes.blocked {
                match rpc.connection.recv() {
                    Ok(Some(Msg::Request { method, params, id })) if method == "echo" => {
                        rpc.connection.send(&Msg::reply(Value::Array(params), id));
                        continue;
                    }
                    Ok(Some(msg)) => return Some(msg),
                    Ok(None) => {}
                    Err(e) => {
                        let text = error_text(&e);
                        fatal(format_args!("{}: receive failed ({text})", rpc.name));
                    }
                }
            }
            rpc.connection.run();
            rpc.connection.wait(&mut poller);
            if !self.wishes.blocked {
                rpc.connection.recv_wait(&mut poller);
            }
            if let Some(server) = &self.server {
                server.wait(&mut poller);
            }
            poller.block();
        }
    }
}
