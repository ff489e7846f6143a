//! No circle between files: a reader can understand a file after the files that it imports.
//!
//! An arrow is an import of a name that another file defines. A name that a `mod.rs` re-exports counts
//! as an import from the file that defines it, and the re-export itself is no arrow.

use super::{code, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Circles that stay: the file that all of their arrows back lead to, and the reason. Without that
/// file there must be none.
const ALLOWED: &[(&str, &str)] = &[];

/// A module: its path from the crate's root.
type Module = Vec<String>;

/// A `use`, as a path from the crate's root with the name that it brings.
struct Import {
    path: Vec<String>,
    name: String,
    reexports: bool,
}

struct Tree {
    files: BTreeMap<Module, String>,
    imports: BTreeMap<Module, Vec<Import>>,
}

fn module(root: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib", "main"].contains(&module.last().unwrap().as_str()) {
        module.pop();
    }
    module
}

/// Expands `a::{b, c::{d as e, self}}` into paths with the names that they bring.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some((path, list)) = tree.split_once('{') {
        let mut prefix = prefix.to_vec();
        let parts = path.split("::").map(str::trim).filter(|part| !part.is_empty());
        prefix.extend(parts.map(str::to_owned));
        let list = list.strip_suffix('}').unwrap_or(list);
        let (mut depth, mut start) = (0_i32, 0);
        for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&prefix, &list[start..at], found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a.trim())));
    let mut full = prefix.to_vec();
    full.extend(path.split("::").map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()));
    if full.last().is_some_and(|last| last == "self") {
        full.pop();
    }
    if let Some(last) = full.last().cloned() {
        found.push((full, alias.map_or(last, str::to_owned)));
    }
}

/// Makes a path absolute: `None` if it leads out of the crate.
fn absolute(of: &Module, path: &[String], top: &BTreeSet<String>) -> Option<Vec<String>> {
    let (mut base, mut rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (of.clone(), &path[1..]),
        "super" => (of.clone(), path),
        // A child, named without `self`.
        first if top.contains(&[of.join("::"), first.to_owned()].join("::")) => (of.clone(), path),
        _ => return None,
    };
    while rest.first().is_some_and(|part| part == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        sources(&root, &mut paths);
        let mut files = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for path in paths.iter().filter(|path| !path.ends_with("main.rs")) {
            let of = module(&root, path);
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            files.insert(of.clone(), name);
            texts.insert(of, code(&fs::read_to_string(path).unwrap()));
        }
        let top: BTreeSet<String> = files
            .keys()
            .filter(|of| !of.is_empty())
            .map(|of| [of[..of.len() - 1].join("::"), of[of.len() - 1].clone()].join("::"))
            .collect();
        let mut imports = BTreeMap::new();
        for (of, text) in &texts {
            imports.insert(of.clone(), Self::imports(of, text, &top));
        }
        Self { files, imports }
    }

    fn imports(of: &Module, text: &str, top: &BTreeSet<String>) -> Vec<Import> {
        let mut found = Vec::new();
        let mut rest = String::new();
        // Statements `use …;`, and what is left: paths that are written out.
        for (at, piece) in text.split("use ").enumerate() {
            let (statement, after) = piece.split_once(';').unwrap_or((piece, ""));
            if at == 0 {
                rest.push_str(piece);
                continue;
            }
            let before = rest.trim_end();
            let reexports = before.ends_with("pub") || before.ends_with(')');
            let mut paths = Vec::new();
            expand(&[], statement, &mut paths);
            found.extend(paths.into_iter().filter_map(|(path, name)| {
                Some(Import { path: absolute(of, &path, top)?, name, reexports })
            }));
            // A `pub` before this statement is not that of the next one.
            rest.push(';');
            rest.push_str(after);
        }
        for start in ["crate::", "super::"] {
            for (at, _) in rest.match_indices(start) {
                let path = rest[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                let path: Vec<_> = path.take(1).flat_map(|path| path.split("::")).collect();
                let path: Vec<_> = path.iter().map(|part| (*part).to_owned()).collect();
                let before = rest[..at].chars().next_back();
                if before.is_none_or(|c| !c.is_alphanumeric() && c != ':')
                    && !rest[..at].ends_with("pub(in ")
                    && let Some(path) = absolute(of, &path, top)
                {
                    found.push(Import { path, name: String::new(), reexports: false });
                }
            }
        }
        for (at, _) in rest.match_indices("::") {
            let head = &rest[..at];
            let start = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |i| i + 1);
            let before = rest[..start].chars().next_back();
            if before == Some(':') || start == at {
                continue;
            }
            if ["crate", "super", "self"].contains(&&rest[start..at]) {
                continue;
            }
            let path = rest[start..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let path: Vec<_> = path.take(1).flat_map(|path| path.split("::")).collect();
            let path: Vec<_> = path.iter().map(|part| (*part).to_owned()).collect();
            if let Some(path) = absolute(of, &path, top) {
                found.push(Import { path, name: String::new(), reexports: false });
            }
        }
        found
    }

    /// Returns the file that defines what a path names.
    fn defining(&self, path: &[String], depth: usize) -> Option<Module> {
        let known = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        let of = path[..known].to_vec();
        let Some(item) = path.get(known).filter(|_| depth < 8) else {
            return Some(of);
        };
        let forwards = self.imports[&of].iter().find(|i| i.reexports && i.name == *item);
        match forwards {
            Some(import) => self.defining(&import.path, depth + 1),
            None => Some(of),
        }
    }

    fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let arrows = self.imports.iter().map(|(of, imports)| {
            let to = imports.iter().filter(|import| !import.reexports);
            let to = to.filter_map(|import| self.defining(&import.path, 0));
            (of.clone(), to.filter(|to| to != of).collect())
        });
        arrows.collect()
    }

    fn name(&self, of: &Module) -> &str {
        &self.files[of]
    }
}

