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

/// The addresses of the pages of all items, from the page that lists them. Pages of items that are gone are not in it.
fn pages(list: &str) -> impl Iterator<Item = &str> {
    let kinds = ["struct.", "enum.", "union.", "fn.", "constant.", "static.", "trait.", "type.", "macro."];
    let links = list.split("href=\"").skip(1).filter_map(|link| Some(link.split_once('"')?.0));
    links
        .filter(move |link| kinds.iter().any(|kind| link.rsplit('/').next().is_some_and(|name| name.starts_with(kind))))
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
    // Its own folder: `target/doc` may have documentation that someone reads.
    let target = target().join("tmp/library");
    let library = ["doc", "--quiet", "--no-deps", "--lib", "--no-default-features"];
    cargo(file("").as_ref(), &[&library[..], &["--target-dir", target.to_str().unwrap()]].concat());
    let folder = target.join("doc/dietesp");
    let mut all = vec![];
    for name in pages(&std::fs::read_to_string(folder.join("all.html")).unwrap()) {
        let page = std::fs::read_to_string(folder.join(name)).unwrap();
        all.extend(items(&page).into_iter().map(|item| format!("{name} {item}")));
        all.push(name.to_owned());
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
