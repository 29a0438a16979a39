//! Our ovsdb-server beside Open vSwitch's: random schemas, transactions and conversions, and bad input.

mod bad_input;
mod compare;
mod peer;
mod random;
