//! What is known of an action, in one place: a [`Row`] has its names and numbers and says how it is read, written,
//! shown and checked.
//!
//! Each action has a row in the file of its family; the list in [`super`] ties it to its variant of [`Action`].
//! Nothing else knows single actions: reading a message looks its number up here, reading text its word, and what
//! walks over lists of actions asks their rows. To add an action is to write its row, its variant and its line in
//! that list.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use ferrovs_packet::hash::NameHasher;

use super::check::Checker;
use super::decode::Decoder;
use super::encode::Encoder;
use super::instructions::{Carried, Stage};
use super::verify::{Company, Place, Refusal, not_in};
use super::{Action, ROWS};
use crate::error::{NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::text::Names;
use crate::text::color::Paint;
use crate::text::format::hex;
use crate::text::parse_action::Parser;
use crate::version::{Protocol, Version};
use crate::warn::{Topic, warn};
use crate::wire::Reader;

/// Everything about one action. A function gets only actions of its own row.
pub(crate) struct Row {
    /// What complaints about the action call it.
    pub name: &'static str,
    /// Its words in text.
    pub words: &'static [Word],
    /// Its numbers in messages.
    pub wires: &'static [Wire],
    /// Writes it in the form of the encoder's version, or nothing where that has none.
    pub encode: fn(&Action, &Encoder<'_, '_>, &mut Vec<u8>),
    pub format: fn(&Action, &Names<'_>, &mut String),
    /// How that text is painted.
    pub paint: Paint,
    /// Whether it suits what is known of the packet, and what is known of it behind the action.
    pub check: fn(&mut Action, &mut Checker<'_>) -> Result<(), OfpErr>,
    /// Whether it may be nested there.
    pub place: fn(&Action, Place) -> Result<(), Refusal>,
    /// Whether an action set can hold it: what changes the packet or sends it, once.
    pub in_set: bool,
    /// What it may share a list with.
    pub company: Company,
    /// The instruction that it is, or belongs to.
    pub stage: Stage,
    /// How it is carried where it is an instruction.
    pub carried: Option<Carried>,
    /// Whether it sends the packet to a port or group.
    pub reaches: fn(&Action, Target) -> bool,
    /// The lists in it whose outputs count as its own.
    pub nested: fn(&Action) -> &[Action],
}

/// Where a packet may be sent to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Port(ferrovs_packet::types::OfPort),
    Group(u32),
}

impl Row {
    /// An action of which nothing is said: rows begin with it and say what they have of their own.
    pub const ACTION: Row = Row {
        name: "",
        words: &[],
        wires: &[],
        encode: |_, _, _| {},
        format: |_, _, _| {},
        paint: Paint::ACTION,
        check: |_, _| Ok(()),
        place: |a, place| match place {
            Place::Ct => not_in("ct", a),
            _ => Ok(()),
        },
        in_set: true,
        company: Company::Any,
        stage: Stage::Apply,
        carried: None,
        reaches: |_, _| false,
        nested: |_| &[],
    };
}

impl Row {
    /// The row of a word.
    pub fn of_word(name: &str) -> Option<&'static Row> {
        let mut rows = ROWS.iter().copied();
        rows.find(|row| row.words.iter().any(|word| word.name == name))
    }
}

/// A word that stands for an action in text.
pub(crate) struct Word {
    name: &'static str,
    /// The protocols that can carry what it stands for, whatever its arguments.
    usable: Protocol,
    parse: Parse,
}

/// Reads the arguments of a word.
type Parse = fn(&mut Parser<'_, '_>, &str) -> Result<Action, String>;

pub(crate) const fn word(name: &'static str, parse: Parse) -> Word {
    Word {
        name,
        usable: Protocol::all(),
        parse,
    }
}

impl Word {
    /// The same for an action that not every protocol has.
    pub const fn only(self, usable: Protocol) -> Word {
        Word { usable, ..self }
    }

    /// The word in any case.
    pub fn by_name(name: &str) -> Option<&'static Word> {
        static BY_NAME: LazyLock<HashMap<&str, &Word, NameHasher>> = LazyLock::new(|| {
            let words = ROWS.iter().flat_map(|row| row.words);
            words.map(|word| (word.name, word)).collect()
        });
        let lower = || BY_NAME.get(name.to_ascii_lowercase().as_str());
        let has_capitals = || name.bytes().any(|b| b.is_ascii_uppercase());
        let word = BY_NAME.get(name);
        word.or_else(|| has_capitals().then(lower).flatten())
            .copied()
    }

    pub fn parse(&self, parser: &mut Parser<'_, '_>, argument: &str) -> Result<Action, String> {
        *parser.usable &= self.usable;
        (self.parse)(parser, argument)
    }
}

/// The number of an action in some versions.
pub(crate) struct Wire {
    vendor: u32,
    type_: u16,
    /// The versions, by their minor numbers.
    versions: RangeInclusive<u8>,
    /// What the log calls it: the standard action also where Nicira's number stands for it in OpenFlow 1.0.
    name: &'static str,
    /// How long it is, header and all.
    len: RangeInclusive<usize>,
    /// Whether setting a field replaces it from OpenFlow 1.2 on.
    deprecated: bool,
    read: Read,
}

