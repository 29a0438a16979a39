//! Capture files in the classic pcap format, as tcpdump reads them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use ferrovs_runtime::vlog::modules::PCAP;
use ferrovs_runtime::{clock, text, vlog};

/// Appends frames to a capture file.
#[derive(Debug)]
pub struct PcapWriter(Mutex<File>);

impl PcapWriter {
    /// Opens a file to append to; a file that is new gets its header. A failure is logged.
    pub fn append(path: &str) -> Option<PcapWriter> {
        let open = || -> std::io::Result<File> {
            let mut f = OpenOptions::new().append(true).create(true).open(path)?;
            if f.metadata()?.len() == 0 {
                f.write_all(&header())?;
            }
            Ok(f)
        };
        match open() {
            Ok(f) => Some(PcapWriter(Mutex::new(f))),
            Err(e) => {
                let why = text::errno(&e);
                vlog::warn!(
                    PCAP,
                    "{path}: failed to open pcap file for appending ({why})"
                );
                None
            }
        }
    }

    /// Adds a frame, stamped with the present time.
    pub fn write(&self, frame: &[u8]) {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let len = frame.len() as u32;
        let mut record = Vec::with_capacity(16 + frame.len());
        for word in [now.as_secs() as u32, now.subsec_micros(), len, len] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        record.extend_from_slice(frame);
        // A full disk loses the capture, not the traffic.
        let _ = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&record);
    }
}

fn header() -> [u8; 24] {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const SNAPLEN: u32 = 1518;
    const LINKTYPE_ETHERNET: u32 = 1;
    let mut h = [0; 24];
    h[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    h[4..6].copy_from_slice(&2u16.to_ne_bytes());
    h[6..8].copy_from_slice(&4u16.to_ne_bytes());
    h[16..20].copy_from_slice(&SNAPLEN.to_ne_bytes());
    h[20..].copy_from_slice(&LINKTYPE_ETHERNET.to_ne_bytes());
    h
}
