//! Tests of whole programs: see `tests/daemons.rs`.
#![forbid(unsafe_code)]
