//! Circles among the top-level modules of a crate: there shall be none.
//!
//! An arrow goes from the module that a file belongs to, to each that it names by `crate::a` or by enough `super`s, be
//! it by way of a name that the root of the crate takes from there. Tests may name what they like. Circles that are there
//! still are listed, by their modules: the list may only get shorter, and says so itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Circles that are not undone yet: the crate, and the modules of one circle.
const KNOWN: &[(&str, &[&str])] = &[(
    "openflow",
    &[
        "action",
        "codec",
        "flow",
        "group",
        "legacy",
        "message",
        "oxm",
        "packet_in",
        "text",
    ],
)];

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Fails on a circle that is not known, and on a known one that is gone.
pub fn check() -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<(String, Vec<String>)> = (KNOWN.iter())
        .map(|(name, modules)| {
            (
                name.to_string(),
                modules.iter().map(|m| m.to_string()).collect(),
            )
        })
        .collect();
    for parent in ["crates", "bin"] {
        for entry in fs::read_dir(parent).map_err(|e| format!("{parent}: {e}"))? {
            let dir = entry.map_err(|e| e.to_string())?.path();
            let name = dir
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            for circle in circles(&arrows(&dir.join("src"))?) {
                if !known.remove(&(name.clone(), circle.clone())) {
                    wrong.push(format!(
                        "{name}: modules in a circle: {}",
                        circle.join(", ")
                    ));
                }
            }
        }
    }
    wrong.extend(known.iter().map(|(name, circle)| {
        format!(
            "{name}: no such circle any more, take it off the list: {}",
            circle.join(", ")
        )
    }));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

/// Which module of a crate names which.
fn arrows(src: &Path) -> Result<Arrows, String> {
    let mut files = Vec::new();
    collect(src, &mut Vec::new(), &mut files)?;
    let modules: BTreeSet<String> = files.iter().filter_map(|f| f.0.first().cloned()).collect();
    let homes = homes(src, &modules)?;
    let mut arrows = Arrows::new();
    for (path, text) in &files {
        let Some(from) = path.first() else { continue };
        let home = |name: String| match modules.contains(&name) {
            true => Some(name),
            false => homes.get(&name).cloned(),
        };
        let named = names(text, path.len()).into_iter().filter_map(home);
        let others = named.filter(|to| to != from);
        arrows.entry(from.clone()).or_default().extend(others);
    }
    Ok(arrows)
}

/// The modules from which the root of a crate takes names, by name.
fn homes(src: &Path, modules: &BTreeSet<String>) -> Result<BTreeMap<String, String>, String> {
    let mut homes = BTreeMap::new();
    for root in ["lib.rs", "main.rs"].map(|name| src.join(name)) {
        if root.exists() {
            let text = fs::read_to_string(&root).map_err(|e| format!("{}: {e}", root.display()))?;
            homes.extend(imports(&without_tests(&text)));
        }
    }
    homes.retain(|_, module: &mut String| modules.contains(module));
    Ok(homes)
}

/// What `use` brings into a file, by name: the first module of each path.
fn imports(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for statement in text.split(';') {
        let Some((_, tree)) = statement.split_once("use ") else {
            continue;
        };
        let tree = tree.trim().trim_start_matches("crate::");
        let Some((module, rest)) = tree.split_once("::") else {
            continue;
        };
        // Of a path, the last word is the name; of a list in braces, that of each item.
        for item in rest.split(['{', ',', '}']) {
            let mut words = item.rsplit(|c: char| c == ':' || c.is_whitespace());
            let name = words.find(|word| !word.is_empty());
            all.extend(name.map(|name| (name.to_owned(), module.to_owned())));
        }
    }
    all
}

/// Files below `dir` with the paths of their modules; the root of the crate and tests are left out.
fn collect(
    dir: &Path,
    path: &mut Vec<String>,
    files: &mut Vec<(Vec<String>, String)>,
) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let file = entry.map_err(|e| e.to_string())?.path();
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name == "tests" || (path.is_empty() && matches!(&*name, "lib" | "main")) {
            continue;
        }
        path.push(name);
        if file.is_dir() {
            collect(&file, path, files)?;
        } else if file.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            files.push((path.clone(), without_tests(&text)));
        }
        path.pop();
    }
    Ok(())
}

/// The text without comments and the module of tests at its end. One that is only declared ends nothing.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]\n";
    let begins = |at: usize| {
        let item = text[at + MARK.len()..].lines().next().unwrap_or_default();
        item.contains("mod ") && item.ends_with('{')
    };
    let end = text.match_indices(MARK).find(|(at, _)| begins(*at));
    let code = end.map_or(text, |(at, _)| &text[..at]);
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What a file names at the top of its crate, from a module so deep.
fn names(text: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let mut all = Vec::new();
    for root in ["crate::", &up] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            let is_longer = before.is_some_and(|c| c.is_alphanumeric() || "_$:".contains(c));
            if !is_longer {
                push_names(&text[at + root.len()..], &mut all);
            }
        }
    }
    all
}

/// The name, or the list of names in braces, that the text begins with.
fn push_names(text: &str, all: &mut Vec<String>) {
    let first = |s: &str| -> String {
        s.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(list) = text.strip_prefix('{') else {
        return all.push(first(text));
    };
    let (mut depth, mut start) = (0, 0);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                all.push(first(&list[start..i]));
                start = i + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Groups of modules each of which leads to each other.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = (arrows.keys())
        .map(|from| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(at) = next.pop() {
                let new = arrows
                    .get(at)
                    .into_iter()
                    .flatten()
                    .filter(|to| seen.insert(*to));
                next.extend(new.collect::<Vec<_>>());
            }
            (from, seen)
        })
        .collect();
    let is_mutual = |a: &String, b: &String| {
        reach[a].contains(b) && reach.get(b).is_some_and(|r| r.contains(a))
    };
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for a in arrows.keys().filter(|a| reach[*a].contains(*a)) {
        let group = arrows.keys().filter(|b| is_mutual(a, b));
        found.insert(group.cloned().collect());
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_all_their_forms() {
        let text = "use crate::a::X;\nuse crate::{b, c::{Y, d}, e as f};\nlet x = crate::g::h();\n\
                    use super::i::Z; macro!($crate::j::k);";
        assert_eq!(names(text, 1), ["a", "b", "c", "e", "g", "i"]);
        assert_eq!(names("use super::a; use super::super::b;", 2), ["b"]);
        assert_eq!(
            without_tests("a\n// crate::x\n#[cfg(test)]\nmod tests {\n"),
            "a"
        );
        assert_eq!(
            names(&without_tests("#[cfg(test)]\nmod tests;\nuse crate::x;"), 1),
            ["x"]
        );
    }

    #[test]
    fn a_name_that_the_root_takes_from_a_module_leads_there() {
        let found =
            imports("mod a;\npub use a::{B, c::D,\n    E as F,\n};\nuse crate::g::h::I;\nuse J;");
        let found: Vec<_> = found.iter().map(|(n, m)| format!("{n}<{m}")).collect();
        assert_eq!(found, ["B<a", "D<a", "F<a", "I<g"]);
    }

    #[test]
    fn a_circle_is_named_and_what_only_leads_to_it_is_not() {
        let arrow = |from: &str, to: &[&str]| {
            (from.to_string(), to.iter().map(|t| t.to_string()).collect())
        };
        let arrows = [
            arrow("a", &["b"]),
            arrow("b", &["c", "d"]),
            arrow("c", &["b"]),
            arrow("d", &[]),
        ];
        assert_eq!(circles(&arrows.into()), [["b", "c"]]);
    }
}
