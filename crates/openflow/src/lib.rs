//! OpenFlow 1.0 to 1.5 with Nicira's extensions: messages as values, their bytes and their text.
//!
//! * [`message`] is what two parties say ([`Msg`](message::Msg), [`Message`](message::Message)); the bodies are
//!   in [`flow`], [`packet_in`], [`port`], [`group`], [`meter`], [`switch`], the actions in [`action`].
//! * [`raw`] numbers the messages per version, [`error`] the errors.
//!
//! Everything here is pure: no socket, no clock, no state. Malformed bytes give an [`error::OfpErr`], malformed
//! text gives Open vSwitch's message; neither panics.

#![forbid(unsafe_code)]

pub mod action;
pub mod codec;
pub mod error;
pub mod flow;
pub mod group;
pub mod legacy;
pub mod message;
pub mod meter;
pub mod oxm;
pub mod packet_in;
pub mod port;
pub mod raw;
pub mod switch;
pub mod text;
pub mod tun;
pub mod version;
pub mod warn;
pub mod wire;

pub use action::Action;
pub use error::OfpErr;
pub use message::{Message, Msg};
pub use version::{Protocol, Version, Versions};
