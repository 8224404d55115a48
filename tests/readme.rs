//! The shell commands of README.md and samples/README.md run as written, and they produce the samples.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::file;

/// The commands in the blocks of a page that are marked as `language`, one per line.
fn commands(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file(page)).unwrap();
    let (mut lines, mut inside) = (vec![], false);
    for line in text.replace("\\\n", "").lines() {
        match line {
            start if start == format!("```{language}") => inside = true,
            "```" => inside = false,
            command if inside => lines.push(command.split_whitespace().collect::<Vec<_>>().join(" ")),
            _ => {}
        }
    }
    lines
}

fn shell_lines(page: &str) -> Vec<String> {
    commands(page, "sh")
}

/// A folder that looks like the root of the project, and whose files may be replaced.
fn copy_of_samples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["samples", "keys"] {
        copy(&PathBuf::from(file(name)), &folder.path().join(name));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// Runs a line with bash in `folder`. `dietesp` is the tested binary.
fn bash(line: &str, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_dietesp")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let line = format!("set -euo pipefail; {line}");
    Command::new("bash").args(["-c", &line]).env("PATH", path).current_dir(folder).output().unwrap()
}

#[test]
fn the_shell_commands_of_the_readme_run() {
    let folder = copy_of_samples();
    let mut run = vec![];
    for line in shell_lines("README.md") {
        // Commands that need the network, root or a window are replaced. Commands that build or run the tests are
        // skipped.
        let line = match line.split_once(" | dietesp decode - ") {
            Some(("sudo tcpdump -i eth0 -U -w - 'esp or udp port 4500'", options)) => {
                format!("cat samples/probe/diet-esp.pcapng | dietesp decode - {options}")
            }
            Some((echo, _)) if echo.starts_with("echo ") => line,
            Some((other, _)) => panic!("{other} is not known here"),
            None => line.replace(" wireshark ", " tshark -r ").replace("cargo run --release -- ", "dietesp "),
        };
        if line.starts_with("cargo install") || line == "tests/run.sh" {
            continue;
        }
        let output = bash(&line, folder.path());
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        run.push((line, String::from_utf8(output.stdout).unwrap()));
    }
    let output_of = |part: &str| run.iter().find(|(line, _)| line.contains(part)).map(|(_, output)| output.as_str());
    let first = output_of("dietesp decode samples/probe/diet-esp.pcapng --rules").unwrap();
    assert_eq!(first.lines().filter(|line| line.ends_with("  ok")).count(), 240);
    let row: Vec<&str> = first.lines().nth(17).unwrap().split_whitespace().collect();
    let expected = "17 11:23:52.723506651 probe-1-up 0x8754dd38 4 [fd0a::1]:5001 [fd0b::1]:5683 UDP 27 57 ok";
    assert_eq!(row.join(" "), expected);
    let shown = output_of("tshark").unwrap();
    assert_eq!(shown.lines().filter(|line| line.contains("CoAP")).count(), 240, "{shown}");
    let selected = output_of("jq").unwrap();
    assert_eq!(selected.lines().next(), Some("[1,50123,52]"));
    assert_eq!(selected.lines().count(), 30);
    let failed: Vec<&str> = output_of("status != ").unwrap().lines().map(str::trim_start).collect();
    assert!(failed.len() == 9 && failed.contains(&"57 not-esp\tIEEE 802.15.4 acknowledgment"), "{failed:?}");
    assert!(output_of("--from hex").unwrap().contains("probe-1-up    0x8754dd38       1  [fd0a::1]:5001 "));
    assert!(output_of("decode - ").unwrap().contains("\n11\t1\t5683\n"));
}

/// The output shown in the README is the output of the command.
#[test]
fn the_readme_shows_real_output() {
    let text = std::fs::read_to_string(file("README.md")).unwrap();
    let words = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let block = text.replace("\\\n", "");
    let block = block.split_once("```console\n$ ").unwrap().1.split_once("```").unwrap().0;
    let (command, shown) = block.split_once('\n').unwrap();
    let output = bash(command.strip_suffix(" | column -t").unwrap(), copy_of_samples().path());
    assert_eq!(words(shown), words(&String::from_utf8(output.stdout).unwrap()));
}

#[test]
fn the_readme_fits_100_columns() {
    let text = std::fs::read_to_string(file("README.md")).unwrap();
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

/// crates.io accepts 10 MiB.
const CRATE_LEN: u64 = 10 << 20;

/// The example of the README is the one that runs.
#[test]
fn the_readme_shows_the_example_of_the_library() {
    let [page, example] = ["README.md", "examples/decode.rs"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(page.contains(&format!("```rust\n{code}```\n")));
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--example", "decode"])
        .current_dir(file(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [capture, rules, keys] = ["samples/gateway/diet-esp.pcapng", "samples/gateway/rules.yaml", "keys/gateway.yaml"];
    let (decoded, _) =
        common::dietesp_ends(0, ["decode", &file(capture), "-r", &file(rules), "-k", &file(keys), "--format", "jsonl"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), decoded);
}

/// The files below `folder`, as paths relative to the root of the project.
fn files_below(folder: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(file(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => files_below(&name, names),
            false => names.push(name),
        }
    }
}

/// The published package contains everything that its tests read, so that `cargo test` passes in it.
#[test]
fn the_package_has_what_its_tests_need() {
    if Path::new(&file("Cargo.toml.orig")).exists() {
        // If this is the unpacked package, it cannot be packed again. The other tests read its content.
        return;
    }
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--quiet"])
        .current_dir(file(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let packaged: std::collections::HashSet<&str> = listed.lines().collect();
    let mut needed = vec!["README.md".to_owned(), "LICENSE-MIT".to_owned(), "LICENSE-APACHE".to_owned()];
    for folder in ["src", "examples", "tests", "samples", "keys", "schemas"] {
        files_below(folder, &mut needed);
    }
    // It runs the fuzz targets, which are a separate package.
    needed.retain(|name| name != "tests/fuzz_bodies.rs");
    assert!(needed.len() > 200, "{}", needed.len());
    needed.retain(|name| !packaged.contains(name.as_str()));
    assert_eq!(needed, [""; 0], "not packaged");
    assert!(!packaged.iter().any(|name| name.starts_with("fuzz/") || name.contains("fuzz_bodies")), "{listed}");
    // Cargo generates some files of the list itself.
    let lens = packaged.iter().filter_map(|name| Some(std::fs::metadata(file(name)).ok()?.len()));
    let len: u64 = lens.sum();
    assert!(len < CRATE_LEN, "{len} bytes, uncompressed");
}

#[test]
fn cargo_run_accepts_the_same_arguments() {
    let lines = shell_lines("README.md");
    let cargo: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("cargo run --release -- ")).collect();
    assert_eq!(cargo, ["decode samples/probe/diet-esp.pcapng --rules samples/probe/rules.yaml --keys keys/probe.yaml"]);
}

#[test]
fn the_samples_match_their_readme() {
    let folder = copy_of_samples();
    let lines = shell_lines("samples/README.md");
    assert_eq!(lines.len(), 5);
    for (line, sample) in lines.iter().zip(["probe", "tcp", "gateway", "ipv4", "transport"]) {
        let made = folder.path().join(format!("samples/{sample}/diet-esp.pcapng"));
        std::fs::remove_file(&made).unwrap();
        let output = bash(line, folder.path());
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        let shipped = std::fs::read(file(&format!("samples/{sample}/diet-esp.pcapng"))).unwrap();
        assert!(std::fs::read(&made).unwrap() == shipped, "{sample}: the shipped capture is another");

        let keys = if sample == "probe" { "esp_keys.txt" } else { "esp_keys.yaml" };
        let original = common::decode([
            &file(&format!("samples/{sample}/original.pcap")),
            "-k",
            &file(&format!("samples/{sample}/{keys}")),
        ]);
        let diet = common::decode([
            &file(&format!("samples/{sample}/diet-esp.pcapng")),
            "-r",
            &file(&format!("samples/{sample}/rules.yaml")),
            "-k",
            &file(&format!("keys/{sample}.yaml")),
        ]);
        let (frames, ok, bytes, as_esp) = table_row(sample);
        for (records, status) in [&original, &diet] {
            assert_eq!((records.len(), common::count(records, "ok"), *status), (frames, ok, 0), "{sample}");
        }
        let sum = |of: &str| diet.0.iter().filter_map(|record| record["bytes"][of].as_u64()).sum::<u64>();
        assert_eq!((sum("diet"), sum("esp")), (bytes, as_esp), "{sample}");
        for (original, diet) in original.0.iter().zip(&diet.0) {
            assert_eq!(original["esp"]["spi"], diet["esp"]["spi"], "{sample} frame {}", diet["frame"]);
            assert_eq!(original["esp"]["sequence"], diet["esp"]["sequence"], "{sample} frame {}", diet["frame"]);
            assert_eq!(original["inner"], diet["inner"], "{sample} frame {}", diet["frame"]);
        }
    }
}

/// Frames, `ok` frames, bytes and bytes as standard ESP, as in the table of `samples/README.md`.
fn table_row(sample: &str) -> (usize, usize, u64, u64) {
    let text = std::fs::read_to_string(file("samples/README.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix(&format!("| `{sample}` |")));
    let numbers = |row: &str| row.split('|').map_while(|cell| cell.trim().parse().ok()).collect::<Vec<u64>>();
    let row = rows.map(numbers).find(|numbers| !numbers.is_empty()).unwrap();
    let [frames, ok, bytes, as_esp] = row[..] else { panic!("{row:?}") };
    (frames as usize, ok as usize, bytes, as_esp)
}
