//! Random traces: what must hold for all of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A packet of one of a few hosts to one of a few servers, or back.
#[derive(Clone, Debug)]
struct Step {
    client: u8,
    port: u16,
    server: u8,
    reply: bool,
    flags: u8,
    wait: u64,
    udp: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, FIN | ACK, RST, ACK | PSH, 0]);
    let who = (1u8..4, 1000u16..1004, 1u8..3, any::<bool>());
    (who, flags, 0u64..8, any::<bool>()).prop_map(
        |((client, port, server, reply), flags, wait, udp)| Step {
            client,
            port,
            server,
            reply,
            flags,
            wait: if wait == 0 { 40 } else { 0 },
            udp,
        },
    )
}

fn packet(udp_: bool, src: End, dst: End, flags: u8) -> Packet {
    match udp_ {
        true => udp(src, dst, b"x"),
        false => tcp(src, dst, flags, 100, 100, b""),
    }
}

/// What a trace leaves behind: the packets, and the connections.
fn run(steps: &[Step], ct: &Ct, back: &Ct) -> (Vec<(u8, End, End)>, Vec<CtEntry>) {
    let mut lab = Lab::new();
    // Where each client was last seen to come from, by everybody else.
    let mut known: HashMap<(bool, End, End), End> = HashMap::new();
    let mut out = Vec::new();
    for s in steps {
        lab.wait(s.wait);
        let client = ([10, 0, 0, s.client], s.port);
        let server = ([10, 9, 0, s.server], 80);
        let key = (s.udp, client, server);
        let p = match s.reply {
            false => {
                let p = lab.track(packet(s.udp, client, server, s.flags), ct);
                known.insert(key, ends(&p).0);
                p
            }
            true => {
                let Some(at) = known.get(&key).copied() else {
                    continue;
                };
                let p = lab.track(packet(s.udp, server, at, s.flags), back);
                // A reply that belongs to the connection reaches who began it.
                let (state, to) = (p.md.ct_state, ends(&p).1);
                if state & CS_DST_NAT != 0 && state & CS_REPLY_DIR != 0 {
                    let o = p.md.ct_orig;
                    assert_eq!(
                        (to.0, to.1),
                        ([o.src[0], o.src[1], o.src[2], o.src[3]], o.tp_src)
                    );
                    assert_eq!(ends(&p).0, server);
                }
                p
            }
        };
        let (src, dst) = ends(&p);
        out.push((p.md.ct_state, src, dst));
    }
    let entries = lab.entries();
    // What is counted is what is shown and what has expired unseen.
    assert!(lab.tracker.count() as usize >= entries.len());
    lab.tracker.forget_expired(lab.now);
    assert_eq!(lab.tracker.count() as usize, entries.len());
    let mut replies: Vec<_> = entries.iter().map(|e| format!("{:?}", e.reply)).collect();
    replies.sort();
    replies.dedup();
    assert_eq!(
        replies.len(),
        entries.len(),
        "two connections share a tuple"
    );
    (out, entries)
}

impl Tracker {
    /// A whole sweep at once.
    fn forget_expired(&self, now: Instant) {
        let now_ms = self.ms(now);
        for shard in 0..crate::table::SHARDS as u16 {
            let mut next = Some(0);
            while let Some(first) = next {
                let expired = &mut |c: &crate::conn::Conn| c.has_expired(now_ms);
                next = self.forget_in(shard, first, u32::MAX, expired).next;
            }
        }
    }
}

proptest! {
    #[test]
    fn traces_repeat_and_replies_are_translated_back(
        steps in prop::collection::vec(step(), 0..120),
        translated in any::<bool>(),
    ) {
        let mut addr = [0; 16];
        addr[12..].copy_from_slice(&[10, 1, 1, 1]);
        let nat = Nat { kind: NatKind::Src, ip_min: addr, ip_max: addr, ..Nat::default() };
        let ct = Ct { nat: translated.then_some(nat), ..commit() };
        let back = Ct { nat: translated.then(Nat::default), ..look() };
        let first = run(&steps, &ct, &back);
        prop_assert_eq!(first, run(&steps, &ct, &back));
    }
}
