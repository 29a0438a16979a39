//! What is there and nobody uses: dependencies in manifests, and public names.
//!
//! Both go by words, not by meaning: a dependency is used when its name leads a path or is imported, a public name when it
//! occurs a second time in the workspace, be it in a test. So some that are unused pass; none that is used is named.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::bin::root;

/// Folders that hold Rust: the first two packages' folders, the others packages.
const TOPS: [&str; 6] = ["crates", "bin", "benches", "tests", "xtask", "fuzz"];
/// Parts of a package that only its tests see.
const OF_TESTS: [&str; 3] = ["tests", "examples", "benches"];

/// A source file without its comments.
struct Source {
    path: PathBuf,
    text: String,
}

/// Fails with a list of what is unused.
pub fn check() -> Result<(), String> {
    let root = root();
    let mut sources = Vec::new();
    for top in TOPS {
        read_sources(&root.join(top), &mut sources)?;
    }
    let mut unused = unused_dependencies(&root, &sources)?;
    unused.extend(unused_names(&root, &sources));
    match unused.is_empty() {
        true => Ok(()),
        false => Err(format!("unused:\n  {}", unused.join("\n  "))),
    }
}

fn read_sources(dir: &Path, sources: &mut Vec<Source>) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).map_err(fail)?;
            let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
            let lines: Vec<String> = text.lines().map(code).collect();
            let text = lines.join("\n");
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

/// The words of a text, with what is around each.
fn words(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_word)?;
        let end = text[start..]
            .find(|c| !is_word(c))
            .map_or(text.len(), |n| start + n);
        at = end;
        Some((&text[..start], &text[start..end], &text[end..]))
    })
}

/// Whether the crate `name` leads a path or is imported.
fn names_crate(text: &str, name: &str) -> bool {
    let mut found = words(text).filter(|(_, word, _)| *word == name);
    found.any(|(before, _, after)| {
        let leads = after.starts_with("::") && !before.ends_with("::");
        leads || before.ends_with("use ")
    })
}

fn unused_dependencies(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    let mut packages: Vec<PathBuf> = TOPS[2..].iter().map(|top| root.join(top)).collect();
    for top in &TOPS[..2] {
        let dir = root.join(top);
        let entries = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        packages.extend(entries.flatten().map(|entry| entry.path()));
    }
    packages.sort();
    let mut unused = Vec::new();
    for package in packages {
        let manifest = package.join("Cargo.toml");
        let text = fs::read_to_string(&manifest);
        let text = text.map_err(|e| format!("{}: {e}", manifest.display()))?;
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
                continue;
            }
            let Some((key, _)) = line.split_once('=') else {
                continue;
            };
            let of_tests = match section {
                // One package is nothing but tests.
                "dependencies" => package.ends_with("tests"),
                "dev-dependencies" => true,
                _ => continue,
            };
            let name = key.trim().split('.').next().unwrap_or_default();
            let in_scope = |source: &&Source| {
                let inside = source.path.strip_prefix(&package);
                inside.is_ok_and(|p| of_tests || !OF_TESTS.iter().any(|t| p.starts_with(t)))
            };
            let module = name.replace('-', "_");
            let mut inside = sources.iter().filter(in_scope);
            if !inside.any(|s| names_crate(&s.text, &module)) {
                let package = package.strip_prefix(root).unwrap_or(&package);
                unused.push(format!("dependency {name} of {}", package.display()));
            }
        }
    }
    Ok(unused)
}

/// Public names that occur nowhere but where they are defined.
fn unused_names(root: &Path, sources: &[Source]) -> Vec<String> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for (_, word, _) in sources.iter().flat_map(|s| words(&s.text)) {
        *times.entry(word).or_default() += 1;
    }
    let mut unused = BTreeMap::new();
    for source in sources {
        let path = source.path.strip_prefix(root).unwrap_or(&source.path);
        for line in source.text.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("pub") {
                continue;
            }
            let mut words = words.skip_while(|w| *w == "unsafe").peekable();
            let constant = words.next_if_eq(&"const").is_some();
            let kinds = ["fn", "struct", "enum", "trait", "type", "static"];
            // What has none of these is a field, which may be there for its size alone.
            if words.next_if(|w| kinds.contains(w)).is_none() && !constant {
                continue;
            }
            let name = words.next().unwrap_or_default();
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &name[..end.unwrap_or(name.len())];
            if times.get(name) == Some(&1) {
                unused.insert((path, name), format!("{name} of {}", path.display()));
            }
        }
    }
    unused.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_by_paths_and_imports_alone() {
        for text in [
            "use arc_swap::Guard;",
            "x: arc_swap::ArcSwap",
            "pub use arc_swap;",
            "#[arc_swap::x]",
        ] {
            assert!(names_crate(text, "arc_swap"), "{text}");
        }
        for text in [
            "",
            "my_arc_swap::x",
            "crate::arc_swap::x",
            "let arc_swap = 1;",
            "arc_swapper::x",
        ] {
            assert!(!names_crate(text, "arc_swap"), "{text}");
        }
    }

    #[test]
    fn a_public_name_that_stands_once_is_unused() {
        let source = |name: &str, text: &str| Source {
            path: PathBuf::from(name),
            text: text.to_owned(),
        };
        let sources = [
            source(
                "a",
                "pub fn once() {}\n  pub const ALSO: u8 = 1;\npub fn twice() {}\npub struct S { pub pad: u8 }",
            ),
            source("b", "twice(); S"),
        ];
        assert_eq!(
            unused_names(Path::new(""), &sources),
            ["ALSO of a", "once of a"]
        );
    }
}
