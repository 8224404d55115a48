//! A folder with `esp_sa` and preferences, to be used as `WIRESHARK_CONFIG_DIR`.

use std::io::Write as _;
use std::path::Path;
#[cfg(feature = "cli")]
use std::path::PathBuf;

use crate::error::Error;

/// The preferences that make Wireshark decrypt and verify ESP.
const PREFERENCES: &str = "esp.enable_encryption_decode: TRUE\nesp.enable_authentication_check: TRUE\n";

/// The folder that [`write_folder`] writes, and its files.
#[cfg(feature = "cli")]
pub(crate) fn paths(folder: &Path) -> [PathBuf; 3] {
    [folder.to_owned(), folder.join("esp_sa"), folder.join("preferences")]
}

/// Whether a folder contains another Wireshark profile, which [`write_folder`] would overwrite.
#[cfg(feature = "cli")]
pub(crate) fn has_other_profile(folder: &Path) -> bool {
    match std::fs::read_to_string(folder.join("preferences")) {
        Ok(preferences) => preferences != PREFERENCES,
        Err(_) => folder.join("preferences").exists() || folder.join("esp_sa").exists(),
    }
}

/// Writes `esp_sa` and `preferences` into `folder`, to be used as `WIRESHARK_CONFIG_DIR`. Creates the folder if it
/// is missing. The files contain keys, so on Unix only their owner may read them, and only the owner may enter a
/// new folder.
///
/// # Errors
///
/// The operating system refuses to create or write them.
pub fn write_folder(folder: &Path, esp_sa: &str) -> Result<(), Error> {
    make_private(folder).map_err(Error::io(folder, "create"))?;
    for (name, text) in [("esp_sa", esp_sa), ("preferences", PREFERENCES)] {
        let path = folder.join(name);
        let write = || {
            // Created with mode 0600, and renamed when complete.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(Error::io(&path, "write"))?;
    }
    Ok(())
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // An existing folder keeps its permissions, because other users may need it.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_read_the_keys() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("OUT.wireshark");
        // An existing folder keeps its permissions, but the files in it are private.
        for (text, folder_mode) in [("first\n", 0o700), ("second\n", 0o755)] {
            write_folder(&folder, text).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder), folder_mode);
            assert_eq!((mode(&folder.join("esp_sa")), mode(&folder.join("preferences"))), (0o600, 0o600));
            assert_eq!(std::fs::read_to_string(folder.join("esp_sa")).unwrap(), text);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
