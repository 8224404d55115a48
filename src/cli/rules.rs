//! `dietesp rules`.

mod apply;
mod check;
mod show;

use std::path::PathBuf;

use clap::Subcommand;

use super::outputs::Files;
use super::{Ended, print};
use crate::error::Error;
use crate::files::{self, RuleForm, SchemaOf};

/// SCHC rules: show, check and apply them, exchange them with other programs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Args),
    Check(check::Args),
    Apply(apply::Args),
    /// Write the rules of another program as rows in YAML to standard output
    ///
    /// What has no counterpart here (fragmentation rules, fields of other protocols) is named, and nothing is written.
    Import {
        /// OpenSCHC JSON, or RFC 9363 JSON (ietf-schc:schc); `-` is standard input
        file: PathBuf,
    },
    /// Write rules for another program to standard output
    ///
    /// Of a rule file with contexts the `iipc` rules of custom contexts are taken, numbered from 0 in 8 bits.
    Export {
        /// Rules with RuleID and RuleIDLength, or a rule file with custom contexts; `-` is standard input
        file: PathBuf,
        /// The form
        #[arg(long, value_enum, default_value_t = To::Openschc)]
        to: To,
    },
    /// Write the JSON Schema of rule or key files to standard output
    Schema {
        /// Of which files
        #[arg(value_enum)]
        of: Of,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// OpenSCHC's JSON
    Openschc,
    /// The data model of RFC 9363 in JSON (RFC 7951)
    #[value(alias = "yang")]
    Rfc9363,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// Rule files
    Rules,
    /// Key files
    Keys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// JSON
    Json,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        match self.command {
            Command::Show(command) => command.run(quiet),
            Command::Check(command) => command.run(quiet),
            Command::Apply(command) => command.run(),
            Command::Import { file } => {
                Files::default().read("rule file", [&file]).print().check()?;
                print(files::load_rules(&file)?.to_yaml().as_bytes())
            }
            Command::Export { file, to } => {
                Files::default().read("rule file", [&file]).print().check()?;
                let form = match to {
                    To::Openschc => RuleForm::OpenSchc,
                    To::Rfc9363 => RuleForm::Rfc9363,
                };
                print(files::load_custom_rules(&file)?.to_json(form)?.as_bytes())
            }
            Command::Schema { of } => {
                let of = match of {
                    Of::Rules => SchemaOf::Rules,
                    Of::Keys => SchemaOf::Keys,
                };
                print(files::schema(of).as_bytes())
            }
        }
    }
}
