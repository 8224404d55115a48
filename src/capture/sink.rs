//! The destination of an output: a file that appears when it is complete, a device, a pipe or standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;

use super::encoder::Encoder;
use crate::Error;

/// Writes a file other than a capture. It appears, or replaces an existing file, only when it is complete.
///
/// # Errors
/// The file cannot be created or written.
#[cfg(feature = "cli")]
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut sink = Sink::create(path)?;
    sink.write(bytes).map_err(Error::io(path, "write"))?;
    sink.finish(path)
}

/// An output that is being written, compressed if its name has such an extension.
pub(crate) struct Sink {
    place: Place,
    encoder: Encoder,
}

/// The destination of the bytes.
enum Place {
    /// A temporary file in the folder of the target, removed when dropped.
    Temporary {
        file: NamedTempFile,
        target: PathBuf,
    },
    /// Not a regular file.
    Direct(File),
    Stdout,
}

static STDOUT_CLAIMED: AtomicBool = AtomicBool::new(false);

impl Sink {
    pub(crate) fn create(path: &Path) -> Result<Sink, Error> {
        let encoder = Encoder::for_path(path)?;
        Ok(Sink { place: Place::create(path)?, encoder })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Sink { place, encoder } = self;
        // The reader of a pipe should see each packet at once.
        let at_once = !matches!(place, Place::Temporary { .. });
        encoder.write(bytes, at_once, &mut |bytes| place.write(bytes))
    }

    pub(crate) fn finish(self, path: &Path) -> Result<(), Error> {
        let Sink { mut place, encoder } = self;
        encoder.finish(&mut |bytes| place.write(bytes)).map_err(Error::io(path, "write"))?;
        place.finish(path)
    }
}

impl Place {
    fn create(path: &Path) -> Result<Place, Error> {
        if is_standard_output(path) {
            return Place::stdout();
        }
        if is_descriptor(path) {
            // The file was opened by the shell, perhaps to append to it.
            let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path, "write"))?;
            return Ok(Place::Direct(file));
        }
        let target = resolve(path);
        let mut permissions = new_file_permissions();
        if let Ok(metadata) = fs::metadata(&target) {
            let file = OpenOptions::new().write(true).open(&target).map_err(Error::io(path, "write"))?;
            if !metadata.is_file() {
                return Ok(Place::Direct(file));
            }
            permissions = Some(metadata.permissions());
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dietesp-");
        if let Some(permissions) = permissions {
            builder.permissions(permissions);
        }
        let folder = folder_of(&target);
        fs::metadata(folder).map_err(Error::io(path, "create"))?;
        // The original error contains the temporary name, which the user does not know.
        let file = builder.tempfile_in(folder).map_err(|error| Error::io(path, "create")(error.kind().into()))?;
        Ok(Place::Temporary { file, target })
    }

    fn stdout() -> Result<Place, Error> {
        if io::stdout().is_terminal() {
            return Err(Error::usage(
                "a capture is not written to a terminal",
                "give a file with -o, or pipe into another program: ... -o - | tshark -r -",
            ));
        }
        claim(&STDOUT_CLAIMED)?;
        Ok(Place::Stdout)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Place::Temporary { file, .. } => file.as_file_mut().write_all(bytes),
            Place::Direct(file) => file.write_all(bytes),
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
        }
    }

    fn finish(self, path: &Path) -> Result<(), Error> {
        let Place::Temporary { file, target } = self else {
            return Ok(());
        };
        if let Ok(metadata) = fs::metadata(&target) {
            // The umask removed some permissions of the file to be replaced.
            fs::set_permissions(file.path(), metadata.permissions()).map_err(Error::io(path, "write"))?;
        }
        file.persist(&target).map_err(|error| Error::io(path, "replace")(error.error))?;
        Ok(())
    }
}

/// Notes that a writer uses standard output.
fn claim(claimed: &AtomicBool) -> Result<(), Error> {
    match claimed.swap(true, Ordering::Relaxed) {
        false => Ok(()),
        true => {
            Err(Error::usage("only one capture can be written to standard output", "write the other one to a file"))
        }
    }
}

/// Read and write for all, reduced by the umask. Without this, temporary files are private.
fn new_file_permissions() -> Option<fs::Permissions> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Some(fs::Permissions::from_mode(0o666))
    }
    #[cfg(not(unix))]
    None
}

/// Whether a path names standard output.
pub(crate) fn is_standard_output(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Whether a path names a file that is open already.
fn is_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd", "/dev/stderr"].iter().any(|start| path.starts_with(start))
}

/// The path of the file that is written under this name. A symbolic link is followed, so that its target is replaced
/// and not the link, even if the target does not exist yet.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    /// The limit of Linux.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(existing) = fs::canonicalize(&target) {
            return existing;
        }
        let Ok(named) = fs::read_link(&target) else { break };
        target = folder_of(&target).join(named);
    }
    match (fs::canonicalize(folder_of(&target)), target.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => target,
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_claimed_once() {
        let claimed = AtomicBool::new(false);
        claim(&claimed).unwrap();
        let error = claim(&claimed).unwrap_err();
        assert_eq!(error.to_string(), "only one capture can be written to standard output");
        assert_eq!(error.help(), "write the other one to a file");
    }
}
