//! Flow keys and masks, written and read.
//!
//! A key is written attribute by attribute (`eth(..)`, `ipv4(..)`). Each attribute is one row of [`ATTRIBUTES`], in the
//! order in which they are written, in the file of its family: which packets have it, how it is written and read, and
//! how a message about a wrong key repeats it. [`fit`] checks that the attributes of a key belong together.

use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::eth_type;

use super::{FieldWriter, PortNames, members};
use crate::id::Ufid;

mod connection;
mod fit;
mod link;
mod metadata;
mod network;
mod transport;

pub use fit::{Misfit, packet_from_text};

/// Whether a key must have an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It may be there or not, whatever the packet is.
    Free,
    /// The packets that have it must have it in their key.
    Must,
    /// The packets that have it may have it in their key.
    May,
}

/// One attribute.
struct Attribute {
    name: &'static str,
    /// Its bit in sets of attributes.
    bit: u64,
    presence: Presence,
    /// Whether a packet with that key has it.
    of: fn(&Flow) -> bool,
    /// Writes it, unless its mask is wild and that is not asked for.
    print: fn(&mut Printer<'_, '_>, &Attribute),
    /// Reads what is inside the parentheses, and the closing one.
    read: fn(&mut ParsedKey, &mut Cursor<'_>, Option<&PortNames>) -> Option<()>,
    written: Written,
}

/// How an attribute that was read is repeated.
enum Written {
    /// As it was read, without masks.
    AsRead,
    /// With this in parentheses.
    Inside(fn(&mut String, &ParsedKey)),
}

/// Every attribute but `encap`, which is what a VLAN tag encloses.
static ATTRIBUTES: [&Attribute; 29] = [
    &metadata::RECIRC_ID,
    &metadata::DP_HASH,
    &metadata::SKB_PRIORITY,
    &metadata::TUNNEL,
    &metadata::IN_PORT,
    &metadata::SKB_MARK,
    &connection::STATE,
    &connection::ZONE,
    &connection::MARK,
    &connection::LABEL,
    &connection::TUPLE4,
    &connection::TUPLE6,
    &link::PACKET_TYPE,
    &link::ETHERNET,
    &link::VLAN,
    &link::ETHERTYPE,
    &network::IPV4,
    &network::IPV6,
    &network::ARP,
    &network::MPLS,
    &network::NSH,
    &transport::TCP,
    &transport::TCP_FLAGS,
    &transport::UDP,
    &transport::SCTP,
    &transport::ICMP,
    &transport::ICMPV6,
    &transport::ND,
    &transport::ND_EXT,
];

/// Bits of the attributes in sets.
mod attr {
    pub const RECIRC_ID: u64 = 1 << 0;
    pub const DP_HASH: u64 = 1 << 1;
    pub const SKB_PRIORITY: u64 = 1 << 2;
    pub const TUNNEL: u64 = 1 << 3;
    pub const IN_PORT: u64 = 1 << 4;
    pub const SKB_MARK: u64 = 1 << 5;
    pub const CT_STATE: u64 = 1 << 6;
    pub const CT_ZONE: u64 = 1 << 7;
    pub const CT_MARK: u64 = 1 << 8;
    pub const CT_LABEL: u64 = 1 << 9;
    pub const CT_TUPLE: u64 = 1 << 10;
    pub const PACKET_TYPE: u64 = 1 << 11;
    pub const ETHERNET: u64 = 1 << 12;
    pub const VLAN: u64 = 1 << 13;
    pub const ETHERTYPE: u64 = 1 << 14;
    pub const IPV4: u64 = 1 << 15;
    pub const IPV6: u64 = 1 << 16;
    pub const ARP: u64 = 1 << 17;
    pub const MPLS: u64 = 1 << 18;
    pub const NSH: u64 = 1 << 19;
    pub const TCP: u64 = 1 << 20;
    pub const TCP_FLAGS: u64 = 1 << 21;
    pub const UDP: u64 = 1 << 22;
    pub const SCTP: u64 = 1 << 23;
    pub const ICMP: u64 = 1 << 24;
    pub const ICMPV6: u64 = 1 << 25;
    pub const ND: u64 = 1 << 26;
    pub const ND_EXT: u64 = 1 << 27;
}

const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;

/// A key as it was written.
#[derive(Clone, Debug, Default)]
pub struct ParsedKey {
    pub ufid: Option<Ufid>,
    pub flow: Flow,
    pub wc: FlowWildcards,
    seen: u64,
    /// An ARP operation that does not fit the key.
    unknown_arp: Option<u16>,
    /// The attributes that were read, each as the datapath writes it, without masks.
    written: String,
    /// What `seen` has of the attributes between the innermost parentheses of `encap`.
    level: u64,
    /// An attribute that was there twice.
    repeated: Option<String>,
    encaps: usize,
}

/// Why a key could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("syntax error at {0}")]
    Syntax(String),
    #[error("parsing flow ufid")]
    Ufid,
}

