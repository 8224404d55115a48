//! The library is small: few public names, all documented, and few crates under it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::file;

/// Public items that `cargo doc` may show.
const MOST_ITEMS: usize = 120;
/// Crates that a program links with the library, itself not counted. Procedural macros run when it is built.
const MOST_CRATES: usize = 65;

/// Runs cargo in `folder`; gives its standard output.
fn cargo(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).arg("--offline").current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The target folder of this build.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => pages(&path, found),
            false => found.push(path),
        }
    }
}

/// The items of a page: the one that it is about, and its methods, constants, variants and fields. Those of traits that
/// the item implements are not counted.
fn items(page: &str) -> Vec<String> {
    let sections = page.split("<section id=\"").chain(page.split("<span id=\"")).skip(1);
    let items = sections.filter_map(|section| {
        let (id, rest) = section.split_once('"')?;
        let (class, _) = rest.split_once('>')?;
        let kind = id.split('.').next()?;
        let is_item = ["method", "associatedconstant", "variant", "structfield", "tymethod"].contains(&kind);
        (is_item && !class.contains("trait-impl")).then(|| id.to_owned())
    });
    let mut all: Vec<String> = items.collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn the_documentation_has_few_items() {
    // Pages of items that are gone would stay.
    let folder = target().join("doc/dietesp");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    let target = target();
    cargo(file("").as_ref(), &["doc", "--quiet", "--no-deps", "--lib", "--target-dir", target.to_str().unwrap()]);
    let mut found = vec![];
    pages(&folder, &mut found);
    let mut all = vec![];
    for path in found {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let kinds = ["struct.", "enum.", "fn.", "constant.", "trait.", "type.", "macro."];
        if kinds.iter().any(|kind| name.starts_with(kind)) {
            let page = std::fs::read_to_string(&path).unwrap();
            // The path in a private module leads to the public one.
            if page.contains("<title>Redirection</title>") {
                continue;
            }
            all.extend(items(&page).into_iter().map(|item| format!("{name} {item}")));
            all.push(name);
        }
    }
    all.sort();
    for expected in [
        "struct.Session.html",
        "struct.Session.html method.feed",
        "enum.Status.html variant.NoSa",
        "struct.Fault.html structfield.offset",
        "enum.Error.html variant.Io.field.path",
    ] {
        assert!(all.iter().any(|item| item == expected), "{expected} is not in {all:#?}");
    }
    assert!(all.len() <= MOST_ITEMS, "{} items: {all:#?}", all.len());
}

/// The example as the program of another package, which uses the library without the command line.
#[test]
fn the_example_builds_as_a_dependency_with_few_crates() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"host\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         dietesp = {{ path = {:?}, default-features = false }}\n",
        file("")
    );
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::copy(file("examples/decode.rs"), folder.path().join("src/main.rs")).unwrap();
    std::fs::copy(file("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    // The folder of this build has most of the crates already.
    cargo(folder.path(), &["build", "--quiet", "--target-dir", target().to_str().unwrap()]);
    let args = ["tree", "-e", "normal,no-proc-macro", "--prefix", "none", "-f", "{p}"];
    let tree = cargo(folder.path(), &args);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("dietesp") && crates.contains("aes"), "{tree}");
    let linked: Vec<&&str> = crates.iter().filter(|name| !["host", "dietesp"].contains(name)).collect();
    assert!(linked.len() <= MOST_CRATES, "{} crates: {linked:?}", linked.len());
    for of_the_command_line in ["clap", "comfy-table", "indicatif", "ctrlc"] {
        assert!(!crates.contains(of_the_command_line), "{of_the_command_line}");
    }
}
