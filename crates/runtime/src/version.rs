//! The version of Open vSwitch that these programs are.

/// The release whose behaviour the programs have.
pub const VERSION: &str = "3.7.0";

/// The name that stands before the version in every text.
pub const PACKAGE: &str = "Open vSwitch";

/// The line that `--version` prints first and the `version` command answers, without newline.
pub fn line(program: &str) -> String {
    format!("{program} ({PACKAGE}) {VERSION}")
}

/// Prints what `--version` prints; `more` holds the lines that some programs add, such as
/// `DB Schema 8.8.0`.
pub fn print_version(program: &str, more: &[&str]) {
    println!("{}", line(program));
    for l in more {
        println!("{l}");
    }
}