/// Separators between attributes.
const DELIMITERS: [char; 5] = [',', ' ', '\t', '\r', '\n'];
/// How deep `encap(..)` may nest.
const MAX_ENCAPS: usize = 3;

/// Reads a key with optional masks: attributes that are absent are wholly wildcarded, members of an attribute
/// that are absent too.
pub fn parse_key(input: &str, names: Option<&PortNames>) -> Result<ParsedKey, KeyError> {
    parse(input, names, true)
}

fn parse(input: &str, names: Option<&PortNames>, masks: bool) -> Result<ParsedKey, KeyError> {
    let mut out = ParsedKey::default();
    let mut c = Cursor::new(input);
    c.skip_any(&DELIMITERS);
    if c.eat("ufid:") {
        let id = c.take_while(|b| b.is_ascii_hexdigit() || b == b'-');
        out.ufid = Some(Ufid::parse(id).ok_or(KeyError::Ufid)?);
    }
    out.flow.in_port = u32::MAX;
    loop {
        c.skip_any(&DELIMITERS);
        if c.is_empty() {
            break;
        }
        let at = c.rest();
        let read = out.attribute(&mut c, names);
        let text = &at[..at.len() - c.rest().len()];
        if read.is_none() || !masks && text.contains('/') {
            return Err(KeyError::Syntax(at.to_owned()));
        }
    }
    if out.seen & attr::ETHERTYPE == 0 && out.flow.packet_type.get() == 0 {
        out.flow.dl_type = eth_type::NOT_ETH.into();
    }
    Ok(out)
}

fn is_vlan(ty: u16) -> bool {
    matches!(ty, eth_type::VLAN_8021Q | eth_type::VLAN_8021AD)
}

impl ParsedKey {
    fn attribute(&mut self, c: &mut Cursor<'_>, names: Option<&PortNames>) -> Option<()> {
        let name = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name == "encap" {
            return self.encap(c, names);
        }
        let members = c.rest();
        c.expect("(")?;
        let attribute = ATTRIBUTES.iter().find(|a| a.name == name)?;
        (attribute.read)(self, c, names)?;
        if self.level & attribute.bit != 0 {
            self.repeated.get_or_insert_with(|| name.to_owned());
        }
        self.level |= attribute.bit;
        self.seen |= attribute.bit;
        self.write_attribute(attribute, &members[..members.len() - c.rest().len()]);
        Some(())
    }

    /// Adds the attribute that was just read to what was written.
    fn write_attribute(&mut self, attribute: &Attribute, members: &str) {
        let mut out = std::mem::take(&mut self.written);
        if !matches!(out.as_bytes().last(), None | Some(b'(')) {
            out.push(',');
        }
        out.push_str(attribute.name);
        match attribute.written {
            Written::Inside(write) => {
                out.push('(');
                write(&mut out, self);
                out.push(')');
            }
            Written::AsRead => {
                let mut in_mask = false;
                let without_masks = members.chars().filter(|&c| {
                    in_mask = c == '/' || in_mask && !matches!(c, ',' | ')');
                    !in_mask
                });
                out.extend(without_masks);
            }
        }
        self.written = out;
    }

