//! The tables of `decode` and `sa` on a terminal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::process::{Command, Stdio};

use common::show::{Case, cases};

/// Runs a command with its standard output on a terminal of so many columns, and copies what the terminal receives.
const ON_A_TERMINAL: &str = "
import fcntl, os, struct, subprocess, sys, termios
ours, theirs = os.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, int(sys.argv[1]), 0, 0))
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL)
os.close(theirs)
while True:
    try:
        received = os.read(ours, 65536)
    except OSError:
        break
    if not received:
        break
    sys.stdout.buffer.write(received)
sys.stdout.flush()
sys.exit(child.wait())
";

fn args(case: &Case, command: &[&str]) -> Vec<String> {
    let command = command.iter().map(|arg| (*arg).to_owned());
    command.chain([case.capture.clone()]).chain(case.options.iter().cloned()).collect()
}

/// What a terminal of so many columns receives, escape sequences of colors included.
fn lines_on_terminal(columns: usize, args: &[String], color: bool) -> Vec<String> {
    let mut command = Command::new(std::env::var("DIETESP_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
    command.args(["-c", ON_A_TERMINAL, &columns.to_string(), env!("CARGO_BIN_EXE_dietesp")]).args(args);
    command.env("NO_COLOR", if color { "" } else { "1" });
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|_| common::not_installed("Python"));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The lines in a file.
fn file_lines(args: &[String]) -> Vec<String> {
    String::from_utf8(common::dietesp(args).stdout).unwrap().lines().map(str::to_owned).collect()
}

fn assert_fits(lines: &[String], columns: usize) {
    for line in lines {
        assert!(line.chars().count() <= columns, "wider than {columns} columns: {line}\nin\n{}", lines.join("\n"));
    }
}

fn titles(lines: &[String]) -> Vec<&str> {
    lines[0].split_whitespace().collect()
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for case in cases() {
        for command in ["decode", "sa"] {
            let args = args(&case, &[command]);
            let full = file_lines(&args);
            for columns in [20, 80, 100, 160] {
                let lines = lines_on_terminal(columns, &args, false);
                assert_fits(&lines, columns);
                assert_eq!(lines.len(), full.len(), "{}", lines.join("\n"));
            }
            // A wide terminal has every cell in full.
            let cells = |lines: &[String]| -> Vec<String> {
                lines.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect()
            };
            assert_eq!(cells(&lines_on_terminal(1000, &args, false)), cells(&full));
        }
    }
}

#[test]
fn columns_are_dropped_by_priority() {
    for case in cases() {
        let decode = args(&case, &["decode"]);
        for (columns, dropped) in [
            (80, &["Time", "SPI", "Proto", "Wire", "Saved"][..]),
            (100, &["Time", "SPI", "Wire", "Saved"]),
            (120, &["SPI", "Saved"]),
            (160, &[]),
        ] {
            let lines = lines_on_terminal(columns, &decode, false);
            let full = file_lines(&decode);
            let expected: Vec<&str> = titles(&full).into_iter().filter(|title| !dropped.contains(title)).collect();
            assert_eq!(titles(&lines), expected, "{columns}");
        }
        let lines = lines_on_terminal(80, &args(&case, &["sa"]), false);
        for title in ["SA", "Source", "Verified", "Failed", "First", "Last", "Missing"] {
            assert!(titles(&lines).contains(&title), "{title} in\n{}", lines.join("\n"));
        }
    }
}

#[test]
fn colors_take_no_columns() {
    for case in cases() {
        let decode = args(&case, &["decode"]);
        let colored = lines_on_terminal(80, &decode, true);
        let plain: Vec<String> = colored
            .iter()
            .map(|line| {
                ["\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"]
                    .iter()
                    .fold(line.clone(), |line, code| line.replace(code, ""))
            })
            .collect();
        assert_eq!(plain, lines_on_terminal(80, &decode, false));
        assert!(colored.iter().skip(1).all(|line| line.contains("\x1b[") && line.ends_with("\x1b[0m")));
    }
}

#[test]
fn a_terminal_too_narrow_for_the_status_has_no_broken_characters() {
    let case = Case::new("samples/probe/diet-esp.pcapng", &["samples/probe/rules.yaml"], &["keys/probe.yaml"]);
    let decode = args(&case, &["decode"]);
    // The status starts in column 65.
    for columns in 60..=68 {
        let colored = lines_on_terminal(columns, &decode, true);
        assert_fits(&lines_on_terminal(columns, &decode, false), columns);
        assert_eq!(colored.iter().any(|line| line.contains("\x1b[")), columns > 64, "{columns}");
    }
}

#[test]
fn long_addresses_and_reasons_are_shortened_with_an_ellipsis() {
    let folder = ["gateway", "probe"].map(|name| format!("samples/{name}"));
    let [gateway, probe] = folder.map(|folder| {
        let keys = folder.replace("samples", "keys") + ".yaml";
        let case = Case::new(&format!("{folder}/diet-esp.pcapng"), &[&format!("{folder}/rules.yaml")], &[&keys]);
        lines_on_terminal(80, &args(&case, &["decode"]), false)
    });
    assert_eq!(gateway[1], "     1  meters           1  [2001…::2]:40002  [2001…e::1]:5683  ok");
    assert_eq!(probe[9], "     9                      fd01::1           fd01::2           not-esp: IKE or…");
}
