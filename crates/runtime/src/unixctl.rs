//! The control socket: JSON-RPC 1.0 requests from ovs-appctl over a Unix domain socket.
//!
//! [`Commands`] is the table of what a program can be asked; [`Server`] takes requests one at a
//! time from each connection and calls the handlers on the main thread, with the application's
//! state. A handler answers at once, or keeps a [`Responder`] and answers later, as `time/warp`
//! does. [`Client`] is the other side.

mod builtin;
mod client;
mod framing;
mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_sync::Seq;
use serde_json::Value;

pub use client::{Client, target_path};
pub use server::Server;

/// How a client wants its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Text; a newline is added if the last line has none.
    Text(String),
    /// A JSON value, for [`Format::Json`].
    Json(Value),
    /// Nothing yet: the handler has taken a [`Responder`].
    Deferred,
}

impl Output {
    /// No text.
    pub fn empty() -> Output {
        Output::Text(String::new())
    }
}

impl From<String> for Output {
    fn from(s: String) -> Output {
        Output::Text(s)
    }
}

impl From<&str> for Output {
    fn from(s: &str) -> Output {
        Output::Text(s.to_string())
    }
}

/// The answer to a request: output, or the text of an error.
pub type Reply = Result<Output, String>;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The command's name and its arguments.
    pub argv: Vec<String>,
    /// How the client wants the answer.
    pub format: Format,
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    reply: Mutex<Option<Reply>>,
    changed: Seq,
}

impl Request {
    fn new(argv: Vec<String>, format: Format) -> Request {
        Request {
            argv,
            format,
            slot: Arc::default(),
        }
    }

    /// Argument `n`, 1 being the first after the command's name.
    pub fn arg(&self, n: usize) -> Option<&str> {
        self.argv.get(n).map(String::as_str)
    }

    /// Takes the right to answer later; the handler then returns [`Output::Deferred`].
    pub fn responder(&self) -> Responder {
        Responder {
            slot: self.slot.clone(),
            done: false,
        }
    }
}

/// The right to answer one request, from any thread. Dropped unused, it answers with an error.
#[derive(Debug)]
pub struct Responder {
    slot: Arc<Slot>,
    done: bool,
}

impl Responder {
    /// Answers.
    pub fn reply(mut self, reply: Reply) {
        self.put(reply);
    }

    fn put(&mut self, reply: Reply) {
        if !self.done {
            self.done = true;
            *self
                .slot
                .reply
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(reply);
            self.slot.changed.change();
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.put(Err("command was not completed".to_string()));
    }
}

type Handler<S> = Box<dyn FnMut(&mut S, &Request) -> Reply>;

struct Command<S> {
    usage: Option<&'static str>,
    min: usize,
    max: usize,
    handler: Handler<S>,
}

/// The commands of a program, over its state `S`.
pub struct Commands<S> {
    table: BTreeMap<&'static str, Command<S>>,
}

impl<S> std::fmt::Debug for Commands<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.table.keys()).finish()
    }
}

impl<S> Default for Commands<S> {
    fn default() -> Self {
        Commands::new()
    }
}

impl<S> Commands<S> {
    /// The commands that every daemon has: `list-commands`, `version`, `set-options`, `vlog/*` and
    /// `coverage/*`.
    pub fn new() -> Commands<S> {
        let mut c = Commands {
            table: BTreeMap::new(),
        };
        // These three are answered by the server itself: they need the table or the connection.
        let unreachable = |_: &mut S, _: &Request| -> Reply { Ok(Output::empty()) };
        c.register("list-commands", "", 0, 0, unreachable);
        c.register("version", "", 0, 0, |_, _| {
            Ok(crate::version::line(crate::dirs::program_name()).into())
        });
        c.register("set-options", "[--format text|json]", 2, 2, unreachable);
        builtin::register(&mut c);
        c
    }

    /// Adds a command that takes `min` to `max` arguments.
    pub fn register(
        &mut self,
        name: &'static str,
        usage: &'static str,
        min: usize,
        max: usize,
        handler: impl FnMut(&mut S, &Request) -> Reply + 'static,
    ) {
        self.insert(name, Some(usage), min, max, Box::new(handler));
    }

    /// Adds a command that `list-commands` does not show.
    pub fn register_hidden(
        &mut self,
        name: &'static str,
        min: usize,
        max: usize,
        handler: impl FnMut(&mut S, &Request) -> Reply + 'static,
    ) {
        self.insert(name, None, min, max, Box::new(handler));
    }

    fn insert(
        &mut self,
        name: &'static str,
        usage: Option<&'static str>,
        min: usize,
        max: usize,
        handler: Handler<S>,
    ) {
        // The first registration counts, so that a program can replace nothing by accident.
        self.table.entry(name).or_insert(Command {
            usage,
            min,
            max,
            handler,
        });
    }

    /// Names and usages of the commands that are shown, by name.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.table
            .iter()
            .filter_map(|(name, c)| Some((*name, c.usage?)))
    }

    /// The text of `list-commands`.
    pub fn list_text(&self) -> String {
        let mut s = String::from("The available commands are:\n");
        for (name, usage) in self.list() {
            s.push_str(&format!("  {name:<23} {usage}\n"));
        }
        s
    }

    fn list_json(&self) -> Value {
        Value::Object(
            self.list()
                .map(|(n, u)| (n.to_string(), Value::from(u)))
                .collect(),
        )
    }

    /// Runs a request whose arguments are all strings.
    fn call(&mut self, state: &mut S, request: &Request) -> Reply {
        let name = request.argv[0].as_str();
        let given = request.argv.len() - 1;
        let Some(command) = self.table.get_mut(name) else {
            return Err(format!(
                "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid \
                 commands)"
            ));
        };
        if given < command.min {
            return Err(format!(
                "\"{name}\" command requires at least {} arguments",
                command.min
            ));
        }
        if given > command.max {
            return Err(format!(
                "\"{name}\" command takes at most {} arguments",
                command.max
            ));
        }
        if name == "list-commands" {
            return Ok(match request.format {
                Format::Text => Output::Text(self.list_text()),
                Format::Json => Output::Json(self.list_json()),
            });
        }
        (command.handler)(state, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_commands_and_argument_counts_are_told_as_open_vswitch_does() {
        let mut c: Commands<()> = Commands::new();
        c.register("a/b", "X", 1, 2, |_, r| Ok(r.argv[1].clone().into()));
        let mut call = |argv: &[&str]| {
            let argv = argv.iter().map(|s| s.to_string()).collect();
            c.call(&mut (), &Request::new(argv, Format::Text))
        };
        assert_eq!(call(&["a/b", "x"]), Ok(Output::Text("x".into())));
        assert_eq!(
            call(&["a/b"]).unwrap_err(),
            "\"a/b\" command requires at least 1 arguments"
        );
        assert_eq!(
            call(&["a/b", "1", "2", "3"]).unwrap_err(),
            "\"a/b\" command takes at most 2 arguments"
        );
        assert_eq!(
            call(&["nosuch"]).unwrap_err(),
            "\"nosuch\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        );
    }
}
