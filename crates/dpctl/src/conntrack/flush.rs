//! Which connections to forget.

use ferrovs_datapath::action::Masked;
use ferrovs_datapath::conntrack::CtPattern;

use super::*;

/// A number, decimal or with 0x.
fn number(text: &str, max: u128) -> Option<u128> {
    let n = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u128::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    (n <= max).then_some(n)
}

/// `VALUE[/MASK]`
fn masked(text: &str, max: u128) -> Option<(u128, u128)> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (value, number(mask, max)?),
        None => (text, max),
    };
    Some((number(value, max)?, mask))
}

/// What may stand between the fields of a tuple.
const BETWEEN: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// Reads a tuple, such as `ct_nw_src=10.0.0.1,ct_nw_proto=17`; an empty one stands for all. What protocol it is may be
/// known from another.
fn pattern(text: &str, proto: &mut Option<u8>) -> Result<CtPattern, String> {
    let mut p = CtPattern::default();
    for field in text.split(BETWEEN).filter(|field| !field.is_empty()) {
        let Some((name, value)) = field.split_once('=').filter(|(_, v)| !v.is_empty()) else {
            return Err(format!("field {field} missing value"));
        };
        let failed = || format!("failed to parse field {name}");
        let n = |max: u32| number(value, max.into()).ok_or_else(failed);
        match name {
            "ct_nw_src" | "ct_nw_dst" | "ct_ipv6_src" | "ct_ipv6_dst" => {
                let ipv4 = name.starts_with("ct_nw");
                let ip: IpAddr = value.parse().map_err(|_| failed())?;
                let other = p.src.or(p.dst);
                if other.is_some_and(|o| o.is_ipv4() != ip.is_ipv4()) {
                    return Err(format!("the L3 protocol does not match {value}"));
                }
                if ip.is_ipv4() != ipv4 {
                    return Err(failed());
                }
                let place = match name.ends_with("src") {
                    true => &mut p.src,
                    false => &mut p.dst,
                };
                *place = Some(ip);
            }
            "ct_nw_proto" => *proto = Some(n(255)? as u8),
            "ct_tp_src" => p.tp_src = Some(n(65535)? as u16),
            "ct_tp_dst" => p.tp_dst = Some(n(65535)? as u16),
            "icmp_id" => p.icmp_id = Some(n(65535)? as u16),
            "icmp_type" => p.icmp_type = Some(n(255)? as u8),
            "icmp_code" => p.icmp_code = Some(n(255)? as u8),
            _ => return Err(format!("invalid conntrack tuple field: {name}")),
        }
    }
    let ports = p.tp_src.is_some() || p.tp_dst.is_some();
    let icmp = p.icmp_id.is_some() || p.icmp_type.is_some() || p.icmp_code.is_some();
    match proto {
        None if ports => return Err("port is set without protocol".to_owned()),
        Some(1 | 58) => (p.tp_src, p.tp_dst) = (None, None),
        _ if icmp => return Err("invalid L4 fields".to_owned()),
        _ => {}
    }
    p.proto = *proto;
    Ok(p)
}

/// Reads `[zone=N] [mark=X[/M]] [labels=Y[/N]] [TUPLE [TUPLE]]`.
fn filter(mut args: &[&str]) -> Result<CtFilter, String> {
    let mut f = CtFilter::default();
    let mut next = |prefix: &str| {
        let value = args.first().and_then(|a| a.strip_prefix(prefix))?;
        args = &args[1..];
        Some(value)
    };
    if let Some(zone) = next("zone=") {
        let zone = number(zone, u32::MAX.into()).ok_or("failed to parse zone")?;
        f.zone = Some(zone as u16);
    }
    if let Some(mark) = next("mark=") {
        let m = masked(mark, u32::MAX.into()).ok_or("failed to parse mark")?;
        f.mark = Some(Masked {
            value: m.0 as u32,
            mask: m.1 as u32,
        });
    }
    if let Some(labels) = next("labels=") {
        let m = masked(labels, u128::MAX).ok_or("failed to parse labels")?;
        f.labels = Some(Masked {
            value: m.0.to_be_bytes(),
            mask: m.1.to_be_bytes(),
        });
    }
    let mut proto = None;
    if let Some(text) = args.first() {
        f.orig = pattern(text, &mut proto)?;
    }
    if let Some(text) = args.get(1) {
        f.reply = pattern(text, &mut proto)?;
    }
    if args.len() > 2 {
        return Err("invalid arguments".to_owned());
    }
    Ok(f)
}

pub fn flush(cx: &mut Context<'_>, args: &[&str]) {
    let all = cx.all();
    let named = args.first().is_some_and(|a| {
        let full = if a.contains('@') {
            (*a).to_owned()
        } else {
            format!("system@{a}")
        };
        all.contains(&full)
    });
    let (names, rest) = args.split_at(usize::from(named));
    let mut f = match filter(rest) {
        Ok(f) => f,
        Err(message) => return cx.error(&message, Some(Errno::EINVAL)),
    };
    // One connection, and no other condition: it must be there.
    let exact = f.orig.is_exact() && f.reply.is_empty() && f.mark.is_none() && f.labels.is_none();
    if exact {
        f.zone.get_or_insert(0);
    }
    let message = "failed to flush conntrack";
    on_datapath(cx, names, 1, message, |cx, dpif, conntrack| {
        let (kind, name) = (dpif.kind(), dpif.name());
        vlog::dbg!(CT_DPIF, "{kind}@{name}: ct_flush: {f}");
        let n = conntrack.flush(&f);
        if exact && n == 0 {
            cx.error(message, Some(Errno::ENOENT));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_in_their_order() {
        let f = filter(&["zone=5", "mark=0x1/3", "labels=9", "ct_nw_src=10.0.0.1"]).unwrap();
        assert_eq!(
            (f.zone, f.mark),
            (Some(5), Some(Masked { value: 1, mask: 3 }))
        );
        assert_eq!(f.labels.map(|m| m.mask), Some([0xff; 16]));
        assert!(!f.orig.is_exact());
        let exact = "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=8,ct_tp_dst=9";
        assert!(filter(&[exact]).unwrap().orig.is_exact());
        let reply = filter(&["zone=5", "", " ct_nw_src=10.0.0.1 ,ct_nw_proto=17,"]).unwrap();
        assert!(reply.orig.is_empty());
        assert_eq!(reply.reply.proto, Some(17));
        for (args, message) in [
            (&["bad"][..], "field bad missing value"),
            (&["mark=7", "zone=5"], "invalid conntrack tuple field: zone"),
            (&["", "", ""], "invalid arguments"),
            (&["zone=x"], "failed to parse zone"),
            (&["labels=x"], "failed to parse labels"),
            (&["ct_tp_src=1000"], "port is set without protocol"),
            (&["ct_nw_proto=6,icmp_id=3"], "invalid L4 fields"),
            (&["icmp_id=3"], "invalid L4 fields"),
            (&["ct_nw_src=1.2.3"], "failed to parse field ct_nw_src"),
            (
                &["ct_nw_src=10.0.0.1,ct_ipv6_src=::1"],
                "the L3 protocol does not match ::1",
            ),
        ] {
            assert_eq!(filter(args), Err(message.to_owned()), "{args:?}");
        }
    }
}
