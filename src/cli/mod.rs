//! The command line: arguments to settings, a library call, an exit status.

mod advice;
mod arguments;
mod compress;
mod convert;
mod decode;
mod interrupt;
mod keys;
mod options;
mod outputs;
mod progress;
mod rules;
mod sa;
mod show;
mod status;
mod terminal;
mod vectors;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::status::{Ended, Outcome};
use crate::capture::Reader;
use crate::error::Error;

/// Decodes, decrypts, converts and generates Diet-ESP captures.
#[derive(Debug, Parser)]
#[command(name = "dietesp", version, about, max_term_width = 100)]
#[command(after_help = "Examples:
  dietesp decode field.pcapng --rules rules.yaml --keys keys.yaml
  dietesp convert field.pcapng -o esp.pcapng --rules rules.yaml --keys keys.yaml
  dietesp help decode

Exit status:
  0  Every packet that looks like ESP was decoded. Packets without a known SA
     do not count if other packets were decoded.
  1  Some packets failed; or no packet was decoded, for example because the
     capture has no ESP packets; or the capture is truncated.
  2  The command failed: the arguments, keys, rules or capture are unusable.

Packets that are not shown count too.")]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print only results and warnings about damaged captures
    #[arg(short, long, global = true, display_order = 900)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Decode(decode::Args),
    Show(show::Args),
    Convert(convert::Args),
    Compress(compress::Args),
    Vectors(vectors::Args),
    Rules(rules::Args),
    Sa(sa::Args),
    Keys(keys::Args),
    /// Print the completions of a shell
    Completions {
        /// Shell to print completions for
        shell: clap_complete::Shell,
    },
    /// Print a manual page: dietesp man | man -l -
    Man {
        /// Command to describe (default: all of dietesp)
        command: Option<String>,
    },
}

/// Last line of the summary if IVs from a seed were used with the user's own keys.
const SEED_AND_KEYS: &str = "--seed: another run with this seed uses the same IVs. If it encrypts other packets under \
    the same keys, both plaintexts can be recovered and packets can be forged: for tests only\n";

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let args = Args::parse_from(arguments::join_resync(std::env::args_os()));
    let result = match args.command {
        Command::Decode(command) => command.run(args.quiet),
        Command::Show(command) => command.run(args.quiet),
        Command::Convert(command) => command.run(args.quiet),
        Command::Compress(command) => command.run(args.quiet),
        Command::Vectors(command) => command.run(args.quiet),
        Command::Rules(command) => command.run(args.quiet),
        Command::Sa(command) => command.run(args.quiet),
        Command::Keys(command) => command.run(args.quiet),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Args::command(), "dietesp", &mut script);
            print(&script)
        }
        Command::Man { command } => man(command.as_deref()),
    };
    match result {
        Ok(ended) => ended.into(),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed too, only the exit status reports the error.
            let _ = writeln!(std::io::stderr(), "dietesp: {error}");
            let help = advice::for_error(&error);
            if !help.is_empty() {
                let _ = writeln!(std::io::stderr(), "  {help}");
            }
            ExitCode::from(if matches!(error, Error::Mismatch { .. }) { 1 } else { 2 })
        }
    }
}

/// Prints the manual page of a command, or of the whole program.
fn man(name: Option<&str>) -> Result<Ended, Error> {
    let mut all = Args::command();
    all.build();
    let command = match name {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
                let help = format!("commands: {}", names.join(" "));
                return Err(Error::usage(format!("there is no command {name}"), help));
            }
        },
    };
    let mut page = vec![];
    clap_mangen::Man::new(command).render(&mut page).map_err(Error::io("-".as_ref(), "write"))?;
    print(&page)
}

/// A count and its noun: `1 byte`, `2 bytes`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Writes results to standard output.
fn print(bytes: &[u8]) -> Result<Ended, Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::io("-".as_ref(), "write"))?;
    Ok(Ended::Well)
}

/// Prints a warning for each damaged part of the capture, also with `--quiet`, because no other output mentions it.
/// Returns true if the capture is truncated or damaged, so that packets may be missing.
fn print_damage(reader: &mut Reader) -> bool {
    for warning in reader.warnings() {
        report(false, &format!("dietesp: warning: {warning}\n"));
    }
    reader.is_incomplete()
}

/// Prints a text to standard error, unless `quiet`.
fn report(quiet: bool, text: &str) {
    if !quiet {
        let _ = write!(std::io::stderr(), "{text}");
    }
}
