//! Arguments of single actions: conjunction, multipath, address translation, encapsulation.

use super::*;

pub(super) fn conjunction(v: &str) -> Result<Action, String> {
    let syntax = || "\"conjunction\" syntax is \"conjunction(id,i/n)\"".to_owned();
    let number = |s: &str| s.trim().parse::<u32>().map_err(|_| syntax());
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
    let [fields, basis, alg, n_links, arg, dst] = w[..] else {
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
    if !sf.field.field().writable {
        return Err(format!("{v}: cannot write into {}", sf.field.field().name));
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

/// `A[-B][:P[-Q]]`, IPv6 addresses in brackets if ports follow.
pub(super) fn nat_range(v: &str, n: &mut Nat) -> Result<(), String> {
    let invalid = || format!("invalid nat range \"{v}\"");
    let garbage = |rest: &str| {
        let pos = v.len() - rest.len();
        format!("garbage ({rest}) after nat range \"{v}\" (pos: {pos})")
    };
    let mut rest = v;
    let address = |rest: &mut &str| -> Option<std::net::IpAddr> {
        if let Some(inner) = rest.strip_prefix('[') {
            let (a, tail) = inner.split_once(']')?;
            *rest = tail;
            return a.parse().ok().map(std::net::IpAddr::V6);
        }
        let end = rest
            .find(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':')
            .unwrap_or(rest.len());
        let text = &rest[..end];
        // A colon after an IPv4 address begins the ports.
        let v4_end = text.find(':').unwrap_or(end);
        if let Ok(a) = text[..v4_end].parse::<Ipv4Addr>() {
            *rest = &rest[v4_end..];
            return Some(a.into());
        }
        let a = text.parse::<Ipv6Addr>().ok()?;
        *rest = &rest[end..];
        Some(a.into())
    };
    if !rest.starts_with(':') {
        let Some(min) = address(&mut rest) else {
            // What could be part of a number was read before the rest made no sense.
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            return Err(garbage(&rest[end..]));
        };
        let max = match rest.strip_prefix('-') {
            Some(tail) => {
                rest = tail;
                Some(address(&mut rest).ok_or_else(invalid)?)
            }
            None => None,
        };
        use std::net::IpAddr::{V4, V6};
        n.range = match (min, max) {
            (V4(a), None) if a.is_unspecified() => NatRange::None,
            (V6(a), None) if a.is_unspecified() => NatRange::None,
            (V4(min), None) => NatRange::V4 { min, max: None },
            (V6(min), None) => NatRange::V6 { min, max: None },
            (V4(min), Some(V4(max))) if max >= min => NatRange::V4 {
                min,
                max: (max != min).then_some(max),
            },
            (V6(min), Some(V6(max))) if max >= min => NatRange::V6 {
                min,
                max: (max != min).then_some(max),
            },
            _ => return Err(invalid()),
        };
    }
    if let Some(p) = rest.strip_prefix(':') {
        let end = p.find(|c: char| !c.is_ascii_digit()).unwrap_or(p.len());
        // Like Open vSwitch, only the low 16 bits of a larger number count.
        n.proto_min = p[..end].parse::<u64>().map_err(|_| invalid())? as u16;
        rest = &p[end..];
        if let Some(q) = rest.strip_prefix('-') {
            let end = q.find(|c: char| !c.is_ascii_digit()).unwrap_or(q.len());
            n.proto_max = q[..end].parse::<u64>().map_err(|_| invalid())? as u16;
            if n.proto_max < n.proto_min {
                return Err(invalid());
            }
            rest = &q[end..];
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(garbage(rest))
    }
}

pub(super) fn encap(v: &str) -> Result<Action, String> {
    let name_end = v.find('(').unwrap_or(v.len());
    let (name, args) = v.split_at(name_end);
    let mut e = Encap {
        new_packet_type: 0,
        header_size: 0,
        props: Vec::new(),
    };
    e.new_packet_type = match name.trim() {
        "ethernet" => 0,
        "nsh" => 0x1894f,
        "mpls" => 0x18847,
        "mpls_mc" => 0x18848,
        _ => return Err("Encap hdr not supported: ".to_owned()),
    };
    let inside = args
        .strip_prefix('(')
        .map_or("", |a| a.strip_suffix(')').unwrap_or(a));
    let mut list = inside;
    while let Some((k, val)) = next_pair(&mut list) {
        e.props.push(match k {
            "md_type" => {
                let t = num8(val, "md_type")?;
                if t != 1 && t != 2 {
                    return Err("invalid md_type".to_owned());
                }
                EncapProp::NshMdType(t)
            }
            "tlv" => {
                let parts: Vec<&str> = val.splitn(3, ',').collect();
                let [class, type_, data] = parts[..] else {
                    return Err(format!("Invalid NSH TLV header: {val}"));
                };
                let h = data.trim().strip_prefix("0x").unwrap_or(data);
                let h = if h.len() % 2 == 1 {
                    format!("0{h}")
                } else {
                    h.to_owned()
                };
                EncapProp::NshTlv {
                    class: num16(class.trim(), "tlv_class")?,
                    type_: num8(type_.trim(), "tlv_type")?,
                    data: hex_bytes(&h).ok_or("invalid NSH TLV value")?,
                }
            }
            _ => return Err(format!("Invalid property: {k}")),
        });
    }
    Ok(Action::Encap(e))
}

pub(super) fn decap(v: &str) -> Result<Action, String> {
    let mut new_packet_type = 0xfffe;
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        if k != "packet_type" {
            return Err(format!("Invalid decap argument: {k}"));
        }
        let (mut ns, mut ty) = (0u32, None);
        let mut inner = val;
        while let Some((k, val)) = next_pair(&mut inner) {
            match k {
                "ns" => ns = num16(val, "namespace")?.into(),
                "type" => ty = Some(u32::from(num16(val, "type")?)),
                _ => return Err(format!("Invalid decap packet_type argument: {k}")),
            }
        }
        let ty = ty.ok_or("Missing packet_type attribute type")?;
        new_packet_type = ns << 16 | ty;
    }
    Ok(Action::Decap { new_packet_type })
}
