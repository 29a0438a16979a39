//! Arguments of single actions: conjunction, multipath, address translation, encapsulation.

use super::*;
use ferrovs_packet::field::parse_ipv4_prefix;

/// Packet type of `decap` that takes off whatever comes first.
const NEXT_PROTOCOL: u32 = 0xfffe;

pub(super) fn conjunction(v: &str) -> Result<Action, String> {
    let syntax = || "\"conjunction\" syntax is \"conjunction(id,i/n)\"".to_owned();
    let number = |s: &str| {
        let n = parse_u64(s.trim()).and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(syntax)
    };
    let (id, rest) = v.split_once(',').ok_or_else(syntax)?;
    let (clause, n) = rest.split_once('/').ok_or_else(syntax)?;
    let (id, clause, n) = (number(id)?, number(clause)?, number(n)?);
    if n < 2 {
        return Err("conjunction must have at least 2 clauses".to_owned());
    }
    if n > 64 {
        return Err("conjunction must have at most 64 clauses".to_owned());
    }
    if clause < 1 {
        return Err("clause index must be positive".to_owned());
    }
    if clause > n {
        return Err("clause index must be less than or equal to number of clauses".to_owned());
    }
    Ok(Action::Conjunction {
        id,
        clause: clause as u8 - 1,
        n_clauses: n as u8,
    })
}

pub(super) fn multipath(v: &str) -> Result<Action, String> {
    let w: Vec<&str> = words(v).collect();
    let [fields, basis, alg, n_links, arg, dst, ..] = w[..] else {
        return Err(format!("{v}: not enough arguments to multipath action"));
    };
    let hash =
        HashFields::from_name(fields).ok_or_else(|| format!("{v}: unknown fields `{fields}'"))?;
    let algorithm = MultipathAlgorithm::ALL
        .iter()
        .find(|f| f.1.eq_ignore_ascii_case(alg))
        .ok_or_else(|| format!("{v}: unknown algorithm `{alg}'"))?
        .0;
    let links = atoi(n_links);
    if !(1..=65536).contains(&links) {
        return Err(format!(
            "{v}: n_links {links} is not in valid range 1 to 65536"
        ));
    }
    let sf = SubField::parse(dst)?;
    if sf.n_bits < 16 && links > 1 << sf.n_bits {
        return Err(format!(
            "{v}: {}-bit destination field has {} possible values, less than specified n_links {links}",
            sf.n_bits,
            1u32 << sf.n_bits
        ));
    }
    Ok(Action::Multipath(Box::new(Multipath {
        fields: hash,
        basis: atoi(basis) as u16,
        algorithm,
        max_link: (links - 1) as u16,
        arg: atoi(arg) as u32,
        dst: sf,
    })))
}

pub(super) fn nat(v: &str) -> Result<Nat, String> {
    let mut n = Nat::default();
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "src" | "dst" => {
                if k == "src" {
                    n.snat = true;
                } else {
                    n.dnat = true;
                }
                if !val.is_empty() {
                    nat_range(val, &mut n)?;
                }
            }
            "persistent" => n.persistent = true,
            "hash" => n.proto_hash = true,
            "random" => n.proto_random = true,
            _ => return Err(format!("invalid key \"{k}\" in \"nat\" argument")),
        }
    }
    if n.snat && n.dnat {
        return Err("May only specify one of \"src\" or \"dst\".".to_owned());
    }
    if !n.snat && !n.dnat {
        if n.persistent {
            return Err("Flags allowed only with \"src\" or \"dst\".".to_owned());
        }
        if n.proto_hash || n.proto_random {
            return Err("Flags allowed only with \"src\" or \"dst\".".to_owned());
        }
    }
    if n.proto_hash && n.proto_random {
        return Err("Both \"hash\" and \"random\" are not allowed.".to_owned());
    }
    Ok(n)
}

