//! Log patterns: `%` escapes with an optional `-`, `0` and width, as ovs-appctl(8) lists them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Level;
use crate::{clock, dirs};

/// A message on its way to a destination.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) module: &'a str,
    pub(super) level: Level,
    pub(super) text: &'a str,
    pub(super) serial: u32,
    pub(super) subprogram: &'a str,
    pub(super) facility: u8,
}

impl Message<'_> {
    /// The RFC 5424 priority of the message.
    pub(super) fn priority(&self) -> u8 {
        self.facility * 8 + self.level.syslog()
    }

    /// Expands `pattern`.
    pub(super) fn format(&self, pattern: &str) -> String {
        let mut out = String::with_capacity(self.text.len() + 64);
        let mut rest = pattern;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let left = take(&mut rest, "-");
            let zero = take(&mut rest, "0");
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let width = rest[..digits].parse::<usize>().unwrap_or(0).min(1024);
            rest = &rest[digits..];
            let Some(c) = rest.chars().next() else { break };
            rest = &rest[c.len_utf8()..];
            let start = out.len();
            match c {
                'A' => out.push_str(dirs::program_name()),
                'B' => out.push_str(&self.priority().to_string()),
                'c' => out.push_str(self.module),
                'd' => date(&mut out, template(&mut rest), false),
                'D' => date(&mut out, template(&mut rest), true),
                'E' => out.push_str(&ferrovs_sys::process::hostname()),
                'm' => out.push_str(self.text),
                'N' => out.push_str(&self.serial.to_string()),
                'n' => out.push('\n'),
                'p' => out.push_str(self.level.name()),
                'P' => out.push_str(&ferrovs_sys::process::pid().to_string()),
                'r' => out.push_str(&clock::ms_since_start().to_string()),
                't' if self.subprogram.is_empty() => out.push_str("main"),
                't' => out.push_str(self.subprogram),
                'T' if self.subprogram.is_empty() => {}
                'T' => {
                    out.push('(');
                    out.push_str(self.subprogram);
                    out.push(')');
                }
                other => out.push(other),
            }
            let used = out[start..].chars().count();
            if used < width {
                let pad = width - used;
                if left {
                    out.extend(std::iter::repeat_n(' ', pad));
                } else {
                    let fill = if zero { "0" } else { " " };
                    out.insert_str(start, &fill.repeat(pad));
                }
            }
        }
        out.push_str(rest);
        out
    }
}

fn take(rest: &mut &str, prefix: &str) -> bool {
    match rest.strip_prefix(prefix) {
        Some(r) => {
            *rest = r;
            true
        }
        None => false,
    }
}

/// Takes `{template}` off the front of `rest`, or gives the default.
fn template<'a>(rest: &mut &'a str) -> &'a str {
    if let Some(r) = rest.strip_prefix('{')
        && let Some((template, after)) = r.split_once('}')
    {
        *rest = after;
        return template;
    }
    "%Y-%m-%d %H:%M:%S.###"
}

fn date(out: &mut String, template: &str, utc: bool) {
    let ms = clock::wall_ms();
    let Ok(stamp) = Timestamp::from_millisecond(ms) else {
        return;
    };
    let zone = if utc {
        TimeZone::UTC
    } else {
        TimeZone::system()
    };
    let text = strftime(&stamp.to_zoned(zone), template);
    // Each run of # is replaced by as many digits of the second's fraction.
    let fraction = format!("{:03}", ms.rem_euclid(1000));
    let mut digits = fraction.chars().chain(std::iter::repeat('0'));
    for c in text.chars() {
        if c == '#' {
            out.push(digits.next().unwrap_or('0'));
        } else {
            digits = fraction.chars().chain(std::iter::repeat('0'));
            out.push(c);
        }
    }
}

/// Formats a time as strftime(3) does; conversions that are not known stand for themselves.
pub(crate) fn strftime(time: &Zoned, template: &str) -> String {
    jiff::fmt::strtime::format(template, time).unwrap_or_else(|_| template.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>() -> Message<'a> {
        Message {
            module: "bridge",
            level: Level::Info,
            text: "hi",
            serial: 7,
            subprogram: "pmd-c01",
            facility: 3,
        }
    }

    #[test]
    fn escapes_pad_as_they_are_told() {
        let m = message();
        assert_eq!(
            m.format("ovs|%05N|%c%T|%p|%m"),
            "ovs|00007|bridge(pmd-c01)|INFO|hi"
        );
        assert_eq!(m.format("[%8c][%-8c]%%%B"), "[  bridge][bridge  ]%29");
        assert_eq!(m.format("trailing %"), "trailing ");
    }

    #[test]
    fn fractions_of_a_second_replace_hashes() {
        let s = message().format("%D{%Y-%m-%dT%H:%M:%S.###Z}");
        assert_eq!(s.len(), "2026-11-20T21:00:00.123Z".len());
        assert!(s.ends_with('Z') && !s.contains('#'));
    }
}
