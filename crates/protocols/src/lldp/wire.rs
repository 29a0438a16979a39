//! LLDP frames (IEEE 802.1AB), with the two TLVs of Auto Attach (IEEE 802.1Qcj drafts, organisation 00:04:0d).
//!
//! ```text
//!   01:80:c2:00:00:0e | source | 88cc | TLV ... | 0000
//!   TLV: type (7 bits), length (9 bits), value
//!
//!   element    00040d 0b | digest, 32 bytes | type (6) state (6) VLAN (12) 0 (8) | system id
//!   system id  MAC | connection (3) 0 (1) SMLT (12) | MLT, 2 bytes
//!   mappings   00040d 0c | digest, 32 bytes | { status (4) VLAN (12) I-SID (24) } ...
//! ```
//!
//! Digests are not used: zeros. What is read is checked before it is looked at: a TLV never reaches beyond the frame,
//! nor a field beyond its TLV.

use ferrovs_packet::types::MacAddr;

use super::{Mapping, MappingStatus};

/// Where LLDP frames go: no bridge forwards it.
const DESTINATION: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
const ETH_HEADER_LEN: usize = 14;
const ETH_TYPE: [u8; 2] = [0x88, 0xcc];
/// Where the Ethernet type is, and the length of a VLAN tag before it.
const ETH_TYPE_AT: usize = 12;
const VLAN_LEN: usize = 4;
const VLAN_TYPES: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
/// What is shorter is discarded without a word.
const MIN_LEN: usize = ETH_HEADER_LEN + 4;
/// A management address is not longer, its type included.
const MAX_MANAGEMENT_LEN: usize = 32;

const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TTL: u8 = 3;
const PORT_DESCR: u8 = 4;
const SYSTEM_NAME: u8 = 5;
const SYSTEM_DESCR: u8 = 6;
const CAPABILITIES: u8 = 7;
const MANAGEMENT: u8 = 8;
const ORGANISATION: u8 = 127;

const CHASSIS_ID_MAC: u8 = 4;
const PORT_ID_IFNAME: u8 = 5;
/// Able to be a bridge, and one.
const BRIDGE: [u8; 4] = [0, 4, 0, 4];

const AUTO_ATTACH: [u8; 3] = [0x00, 0x04, 0x0d];
const ELEMENT: u8 = 11;
const MAPPINGS: u8 = 12;
const DIGEST: [u8; 32] = [0; 32];
/// Organisation, subtype and digest.
const AA_HEADER_LEN: usize = 4 + DIGEST.len();
const ELEMENT_LEN: usize = AA_HEADER_LEN + 14;
const MAPPING_LEN: usize = 5;
/// What an element says it is: a virtual switch.
const VIRTUAL_SWITCH: u32 = 14;

/// What a frame of ours says.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub mac: MacAddr,
    pub port: &'a str,
    pub ttl_s: u16,
    pub system_name: Option<&'a str>,
    pub system_description: &'a str,
    pub mappings: &'a [Mapping],
}

impl Outgoing<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.extend(DESTINATION);
        out.extend(self.mac.0);
        out.extend(ETH_TYPE);
        put(&mut out, CHASSIS_ID, &[&[CHASSIS_ID_MAC], &self.mac.0]);
        put(
            &mut out,
            PORT_ID,
            &[&[PORT_ID_IFNAME], self.port.as_bytes()],
        );
        put(&mut out, TTL, &[&self.ttl_s.to_be_bytes()]);
        if let Some(name) = self.system_name {
            put(&mut out, SYSTEM_NAME, &[name.as_bytes()]);
        }
        put(
            &mut out,
            SYSTEM_DESCR,
            &[self.system_description.as_bytes()],
        );
        put(&mut out, CAPABILITIES, &[&BRIDGE]);
        let element = (VIRTUAL_SWITCH << 26).to_be_bytes();
        put(
            &mut out,
            ORGANISATION,
            &[
                &AUTO_ATTACH,
                &[ELEMENT],
                &DIGEST,
                &element,
                &self.mac.0,
                &[0; 4],
            ],
        );
        // As many as a TLV holds.
        let most = (MAX_TLV_LEN - AA_HEADER_LEN) / MAPPING_LEN;
        let mappings: Vec<u8> = self.mappings.iter().take(most).flat_map(word).collect();
        if !mappings.is_empty() {
            let parts: [&[u8]; 4] = [&AUTO_ATTACH, &[MAPPINGS], &DIGEST, &mappings];
            put(&mut out, ORGANISATION, &parts);
        }
        put(&mut out, END, &[]);
        out
    }
}