/// Reads what stands behind the header.
type Read = fn(&Decoder<'_, '_>, Reader<'_>) -> Result<Action, OfpErr>;

/// The longest that an action can be.
pub(crate) const MAX: usize = 65528;

/// A number of OpenFlow's own.
pub(crate) const fn of(
    type_: u16,
    versions: RangeInclusive<u8>,
    name: &'static str,
    len: RangeInclusive<usize>,
    read: Read,
) -> Wire {
    Wire {
        vendor: 0,
        type_,
        versions,
        name,
        len,
        deprecated: false,
        read,
    }
}

/// A number of Nicira's.
pub(crate) const fn nicira(
    type_: u16,
    versions: RangeInclusive<u8>,
    name: &'static str,
    len: RangeInclusive<usize>,
    read: Read,
) -> Wire {
    Wire {
        vendor: NX_VENDOR,
        ..of(type_, versions, name, len, read)
    }
}

/// A number of ONF's.
pub(crate) const fn onf(
    type_: u16,
    versions: RangeInclusive<u8>,
    name: &'static str,
    len: RangeInclusive<usize>,
    read: Read,
) -> Wire {
    Wire {
        vendor: ONF_VENDOR,
        ..of(type_, versions, name, len, read)
    }
}

impl Wire {
    pub const fn deprecated(mut self) -> Wire {
        self.deprecated = true;
        self
    }

    fn find(vendor: u32, type_: u16, version: Version) -> Option<&'static Wire> {
        static BY_NUMBER: LazyLock<HashMap<(u32, u16, u8), &Wire, NameHasher>> =
            LazyLock::new(|| {
                let wires = ROWS.iter().flat_map(|row| row.wires);
                wires
                    .flat_map(|w| w.versions.clone().map(move |v| ((w.vendor, w.type_, v), w)))
                    .collect()
            });
        BY_NUMBER.get(&(vendor, type_, version.minor())).copied()
    }

    /// The action with a number in `version`, if it may be `len` bytes long where `room` bytes are left; this does
    /// not depend on what it means. The log tells what is wrong.
    pub fn get(
        vendor: u32,
        type_: u16,
        version: Version,
        len: usize,
        room: usize,
    ) -> Result<&'static Wire, OfpErr> {
        let wire = Wire::find(vendor, type_, version).ok_or_else(|| {
            warn(Topic::Actions, || {
                let (version, vendor) = (version.name(), hex(vendor.into()));
                format!("unknown {version} action for vendor {vendor} and type {type_}")
            });
            match vendor {
                0 => OfpErr::OFPBAC_BAD_TYPE,
                _ => OfpErr::OFPBAC_BAD_VENDOR_TYPE,
            }
        })?;
        let name = wire.name;
        if wire.deprecated && version >= Version::V12 {
            warn(Topic::ActionsInfo, || {
                format!("{name} is deprecated in {} (use Set-Field)", version.name())
            });
        }
        match wire.objection(len, room) {
            Some(what) => {
                warn(Topic::Actions, || {
                    format!("OpenFlow action {name} length {len} {what}")
                });
                Err(OfpErr::OFPBAC_BAD_LEN)
            }
            None => Ok(wire),
        }
    }

    pub fn read(&self, decoder: &Decoder<'_, '_>, body: Reader<'_>) -> Result<Action, OfpErr> {
        (self.read)(decoder, body)
    }

    /// What is wrong with a length.
    fn objection(&self, len: usize, room: usize) -> Option<String> {
        let (least, most) = (self.len.start(), self.len.end());
        if len > room {
            Some(format!("exceeds action buffer length {room}"))
        } else if !self.len.contains(&len) {
            Some(format!("not in valid range [{least},{most}]"))
        } else if !len.is_multiple_of(8) {
            Some("is not a multiple of 8".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_their_version_says() {
        let name = |vendor, type_, version| Wire::find(vendor, type_, version).map(|w| w.name);
        assert_eq!(name(0, 3, Version::V10), Some("OFPAT_STRIP_VLAN"));
        assert_eq!(name(0, 3, Version::V11), Some("OFPAT_SET_DL_SRC"));
        assert_eq!(name(0, 28, Version::V14), None);
        assert_eq!(name(NX_VENDOR, 40, Version::V10), Some("OFPAT_GROUP"));
        assert_eq!(name(NX_VENDOR, 40, Version::V13), None);
        assert_eq!(
            name(ONF_VENDOR, 3200, Version::V14),
            Some("ONFACT_COPY_FIELD")
        );
    }

    #[test]
    fn lengths_are_told_why_they_cannot_be() {
        let say = |type_, len, room| {
            Wire::find(0, type_, Version::V13).and_then(|wire| wire.objection(len, room))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(say(0, 16, 16), None);
        assert_eq!(say(0, 16, 8), text("exceeds action buffer length 8"));
        assert_eq!(say(0, 4, 8), text("not in valid range [16,16]"));
        assert_eq!(say(25, 4, 8), text("not in valid range [8,65528]"));
        assert_eq!(say(25, 12, 16), text("is not a multiple of 8"));
    }

    #[test]
    fn no_two_actions_share_a_word_or_a_number() {
        let (mut words, mut numbers) = (Vec::new(), Vec::new());
        for row in ROWS {
            assert!(!row.name.is_empty());
            words.extend(row.words.iter().map(|w| w.name));
            for w in row.wires {
                numbers.extend(w.versions.clone().map(|v| (w.vendor, w.type_, v)));
            }
        }
        let (all_words, all_numbers) = (words.len(), numbers.len());
        words.sort_unstable();
        words.dedup();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((words.len(), numbers.len()), (all_words, all_numbers));
        assert!(words.iter().all(|w| *w == w.to_ascii_lowercase()));
    }
}
