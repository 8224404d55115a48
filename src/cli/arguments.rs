//! The arguments of the process, before they are parsed.

use std::ffi::OsString;

/// The words that `--resync` accepts after a space.
const RESYNC_VALUES: [&str; 2] = ["wide", "full"];

/// Joins `--resync full` to `--resync=full`. If the parser accepted an optional value after a space, it would use any
/// next argument as the value, even the name of the capture.
pub(super) fn join_resync(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = vec![];
    let mut only_files = false;
    for arg in args {
        only_files |= arg == "--";
        let is_value = || RESYNC_VALUES.iter().any(|value| arg == *value);
        match joined.last_mut() {
            Some(before) if !only_files && before == "--resync" && is_value() => {
                before.push("=");
                before.push(&arg);
            }
            _ => joined.push(arg),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(args: &[&str]) -> Vec<String> {
        let joined = join_resync(args.iter().map(OsString::from));
        joined.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn only_wide_and_full_are_joined_to_resync() {
        assert_eq!(joined(&["--resync", "full", "full"]), ["--resync=full", "full"]);
        assert_eq!(joined(&["--resync", "wide"]), ["--resync=wide"]);
        for unchanged in [
            &["--resync", "full.pcap"][..],
            &["--resync"],
            &["--resync=full", "wide"],
            &["full", "--resync"],
            &["--", "--resync", "full"],
        ] {
            assert_eq!(joined(unchanged), unchanged);
        }
    }
}