/// A mapping as the wire has it.
fn word(m: &Mapping) -> [u8; MAPPING_LEN] {
    let [a, b] = (m.vlan & 0xfff).to_be_bytes();
    let [_, c, d, e] = m.isid.to_be_bytes();
    // Nobody has decided about it yet.
    [a, b, c, d, e]
}

const MAX_TLV_LEN: usize = 0x1ff;

/// Adds a TLV; what does not fit into its length is cut off.
fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let at = out.len();
    out.extend([0; 2]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    let len = (out.len() - at - 2).min(MAX_TLV_LEN);
    out.truncate(at + 2 + len);
    let header = u16::from(kind) << 9 | len as u16;
    out[at..at + 2].copy_from_slice(&header.to_be_bytes());
}

/// What a neighbour's frame says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Subtype and identifier.
    pub chassis: Vec<u8>,
    pub port: Vec<u8>,
    pub system_description: Option<Vec<u8>>,
    pub element: Option<Element>,
    pub mappings: Vec<MappingStatus>,
}

/// What a neighbour is to Auto Attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub kind: u8,
    pub vlan_tagging: bool,
    pub auto_provision: u8,
    pub management_vlan: u16,
    pub mac: MacAddr,
    pub connection: u8,
    pub smlt: u16,
    pub mlt: [u8; 2],
}

/// What is odd about a frame, but no reason to discard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A TLV of a type that is not known.
    UnknownTlv(u8),
    /// A TLV of an organisation that is not known.
    UnknownOrganisation,
    /// A TLV of Auto Attach that is not known.
    UnknownSubtype,
    Element(Element),
}

/// Why a frame is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    TooShort,
    TlvHeader,
    TlvBeyondFrame,
    /// A TLV that must be at a certain place is at this one.
    Place(u8, usize),
    Id,
    Ttl,
    End,
    Capabilities,
    Management,
    ManagementAddress,
    Organisation,
    Element,
    Mappings,
    MappingsOdd,
    Missing,
}

impl Malformed {
    /// What the log says about a frame that came through `port`, if anything, and whether it is a warning.
    pub fn text(self, port: &str) -> Option<(bool, String)> {
        let on = |what: &str| format!("{what} received on {port}");
        let text = match self {
            Malformed::TooShort => return None,
            Malformed::TlvHeader => on("tlv header too short"),
            Malformed::TlvBeyondFrame => on("frame too short for tlv"),
            Malformed::Place(kind, at) => {
                let (what, place) = match kind {
                    CHASSIS_ID => ("Chassis ID", "first"),
                    PORT_ID => ("Port ID", "second"),
                    _ => ("TTL", "third"),
                };
                format!("{what} TLV should be {place} on {port}, but it is on position {at}")
            }
            Malformed::Id => on("Port/Chassis Id TLV too short"),
            Malformed::Ttl => on("TTL TLV too short"),
            Malformed::End => format!("lldp end received with size not null on {port}"),
            Malformed::Capabilities => on("System capabilities TLV too short"),
            Malformed::Management => on("Management address TLV too short"),
            Malformed::ManagementAddress => format!("invalid management address length on {port}"),
            Malformed::Organisation => on("Organisational TLV too short"),
            Malformed::Element => on("ELEMENT TLV too short"),
            Malformed::Mappings => on("ISID_VLAN_ASGNS TLV too short"),
            Malformed::MappingsOdd => {
                return Some((false, "malformed vlan-isid mappings tlv received".into()));
            }
            Malformed::Missing => {
                format!("some mandatory tlv are missing for frame received on {port}")
            }
        };
        Some((true, text))
    }
}

