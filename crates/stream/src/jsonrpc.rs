//! JSON-RPC 1.0 over streams (RFC 7047 section 4): messages, connections, sessions.
//!
//! A [`Connection`] turns one stream into messages and back and never blocks: what cannot be sent
//! waits in a backlog that is bounded if the owner says so, and a peer that sends junk gets
//! disconnected with the reason in the log. What a message may take is limited ([`Limits`]). A [`Session`] keeps a connection up: it reconnects,
//! listens for passive names, answers and sends echo requests.

mod connection;
mod message;
mod session;

pub use connection::{Connection, Text};
pub use message::{Incoming, Limits, Msg};
pub use session::Session;

#[cfg(test)]
mod tests;