    fn encap(&mut self, c: &mut Cursor<'_>, names: Option<&PortNames>) -> Option<()> {
        c.expect("(")?;
        self.encaps += 1;
        if self.encaps > MAX_ENCAPS {
            return None;
        }
        self.written.push_str(",encap(");
        let around = std::mem::take(&mut self.level);
        loop {
            c.skip_any(&DELIMITERS);
            if c.eat(")") {
                self.written.push(')');
                self.level = around;
                return Some(());
            }
            self.attribute(c, names)?;
        }
    }

    /// The key as it was written, without masks.
    pub fn written(&self) -> &str {
        match &*self.written {
            "" => "<empty>",
            text => text,
        }
    }

    /// Whether it names its port, wholly.
    pub fn has_exact_port(&self) -> bool {
        self.seen & attr::IN_PORT != 0 && self.wc.masks.in_port == u32::MAX
    }
}

/// A number with an optional mask, and the closing parenthesis.
fn masked(c: &mut Cursor<'_>, full: u64) -> Option<(u64, u64)> {
    let read = c.masked(full)?;
    c.expect(")")?;
    Some(read)
}

/// As [`masked`], of 32 bits.
fn masked32(c: &mut Cursor<'_>) -> Option<(u32, u32)> {
    let (value, mask) = masked(c, U32)?;
    Some((value as u32, mask as u32))
}

struct Printer<'a, 'b> {
    out: &'a mut String,
    k: &'b Flow,
    m: &'b Flow,
    names: Option<&'b PortNames>,
    verbose: bool,
    /// Whether the key has no masks at all.
    exact: bool,
    /// VLAN tags that enclose what follows.
    encaps: usize,
    /// Nothing follows.
    ended: bool,
}

/// Prints a key; without `wc` it is exact in every member that it has.
pub fn format_match(
    out: &mut String,
    flow: &Flow,
    wc: Option<&FlowWildcards>,
    names: Option<&PortNames>,
    verbose: bool,
) {
    let exact;
    let masks = match wc {
        Some(wc) => &wc.masks,
        None => {
            let mut all = Flow::default();
            all.words_mut().fill(u64::MAX);
            exact = all;
            &exact
        }
    };
    let mut p = Printer {
        out,
        k: flow,
        m: masks,
        names,
        verbose,
        exact: wc.is_none(),
        encaps: 0,
        ended: false,
    };
    for attribute in &ATTRIBUTES {
        if !p.ended && (attribute.of)(flow) {
            (attribute.print)(&mut p, attribute);
        }
    }
    p.out.extend(std::iter::repeat_n(')', p.encaps));
}

impl Printer<'_, '_> {
    fn comma(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b' ' | b'(' | b'\n')) {
            self.out.push(',');
        }
    }

    /// `name(value/mask)` for a number.
    fn number(&mut self, name: &str, value: u64, mask: u64, full: u64) {
        if mask == 0 && !self.verbose {
            return;
        }
        self.comma();
        self.out.push_str(name);
        self.out.push('(');
        members::write_masked(self.out, value, mask, full);
        self.out.push(')');
    }

    /// `name(members)`, unless all are wild.
    fn members(&mut self, name: &str, wild: bool, write: impl FnOnce(&mut FieldWriter<'_>)) {
        if wild && !self.verbose {
            return;
        }
        self.comma();
        self.out.push_str(name);
        self.out.push('(');
        write(&mut FieldWriter::new(self.out, self.verbose));
        self.out.push(')');
    }

    /// `name(..)`, with whatever `write` puts inside.
    fn inside(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        self.comma();
        self.out.push_str(name);
        self.out.push('(');
        write(self.out);
        self.out.push(')');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_tell_attributes_apart() {
        for (i, a) in ATTRIBUTES.iter().enumerate() {
            for b in &ATTRIBUTES[..i] {
                assert_ne!(a.name, b.name);
                // A packet has one of the two tuples.
                let tuples = a.bit == attr::CT_TUPLE && b.bit == attr::CT_TUPLE;
                assert!(a.bit != b.bit || tuples, "{} {}", a.name, b.name);
            }
            assert_eq!(a.bit.count_ones(), 1);
        }
    }
}
