//! Answers that are lists, cut into messages: each as full as it can be, as those of Open vSwitch are, and made
//! when there is room for it.

use ferrovs_openflow::codec::MAX_MSG;
use ferrovs_openflow::raw::MULTIPART_MORE;
use ferrovs_openflow::{Message, Msg, Version};
use ferrovs_packet::field::TunTable;
use ferrovs_runtime::vlog;

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 60);

/// Where each multipart message has its flags.
const FLAGS: std::ops::Range<usize> = 10..12;

/// The messages of one answer, in bytes, made when there is room; None after the last.
pub type Parts = Box<dyn FnMut(&TunTable) -> Option<Vec<u8>>>;

/// Makes messages of items.
pub struct Packer<M> {
    version: Version,
    xid: u32,
    /// The message that has some items.
    make: M,
    /// Length of a message without items.
    header: usize,
    open: Vec<u8>,
}

impl<M> Packer<M> {
    pub fn new<T>(version: Version, xid: u32, make: M) -> Packer<M>
    where
        M: Fn(Vec<T>) -> Message,
    {
        let mut packer = Packer {
            version,
            xid,
            make,
            header: 0,
            open: Vec::new(),
        };
        packer.open = packer.encode(Vec::new(), &TunTable::default());
        packer.header = packer.open.len();
        packer
    }

    fn encode<T>(&self, items: Vec<T>, tun: &TunTable) -> Vec<u8>
    where
        M: Fn(Vec<T>) -> Message,
    {
        let msg = Msg {
            version: self.version,
            xid: self.xid,
            body: (self.make)(items),
        };
        crate::codec::encode(&msg, tun)
    }

    /// Adds an item; gives the message before it if it has no room there.
    pub fn add<T>(&mut self, item: T, tun: &TunTable) -> Option<Vec<u8>>
    where
        M: Fn(Vec<T>) -> Message,
    {
        let alone = self.encode(vec![item], tun);
        // Buckets can be added to a group until it fits no message; its peer is better off without it than with
        // a message whose length is wrong.
        if alone.len() > MAX_MSG {
            vlog::warn_rl!(
                RL,
                vlog::modules::OFPROTO,
                "an entry that exceeds a message was left out of a reply"
            );
            return None;
        }
        let item = alone.get(self.header..).unwrap_or_default();
        if self.open.len() + item.len() <= MAX_MSG {
            self.open.extend_from_slice(item);
            return None;
        }
        let mut full = std::mem::replace(&mut self.open, alone);
        if let Some(flags) = full.get_mut(FLAGS) {
            flags.copy_from_slice(&MULTIPART_MORE.to_be_bytes());
        }
        set_len(&mut full);
        Some(full)
    }

    /// The last message.
    pub fn finish(mut self) -> Vec<u8> {
        set_len(&mut self.open);
        self.open
    }

    /// Whether the message that is open has no item.
    pub fn is_empty(&self) -> bool {
        self.open.len() == self.header
    }
}

fn set_len(message: &mut [u8]) {
    let len = message.len() as u16;
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// The answer that tells `items`.
pub fn list<T, M>(
    version: Version,
    xid: u32,
    items: impl IntoIterator<Item = T, IntoIter: 'static>,
    make: M,
) -> Parts
where
    M: Fn(Vec<T>) -> Message + 'static,
{
    let mut items = items.into_iter();
    let mut packer = Some(Packer::new(version, xid, make));
    Box::new(move |tun| {
        let open = packer.as_mut()?;
        for item in items.by_ref() {
            if let Some(full) = open.add(item, tun) {
                return Some(full);
            }
        }
        packer.take().map(Packer::finish)
    })
}

#[cfg(test)]
mod tests {
    use ferrovs_openflow::flow::GROUP_ANY;
    use ferrovs_openflow::group::{Bucket, GroupDesc, GroupProps, GroupType};
    use ferrovs_packet::types::OfPort;

    use super::*;

    fn desc(group_id: u32) -> GroupDesc {
        GroupDesc {
            type_: GroupType::All,
            group_id,
            buckets: Vec::new(),
            props: GroupProps::default(),
        }
    }

    #[test]
    fn what_fits_no_message_is_left_out() {
        let bucket = Bucket {
            weight: 0,
            watch_port: OfPort::NONE,
            watch_group: GROUP_ANY,
            bucket_id: 1,
            actions: Vec::new(),
        };
        let too_long = GroupDesc {
            buckets: vec![bucket; 5000],
            ..desc(2)
        };
        let make = |groups| Message::GroupDescReply {
            groups,
            more: false,
        };
        let tun = TunTable::default();
        let mut parts = list(Version::V13, 7, [desc(1), too_long, desc(3)], make);
        let only = parts(&tun).unwrap();
        assert!(parts(&tun).is_none());
        let Message::GroupDescReply { groups, .. } =
            crate::codec::decode(&only, &tun).unwrap().body
        else {
            panic!("{only:?}");
        };
        assert!(groups.iter().map(|g| g.group_id).eq([1, 3]));
    }

    #[test]
    fn messages_are_as_full_as_they_can_be_and_together_tell_all() {
        let make = |groups| Message::GroupDescReply {
            groups,
            more: false,
        };
        let tun = TunTable::default();
        for (version, n) in [
            (Version::V13, 5000),
            (Version::V15, 5000),
            (Version::V13, 0),
        ] {
            let mut parts = list(version, 7, (0..n).map(desc), make);
            let messages: Vec<_> = std::iter::from_fn(|| parts(&tun)).collect();
            let mut told = Vec::new();
            for (i, bytes) in messages.iter().enumerate() {
                let msg = crate::codec::decode(bytes, &tun).unwrap();
                let Message::GroupDescReply { groups, more } = msg.body else {
                    panic!("{:?}", msg.body);
                };
                assert_eq!((msg.xid, more), (7, i + 1 < messages.len()));
                let size = bytes.len() + bytes.len() / groups.len().max(1);
                assert!(!more || size > MAX_MSG, "{} bytes", bytes.len());
                told.extend(groups.iter().map(|g| g.group_id));
            }
            assert!(told.into_iter().eq(0..n));
        }
    }
}
