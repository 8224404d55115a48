//! Checks that no output is also an input or another output, not even through a symbolic link or a hard link.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::capture::resolve;
use crate::error::Error;

/// The files that a command reads and writes; `-` is standard input or output.
#[derive(Debug, Default)]
pub(super) struct Files<'p> {
    inputs: Vec<(&'static str, &'p Path)>,
    outputs: Vec<PathBuf>,
}

impl<'p> Files<'p> {
    /// Adds files that are read. `what` describes them in messages.
    pub(super) fn read(mut self, what: &'static str, paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        self.inputs.extend(paths.into_iter().map(|path| (what, path.as_path())));
        self
    }

    /// Adds a file that is written.
    pub(super) fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.outputs.push(path.into());
        self
    }

    /// Adds standard output.
    pub(super) fn print(self) -> Self {
        self.write("-")
    }

    /// Checks that every output is a separate file. Opens and changes nothing.
    ///
    /// # Errors
    /// An output is an input, or another output; or two inputs are standard input.
    pub(super) fn check(self) -> Result<(), Error> {
        let mut from_standard = self.inputs.iter().filter(|(_, path)| *path == Path::new("-")).map(|(what, _)| what);
        if let (Some(first), Some(second)) = (from_standard.next(), from_standard.next()) {
            return Err(Error::usage(
                format!("`-` is given for the {first} and the {second}, but standard input can be read only once"),
                "name a file for one of them",
            ));
        }
        let inputs: Vec<Option<Identity>> = self.inputs.iter().map(|(_, path)| Identity::of_input(path)).collect();
        let mut earlier: Vec<(&Path, Identity)> = vec![];
        for path in &self.outputs {
            let Some(identity) = Identity::of_output(path) else { continue };
            let input = self.inputs.iter().zip(&inputs).find(|(_, input)| input.as_ref() == Some(&identity));
            if let Some(((what, input), _)) = input {
                let name = match *input == Path::new("-") {
                    true => "on standard input".to_owned(),
                    false => input.display().to_string(),
                };
                return Err(same_file(path, &format!("the {what} {name}")));
            }
            if let Some((other, _)) = earlier.iter().find(|(_, other)| *other == identity) {
                return Err(same_file(path, &format!("the output {}", other.display())));
            }
            earlier.push((path, identity));
        }
        Ok(())
    }
}

fn same_file(output: &Path, other: &str) -> Error {
    let output = match output == Path::new("-") {
        true => "standard output".to_owned(),
        false => format!("the output {}", output.display()),
    };
    Error::usage(format!("{output} is the same file as {other}"), "give the output another name")
}

/// Identifies a file, whatever its name.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Device and inode number.
    #[cfg(unix)]
    Inode(u64, u64),
    /// The path of the file, even if it does not exist yet.
    Place(PathBuf),
}

impl Identity {
    fn of_input(path: &Path) -> Option<Identity> {
        match path == Path::new("-") {
            true => Identity::of_standard(&std::io::stdin()),
            false => Identity::of_path(path),
        }
    }

    fn of_output(path: &Path) -> Option<Identity> {
        match path == Path::new("-") {
            true => Identity::of_standard(&std::io::stdout()),
            false => Identity::of_path(path),
        }
    }

    fn of_path(path: &Path) -> Option<Identity> {
        match fs::metadata(path) {
            Ok(metadata) => Identity::of_file(&metadata, path),
            // The file does not exist, so it is no input. Two outputs may still have the same path.
            Err(_) => Some(Identity::Place(resolve(path))),
        }
    }

    /// Devices and sockets have no identity: writing to a terminal or to `/dev/null` destroys no input.
    #[cfg(unix)]
    fn of_file(metadata: &Metadata, _path: &Path) -> Option<Identity> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let kind = metadata.file_type();
        let has_identity = !kind.is_char_device() && !kind.is_socket();
        has_identity.then(|| Identity::Inode(metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    fn of_file(_metadata: &Metadata, path: &Path) -> Option<Identity> {
        Some(Identity::Place(resolve(path)))
    }

    /// The file that a standard stream is redirected to.
    #[cfg(unix)]
    fn of_standard(stream: &impl std::os::fd::AsFd) -> Option<Identity> {
        let file = fs::File::from(stream.as_fd().try_clone_to_owned().ok()?);
        Identity::of_file(&file.metadata().ok()?, Path::new("-"))
    }

    /// Unknown: only Unix provides device and inode numbers.
    #[cfg(not(unix))]
    fn of_standard<S>(_stream: &S) -> Option<Identity> {
        None
    }
}
