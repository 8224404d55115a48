//! Ctrl-C and SIGTERM: the first ends the reading, so that the run ends as at the end of the capture; the second kills.

use crate::capture::Stop;
use crate::error::Error;

/// What a shell shows of a program killed by SIGINT.
const KILLED: i32 = 130;

/// From now on a signal stops `stop`. Where the system gives no thread to wait for it, a signal kills, as usual.
pub fn stops(stop: &Stop) -> Result<(), Error> {
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