/// Returns the circles: sets of two files and more that all lead to each other.
fn circles(arrows: &BTreeMap<Module, BTreeSet<Module>>, without: &[&Module]) -> Vec<Vec<Module>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(of) = next.pop() {
            for to in arrows.get(&of).into_iter().flatten() {
                if !without.contains(&to) && seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> =
        arrows.keys().filter(|of| !without.contains(of)).map(|of| (of, reach(of))).collect();
    let mut found: Vec<Vec<Module>> = Vec::new();
    for (of, to) in &reached {
        let leads_back = |other: &&Module| reached.get(other).is_some_and(|to| to.contains(*of));
        let circle: Vec<_> = to.iter().filter(leads_back).cloned().collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn the_files_form_no_circle() {
    let tree = Tree::read();
    let arrows = tree.arrows();
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    let all = circles(&arrows, &[]);
    println!("{} files, {count} arrows between them, {} circles", tree.files.len(), all.len());
    for circle in &all {
        let names: Vec<_> = circle.iter().map(|of| tree.name(of)).collect();
        println!("  {} files: {}", names.len(), names.join(", "));
    }
    let center = |name: &str| tree.files.iter().find(|(_, file)| *file == name);
    let centers: Vec<_> = ALLOWED.iter().map(|(name, _)| center(name).unwrap().0).collect();
    let left = circles(&arrows, &centers);
    let left: Vec<Vec<_>> =
        left.iter().map(|circle| circle.iter().map(|of| tree.name(of)).collect()).collect();
    assert!(left.is_empty(), "circles: {left:#?}");
    for (name, reason) in ALLOWED {
        assert!(all.iter().flatten().any(|of| tree.name(of) == *name), "{name}: {reason}");
    }
}

#[test]
fn a_circle_is_found() {
    let of = |name: &str| vec![name.to_owned()];
    let to = |names: &[&str]| names.iter().map(|name| of(name)).collect::<BTreeSet<_>>();
    let arrows = BTreeMap::from([
        (of("a"), to(&["b", "d"])),
        (of("b"), to(&["c"])),
        (of("c"), to(&["a"])),
        (of("d"), to(&[])),
    ]);
    assert_eq!(circles(&arrows, &[]), [vec![of("a"), of("b"), of("c")]]);
    assert!(circles(&arrows, &[&of("b")]).is_empty());
    let mut found = Vec::new();
    expand(&[], "crate::{a::{self, B as C}, d}", &mut found);
    let found: Vec<_> = found.iter().map(|(path, name)| (path.join("::"), &**name)).collect();
    let expected = [("crate::a", "a"), ("crate::a::B", "C"), ("crate::d", "d")];
    assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name)));
}