/// Reads a frame; what is odd about it goes to `remarks`.
pub fn decode(frame: &[u8], remarks: &mut Vec<Remark>) -> Result<Incoming, Malformed> {
    if frame.len() < MIN_LEN {
        return Err(Malformed::TooShort);
    }
    let mut rest = payload(frame);
    let mut got = Incoming::default();
    let (mut has_ttl, mut has_end) = (false, false);
    let mut place = 0;
    while !rest.is_empty() && !has_end {
        let (&header, after) = rest.split_first_chunk().ok_or(Malformed::TlvHeader)?;
        let header = u16::from_be_bytes(header);
        let (kind, len) = ((header >> 9) as u8, usize::from(header & 0x1ff));
        let (value, after) = after
            .split_at_checked(len)
            .ok_or(Malformed::TlvBeyondFrame)?;
        rest = after;
        place += 1;
        match kind {
            END if len > 0 => return Err(Malformed::End),
            END => has_end = true,
            CHASSIS_ID..=TTL if place != usize::from(kind) => {
                return Err(Malformed::Place(kind, place));
            }
            CHASSIS_ID | PORT_ID if len < 2 => return Err(Malformed::Id),
            CHASSIS_ID => got.chassis = value.to_vec(),
            PORT_ID => got.port = value.to_vec(),
            TTL if len < 2 => return Err(Malformed::Ttl),
            TTL => has_ttl = true,
            PORT_DESCR | SYSTEM_NAME => {}
            SYSTEM_DESCR => got.system_description = Some(value.to_vec()),
            CAPABILITIES if len < BRIDGE.len() => return Err(Malformed::Capabilities),
            CAPABILITIES => {}
            MANAGEMENT => check_management(value)?,
            ORGANISATION => organisation(value, &mut got, remarks)?,
            other => remarks.push(Remark::UnknownTlv(other)),
        }
    }
    let is_whole = !got.chassis.is_empty() && !got.port.is_empty() && has_ttl && has_end;
    is_whole.then_some(got).ok_or(Malformed::Missing)
}

/// What comes after the Ethernet header and VLAN tags.
fn payload(frame: &[u8]) -> &[u8] {
    let mut at = ETH_TYPE_AT;
    while VLAN_TYPES.iter().any(|t| frame.get(at..at + 2) == Some(t)) {
        at += VLAN_LEN;
    }
    frame.get(at + 2..).unwrap_or_default()
}

/// A management address must be as long as it says: its length, it, what kind of interface, and which.
fn check_management(value: &[u8]) -> Result<(), Malformed> {
    let len = usize::from(*value.first().ok_or(Malformed::Management)?);
    if len == 0 || len > MAX_MANAGEMENT_LEN {
        return Err(Malformed::ManagementAddress);
    }
    (value.len() > len + 1 + 4)
        .then_some(())
        .ok_or(Malformed::Management)
}

fn organisation(
    value: &[u8],
    got: &mut Incoming,
    remarks: &mut Vec<Remark>,
) -> Result<(), Malformed> {
    let Some(&[a, b, c, subtype]) = value.first_chunk() else {
        return Err(Malformed::Organisation);
    };
    if [a, b, c] != AUTO_ATTACH {
        remarks.push(Remark::UnknownOrganisation);
        return Ok(());
    }
    match subtype {
        ELEMENT => {
            let element = value
                .get(AA_HEADER_LEN..ELEMENT_LEN)
                .and_then(|e| e.first_chunk())
                .ok_or(Malformed::Element)?;
            let element = decode_element(element);
            remarks.push(Remark::Element(element));
            got.element = Some(element);
        }
        MAPPINGS => {
            let list = value.get(AA_HEADER_LEN..).ok_or(Malformed::Mappings)?;
            if list.len() % MAPPING_LEN != 0 {
                return Err(Malformed::MappingsOdd);
            }
            let (words, _) = list.as_chunks();
            got.mappings.extend(words.iter().map(decode_mapping));
        }
        _ => remarks.push(Remark::UnknownSubtype),
    }
    Ok(())
}

fn decode_element(bytes: &[u8; 14]) -> Element {
    let [a, b, c, _, mac @ .., f, g, h, i] = *bytes;
    let word = u32::from_be_bytes([0, a, b, c]);
    let state = word >> 12 & 0x3f;
    let id = u16::from_be_bytes([f, g]);
    Element {
        kind: (word >> 18) as u8,
        vlan_tagging: state >> 5 != 0,
        auto_provision: (state >> 3 & 3) as u8,
        management_vlan: (word & 0xfff) as u16,
        mac: MacAddr(mac),
        connection: (id >> 13) as u8,
        smlt: id & 0xfff,
        mlt: [h, i],
    }
}

fn decode_mapping(&[a, b, c, d, e]: &[u8; MAPPING_LEN]) -> MappingStatus {
    MappingStatus {
        status: a >> 4,
        vlan: u16::from_be_bytes([a & 0xf, b]),
        isid: u32::from_be_bytes([0, c, d, e]),
    }
}
