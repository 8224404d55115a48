//! `dietesp rules`.

mod apply;
mod apply_context;
mod check;
mod show;
mod trial;

use std::path::PathBuf;

use clap::Subcommand;

use super::outputs::Files;
use super::{Ended, print};
use crate::error::Error;
use crate::files::{self, RuleForm, SchemaOf};

/// Show, check, apply, import and export SCHC rules
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Args),
    Check(check::Args),
    Apply(apply::Args),
    /// Print rules of another program as YAML
    ///
    /// If a rule is not supported (fragmentation rules, fields of other protocols), `import` ends with an error that
    /// names it.
    Import {
        /// OpenSCHC JSON, or RFC 9363 JSON (ietf-schc:schc); `-` is standard input
        file: PathBuf,
    },
    /// Print rules in the form of another program
    ///
    /// From a rule file with contexts, `export` prints the `iipc` rules of the custom contexts. It numbers them with
    /// 8-bit RuleIDs from 0.
    Export {
        /// File with rules that have RuleID and RuleIDLength, or rule file with custom contexts; `-` is standard input
        file: PathBuf,
        /// Form of the output
        #[arg(long, value_enum, default_value_t = To::Openschc)]
        to: To,
    },
    /// Print the JSON Schema of rule files or key files
    Schema {
        /// Kind of file
        #[arg(value_enum)]
        of: Of,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// JSON of OpenSCHC
    Openschc,
    /// JSON of the data model of RFC 9363
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
    /// Aligned columns
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
