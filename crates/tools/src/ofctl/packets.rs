//! Packets as flows: `parse-packet` from the standard input, `parse-pcap` from capture files.
//!
//! A capture file is a header (magic number, version, sizes, link type: 24 bytes) and records of
//! seconds, fraction, captured length, original length and the bytes captured, all in the byte
//! order of who wrote it. What is cut off in the middle of a record ends the file.

use std::fs::File;
use std::io::{self, BufReader, Read};

use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::key::format_flow;
use ferrovs_openflow::text::print::format_packet;
use ferrovs_openflow::tun::Tun;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, PT_ETH};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::vlog::modules;
use ferrovs_runtime::{dirs, fatal_io, vlog};
use ferrovs_stream::{eof_error, error_text, protocol_error};

use super::{Options, put};

pub fn parse_packet(_: &[String], _: &mut Options) {
    let mut bytes = Vec::new();
    // No packet is longer.
    let read = io::stdin().lock().take(65536).read_to_end(&mut bytes);
    if let Err(e) = read {
        fatal_io(&e, "failed to read packet from stdin");
    }
    let mut out = String::new();
    format_packet(&bytes, PT_ETH, &mut out);
    put(&out);
}

pub fn parse_pcap(args: &[String], _: &mut Options) {
    for name in args {
        let fail = |what: &str, e: &io::Error| -> ! {
            let program = dirs::program_name();
            eprintln!("{program}: {name}: {what} failed ({})", error_text(e));
            // The error's number is how the program ends.
            std::process::exit(e.raw_os_error().unwrap_or(255))
        };
        let mut file = Capture::open(name).unwrap_or_else(|e| fail("open", &e));
        while let Some(packet) = file.next().unwrap_or_else(|e| fail("read", &e)) {
            put(&format!("{}\n", flow_text(&packet)));
        }
    }
}

/// A packet as a flow that came from anywhere.
fn flow_text(packet: &[u8]) -> String {
    let mut flow = Flow::from_packet(&mut Packet::from_slice(packet));
    flow.in_port = OfPort::NONE.0.into();
    let tun = Tun::none();
    format_flow(&flow, &Names::none(&tun))
}

/// A capture file that is read.
pub(super) struct Capture {
    reader: BufReader<File>,
    big_endian: bool,
}

const ETHERNET: u32 = 1;

impl Capture {
    pub(super) fn open(name: &str) -> io::Result<Capture> {
        let file = File::open(name).inspect_err(|e| {
            let text = error_text(e);
            vlog::warn!(
                modules::PCAP,
                "{name}: failed to open pcap file for reading ({text})"
            );
        })?;
        let mut reader = BufReader::new(file);
        let mut header = [0; 24];
        if fill(&mut reader, &mut header)? < header.len() {
            vlog::warn!(modules::PCAP, "failed to read pcap header: End of file");
            return Err(eof_error());
        }
        let magic = word(&header, 0, false);
        let big_endian = match magic {
            0xa1b2_c3d4 | 0xa1b2_3c4d => false,
            0xd4c3_b2a1 | 0x4d3c_b2a1 => true,
            _ => {
                vlog::warn!(
                    modules::PCAP,
                    "bad magic 0x{magic:08x} reading pcap file (expected 0xa1b2c3d4, 0xa1b23c4d, \
                     0xd4c3b2a1, or 0x4d3cb2a1)"
                );
                return Err(protocol_error());
            }
        };
        let network = word(&header, 20, big_endian);
        if network != ETHERNET {
            vlog::warn!(
                modules::PCAP,
                "unknown network type {network} reading pcap file"
            );
            return Err(protocol_error());
        }
        Ok(Capture { reader, big_endian })
    }

    /// The next packet, if there is one.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; 16];
        if fill(&mut self.reader, &mut header)? < header.len() {
            return Ok(None);
        }
        let len = word(&header, 8, self.big_endian);
        if len > 65535 {
            let swapped = len.swap_bytes();
            vlog::warn!(
                modules::PCAP,
                "bad packet length {swapped} or {len} reading pcap file"
            );
            return Err(protocol_error());
        }
        let mut packet = vec![0; len as usize];
        if fill(&mut self.reader, &mut packet)? < packet.len() {
            vlog::warn!(modules::PCAP, "failed to read pcap packet: End of file");
            return Ok(None);
        }
        Ok(Some(packet))
    }
}

/// Reads as much as there is; how much that was.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    match big_endian {
        true => u32::from_be_bytes(word),
        false => u32::from_le_bytes(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_stands_behind_the_protocol() {
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        arp[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        assert!(flow_text(&arp).starts_with("arp,in_port=ANY,vlan_tci=0x0000,"));
        arp[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert!(flow_text(&arp).starts_with("in_port=ANY,vlan_tci=0x0000,"));
    }

    #[test]
    fn a_capture_that_is_cut_off_anywhere_just_ends() {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.resize(24, 0);
        bytes[20] = 1;
        bytes.extend([0; 8]);
        bytes.extend([20, 0, 0, 0, 20, 0, 0, 0]);
        bytes.extend([7; 20]);
        let path = std::env::temp_dir().join(format!("cut-{}.pcap", std::process::id()));
        for len in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let opened = Capture::open(path.to_str().unwrap());
            assert_eq!(opened.is_ok(), len >= 24);
            let packet = opened.ok().and_then(|mut file| file.next().unwrap());
            assert_eq!(packet, (len == bytes.len()).then(|| vec![7; 20]));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
