//! Options of patch ports: exactly one, the name of the peer.

use std::collections::BTreeMap;

pub const KIND: &str = "patch";

/// The peer that the options of the port `name` give.
pub fn parse(name: &str, options: &BTreeMap<String, String>) -> Result<String, String> {
    match options.get("peer") {
        None => Err(format!("{name}: patch type requires valid 'peer' argument")),
        Some(_) if options.len() > 1 => {
            Err(format!("{name}: patch type takes only a 'peer' argument"))
        }
        Some(peer) if peer == name => Err(format!("{name}: patch peer must not be self")),
        Some(peer) => Ok(peer.clone()),
    }
}

pub fn to_options(peer: Option<&str>) -> BTreeMap<String, String> {
    let peer = peer.map(|peer| ("peer".to_owned(), peer.to_owned()));
    peer.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::vport::open;

    fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn a_patch_port_wants_exactly_a_peer_that_is_not_itself() {
        let p = open("p0", "patch").unwrap();
        let err = |o: &[(&str, &str)]| p.set_config(&options(o)).unwrap_err();
        assert_eq!(err(&[]), "p0: patch type requires valid 'peer' argument");
        assert_eq!(
            err(&[("peer", "a"), ("x", "y")]),
            "p0: patch type takes only a 'peer' argument"
        );
        assert_eq!(err(&[("peer", "p0")]), "p0: patch peer must not be self");
        assert_eq!(p.class().patch_peer(), None);
        let o = options(&[("peer", "p1")]);
        p.set_config(&o).unwrap();
        let peer = p.class().patch_peer();
        assert_eq!((peer.unwrap().as_str(), p.config()), ("p1", o));
    }
}
