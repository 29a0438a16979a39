//! What `Interface.options` says of a port.

use std::collections::BTreeMap;
use std::fmt;

/// Queues that a port may have at most.
const MAX_QUEUES: i64 = 16;

/// How packets are taken from the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The first of the others that works.
    #[default]
    BestEffort,
    /// By the driver, into the switch's memory.
    NativeZeroCopy,
    /// By the driver; the kernel copies.
    Native,
    /// Behind the driver; the kernel copies.
    Generic,
}

impl Mode {
    /// Those that say what is done, the fastest first.
    pub const DEFINITE: [Mode; 3] = [Mode::NativeZeroCopy, Mode::Native, Mode::Generic];

    fn name(self) -> &'static str {
        match self {
            Mode::BestEffort => "best-effort",
            Mode::NativeZeroCopy => "native-with-zerocopy",
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }

    fn parse(name: &str) -> Option<Mode> {
        let mut all = Mode::DEFINITE.into_iter().chain([Mode::BestEffort]);
        all.find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    pub need_wakeup: bool,
    pub n_rxq: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mode: Mode::BestEffort,
            need_wakeup: true,
            n_rxq: 1,
        }
    }
}

impl Settings {
    /// The error is what the log says.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Settings, String> {
        let n = options.get("n_rxq").and_then(|n| n.parse().ok());
        let n: i64 = n.unwrap_or(1);
        if n > MAX_QUEUES {
            return Err(format!("Too big 'n_rxq' ({n} > {MAX_QUEUES})."));
        }
        let mode = match options.get("xdp-mode") {
            Some(name) => {
                Mode::parse(name).ok_or_else(|| format!("Incorrect xdp-mode ({name})."))?
            }
            None => Mode::BestEffort,
        };
        let wakeup = options.get("use-need-wakeup");
        Ok(Settings {
            mode,
            need_wakeup: wakeup.is_none_or(|v| !v.eq_ignore_ascii_case("false")),
            n_rxq: n.max(1) as usize,
        })
    }

    pub fn to_options(self) -> BTreeMap<String, String> {
        [
            ("n_rxq", self.n_rxq.to_string()),
            ("use-need-wakeup", self.need_wakeup.to_string()),
            ("xdp-mode", self.mode.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Settings, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Settings::parse(&options.iter().map(own).collect())
    }

    #[test]
    fn options_are_read_as_open_vswitch_reads_them() {
        assert_eq!(parse(&[]).unwrap(), Settings::default());
        for (n, means) in [("0", 1), ("-1", 1), ("abc", 1), ("16", 16), ("2", 2)] {
            assert_eq!(parse(&[("n_rxq", n)]).unwrap().n_rxq, means, "{n}");
        }
        for (v, means) in [("true", true), ("foo", true), ("False", false)] {
            let got = parse(&[("use-need-wakeup", v)]).unwrap();
            assert_eq!(got.need_wakeup, means, "{v}");
        }
        assert_eq!(parse(&[("xdp-mode", "Native")]).unwrap().mode, Mode::Native);
        for (options, why) in [
            (&[("xdp-mode", "foo")][..], "Incorrect xdp-mode (foo)."),
            (&[("xdp-mode", "")], "Incorrect xdp-mode ()."),
            (&[("n_rxq", "17")], "Too big 'n_rxq' (17 > 16)."),
            (
                &[("n_rxq", "99"), ("xdp-mode", "foo")],
                "Too big 'n_rxq' (99 > 16).",
            ),
        ] {
            assert_eq!(parse(options).unwrap_err(), why);
        }
    }

    #[test]
    fn what_is_shown_can_be_set() {
        for mode in Mode::DEFINITE {
            let settings = Settings {
                mode,
                need_wakeup: false,
                n_rxq: 3,
            };
            assert_eq!(Settings::parse(&settings.to_options()), Ok(settings));
        }
    }
}
