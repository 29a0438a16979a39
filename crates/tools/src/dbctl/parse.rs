//! From words to commands: `[OPTION...] COMMAND [ARG...] [-- ...]`.

use super::{Command, Invocation, Spec};
use ferrovs_runtime::options::{Arg, Opt};
use std::collections::BTreeMap;

/// Splits words at `--` into commands and checks each against its table row. `leading` are the
/// command options that stood among the tool's own: they belong to the first command.
pub fn parse_commands<E>(
    spec: &'static Spec<E>,
    words: &[String],
    leading: Vec<(String, Option<String>)>,
) -> Result<Vec<Invocation<E>>, String> {
    let mut leading = Some(leading);
    let mut parsed = Vec::new();
    for words in words.split(|w| w == "--") {
        if words.is_empty() && parsed.is_empty() && leading.as_ref().is_some_and(Vec::is_empty) {
            // "ovs-vsctl -- COMMAND": nothing before the first separator.
            continue;
        }
        if words.is_empty() && leading.is_none() {
            continue;
        }
        parsed.push(parse_command(
            spec,
            words,
            leading.take().unwrap_or_default(),
        )?);
    }
    if parsed.is_empty() {
        return Err("missing command name (use --help for help)".into());
    }
    Ok(parsed)
}

fn parse_command<E>(
    spec: &'static Spec<E>,
    words: &[String],
    leading: Vec<(String, Option<String>)>,
) -> Result<Invocation<E>, String> {
    let mut given: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut add = |name: String, value: Option<String>| match given.contains_key(&name) {
        true => Err(format!("'{name}' option specified multiple times")),
        false => {
            given.insert(name, value);
            Ok(())
        }
    };
    for (name, value) in leading {
        add(name, value)?;
    }
    let options = words.iter().take_while(|w| w.starts_with('-')).count();
    for word in &words[..options] {
        match word.split_once('=') {
            Some((name, value)) => add(name.into(), Some(value.into()))?,
            None => add(word.clone(), None)?,
        }
    }
    let words = &words[options..];
    let Some(name) = words.first() else {
        return Err("missing command name (use --help for help)".into());
    };
    let Some(command) = commands(spec).find(|c| c.name == *name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    let mut options = BTreeMap::new();
    for (option, value) in given {
        let wanted = command
            .options
            .iter()
            .find(|o| o.trim_end_matches('=') == option);
        let Some(wanted) = wanted else {
            return Err(format!("'{name}' command has no '{option}' option"));
        };
        match (wanted.ends_with('='), &value) {
            (true, None) => {
                return Err(format!(
                    "missing argument to '{option}' option on '{name}' command"
                ));
            }
            (false, Some(_)) => {
                return Err(format!(
                    "'{option}' option on '{name}' does not accept an argument"
                ));
            }
            _ => {}
        }
        options.insert(wanted.trim_end_matches('='), value);
    }
    let n = words.len() - 1;
    if n < command.min_args {
        return Err(format!(
            "'{name}' command requires at least {} arguments",
            command.min_args
        ));
    }
    if n > command.max_args {
        let hint = match words[1..].iter().any(|w| w.starts_with('-')) {
            true => " (note that options must precede command names and follow a \"--\" argument)",
            false => "",
        };
        return Err(format!(
            "'{name}' command takes at most {} arguments{hint}",
            command.max_args
        ));
    }
    Ok(Invocation {
        command,
        argv: words.to_vec(),
        options,
        output: String::new(),
        table: None,
        created: None,
    })
}

fn commands<E>(spec: &'static Spec<E>) -> impl Iterator<Item = &'static Command<E>> {
    spec.commands.iter().flat_map(|group| group.iter())
}

/// Prints the commands for shell completion.
pub fn print_commands<E>(spec: &'static Spec<E>) {
    for command in commands(spec) {
        let options: String = command.options.iter().map(|o| format!("[{o}] ")).collect();
        println!("{options},{},{}", command.name, command.usage);
    }
}

/// Prints the tool's options for shell completion: letters after their long names.
pub fn print_options(tables: &[&[Opt]]) {
    for option in tables.iter().flat_map(|table| table.iter()) {
        let takes = option.arg != Arg::None;
        println!("--{}{}", option.long, if takes { "=ARG" } else { "" });
        if let Some(letter) = option.short {
            println!("-{letter}{}", if takes { " ARG" } else { "" });
        }
    }
}

/// The leading digits as a number, or 0: how C's atoi reads.
pub fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|&(i, c)| !(c.is_ascii_digit() || (i == 0 && (c == '-' || c == '+'))))
        .map_or(text.len(), |(i, _)| i);
    text[..end].parse().unwrap_or(0)
}

/// The number at the front, or 0, its base told by a prefix: how C's strtoll reads.
pub fn leading_number_any_base(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (base, digits) = match hex {
        Some(rest) => (16, rest),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let mut value: i64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(base)) {
        let digit = i64::from(if negative {
            -(digit as i32)
        } else {
            digit as i32
        });
        let next = value.checked_mul(i64::from(base));
        match next.and_then(|v| v.checked_add(digit)) {
            Some(next) => value = next,
            None => return if negative { i64::MIN } else { i64::MAX },
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_numbers_read_as_in_c() {
        let read = [
            "0x10",
            "010",
            " 8x",
            "-5",
            "x",
            "",
            "99999999999999999999",
            "0xg",
        ];
        let values = read.map(leading_number_any_base);
        assert_eq!(values, [16, 8, 8, -5, 0, 0, i64::MAX, 0]);
        assert_eq!(
            ["12", "-3z", "0x1", "z"].map(leading_number),
            [12, -3, 0, 0]
        );
    }
}
