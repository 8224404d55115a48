//! A folder of `src` uses only folders below it, so there are no circles between folders.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

/// The folders and files of `src`, highest first. Entries of the same row may not use each other.
const LAYERS: [&[&str]; 20] = [
    &["main"],
    &["lib", "internals"],
    &["cli"],
    &["facade"],
    &["command"],
    &["records", "vectors", "wireshark"],
    &["batch"],
    &["encoder"],
    &["decoder"],
    &["files"],
    &["ike"],
    &["sa"],
    &["link"],
    &["capture"],
    &["codec"],
    &["context"],
    &["schc", "cipher"],
    &["net"],
    &["bits", "bytes", "cores", "prefetch"],
    &["error", "hash", "secret"],
];

fn layer(module: &str) -> usize {
    let layer = LAYERS.iter().position(|modules| modules.contains(&module));
    layer.unwrap_or_else(|| panic!("{module} is not in the list of layers"))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => rust_files(&path, files),
            Some(extension) if extension == "rs" => files.push(path),
            _ => {}
        }
    }
}

/// The modules that a file uses as `crate::NAME`, except in its tests and comments.
fn used_modules(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    paths
        .flat_map(|path| match path.strip_prefix('{') {
            Some(list) => list.split(',').map(str::trim).collect::<Vec<_>>(),
            None => vec![path],
        })
        .filter_map(|path| path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
        // `crate::Error` and similar names are re-exports of the lowest layer.
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn every_file_uses_only_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut upward) = (vec![], vec![]);
    rust_files(&src, &mut files);
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let is_test = relative.iter().any(|part| part == "tests" || part == "tests.rs");
        if is_test || relative == Path::new("cipher/vectors.rs") {
            continue;
        }
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        for used in used_modules(&std::fs::read_to_string(&file).unwrap()) {
            let (own, other) = (layer(&module), layer(used));
            if used != module && other <= own {
                upward.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn used_modules_are_found() {
    let text = "use crate::{Error, link};\nuse crate::net::ip;\n// crate::cli\nlet a = crate::sa::b();\n\
                #[cfg(test)]\nmod tests {\n    use crate::batch;\n}";
    assert_eq!(used_modules(text), ["link", "net", "sa"]);
}