/// `A[-B][:P[-Q]]`, IPv6 addresses in brackets if ports follow. As in Open vSwitch, characters of an address that
/// make none are passed over.
pub(super) fn nat_range(v: &str, n: &mut Nat) -> Result<(), String> {
    let invalid = || format!("invalid nat range \"{v}\"");
    let mut rest = v;
    if let Some((min, tail)) = parse_ipv4_prefix(rest) {
        let mut max = None;
        rest = tail;
        if let Some(tail) = rest.strip_prefix('-') {
            let (last, tail) = parse_ipv4_prefix(tail).ok_or_else(invalid)?;
            if last < min {
                return Err(invalid());
            }
            (max, rest) = (Some(last), tail);
        }
        if !min.is_unspecified() {
            n.range = NatRange::V4 { min, max };
        }
    } else {
        let (min, tail) = ipv6_prefix(rest);
        rest = tail;
        if let Some(min) = min {
            let mut max = None;
            if let Some(tail) = rest.strip_prefix('-') {
                let (last, tail) = ipv6_prefix(tail);
                let last = last.filter(|last| *last >= min).ok_or_else(invalid)?;
                (max, rest) = (Some(last), tail);
            }
            if !min.is_unspecified() {
                n.range = NatRange::V6 { min, max };
            }
        }
    }
    if let Some(ports) = rest.strip_prefix(':') {
        let (first, tail) = port_prefix(ports).ok_or_else(invalid)?;
        n.proto_min = first;
        rest = tail;
        if let Some(tail) = rest.strip_prefix('-') {
            let (last, tail) = port_prefix(tail).ok_or_else(invalid)?;
            if last < first {
                return Err(invalid());
            }
            n.proto_max = last;
            rest = tail;
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    let pos = v.len() - rest.len();
    Err(format!(
        "garbage ({rest}) after nat range \"{v}\" (pos: {pos})"
    ))
}

/// An IPv6 address at the front, which may be in brackets, and what follows its characters.
fn ipv6_prefix(s: &str) -> (Option<Ipv6Addr>, &str) {
    let address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let end = |s: &str| s.find(|c| !address(c)).unwrap_or(s.len());
    if let Some(inner) = s.strip_prefix('[') {
        let (text, tail) = inner.split_at(end(inner));
        if let Some(tail) = tail.strip_prefix(']') {
            return (text.parse().ok(), tail);
        }
    }
    let (text, tail) = s.split_at(end(s));
    (text.parse().ok(), tail)
}

/// A port at the front; like Open vSwitch, only the low 16 bits of a larger number count.
fn port_prefix(s: &str) -> Option<(u16, &str)> {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let (digits, tail) = s.split_at(end);
    let n = digits.bytes().fold(0u16, |n, c| {
        n.wrapping_mul(10).wrapping_add(u16::from(c - b'0'))
    });
    (end > 0).then_some((n, tail))
}

pub(super) fn encap(v: &str) -> Result<Action, String> {
    let mut list = v;
    let (name, args) = next_pair(&mut list).ok_or_else(|| format!("Missing encap hdr: {v}"))?;
    let mut e = Encap {
        new_packet_type: 0,
        header_size: 0,
        props: Vec::new(),
    };
    e.new_packet_type = match name {
        "ethernet" => 0,
        "nsh" => 0x1894f,
        "mpls" => 0x18847,
        "mpls_mc" => 0x18848,
        _ => return Err(format!("Encap hdr not supported: {args}")),
    };
    let mut list = args;
    while let Some((k, val)) = next_pair(&mut list) {
        if val.is_empty() && matches!(k, "md_type" | "tlv") {
            return Err("Value missing for encap property".to_owned());
        }
        e.props.push(match k {
            "md_type" => {
                let t = num8(val, "md_type")?;
                if t != 1 && t != 2 {
                    return Err("invalid md_type".to_owned());
                }
                EncapProp::NshMdType(t)
            }
            "tlv" => nsh_tlv(val).ok_or_else(|| format!("Invalid NSH TLV header: {val}"))?,
            _ => return Err(format!("Invalid property: {k}")),
        });
    }
    Ok(Action::Encap(e))
}

/// `0xCLASS,TYPE,0xDATA`; half a byte and what else follows the data is left out.
fn nsh_tlv(s: &str) -> Option<EncapProp> {
    let mut parts = s.splitn(3, ',');
    let class = parts.next()?.strip_prefix("0x")?;
    let class = u16::from_str_radix(class, 16).ok()?;
    let type_ = parts.next()?;
    if !type_.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    // A larger number wraps.
    let type_ = type_.parse::<u64>().ok()? as u8;
    let hex = parts.next()?.strip_prefix("0x")?;
    let digits = hex
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(hex.len());
    let data = hex_bytes(&hex[..digits & !1])?;
    if digits == 0 {
        return None;
    }
    Some(EncapProp::NshTlv { class, type_, data })
}

pub(super) fn decap(v: &str) -> Result<Action, String> {
    let mut new_packet_type = NEXT_PROTOCOL;
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        if k != "packet_type" {
            return Err(format!("Invalid decap argument: {k}"));
        }
        let (mut ns, mut ty) = (None, None);
        let mut inner = val;
        while let Some((k, val)) = next_pair(&mut inner) {
            match k {
                "ns" => {
                    let n = num16(val, "ns")?;
                    if n > 1 {
                        return Err(format!("Unsupported ns value: {n}"));
                    }
                    ns = Some(u32::from(n));
                }
                "type" => ty = Some(u32::from(num16(val, "type")?)),
                _ => {}
            }
        }
        let ns = ns.ok_or("Missing packet_type attribute ns")?;
        let ty = ty.ok_or("Missing packet_type attribute type")?;
        new_packet_type = ns << 16 | ty;
    }
    Ok(Action::Decap { new_packet_type })
}
