//! Ctrl-C and SIGTERM. The first signal stops reading, and the run ends as at the end of the capture. The second signal
//! ends the program at once.

use crate::capture::Stop;
use crate::error::Error;

/// The exit status that shells give a program killed by SIGINT.
const KILLED: i32 = 130;

/// From now on, the first signal triggers `stop`. If the system cannot create a thread to wait for signals, a signal
/// ends the program, as is the default.
pub(super) fn stops(stop: &Stop) -> Result<(), Error> {
    let stop = stop.clone();
    let handler = move || {
        if !stop.request() {
            std::process::exit(KILLED);
        }
    };
    match ctrlc::set_handler(handler) {
        Ok(()) | Err(ctrlc::Error::System(_)) => Ok(()),
        Err(error) => Err(Error::usage(format!("cannot wait for signals: {error}"), "")),
    }
}
