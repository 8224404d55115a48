//! Prints a record of each packet of a shipped sample.

use dietesp::{Capture, Decoder, Error, Keys, Rules};

fn main() -> Result<(), Error> {
    let keys = Keys::load(["keys/gateway.yaml"])?;
    let rules = Rules::load(["samples/gateway/rules.yaml"])?;
    let mut capture = Capture::open("samples/gateway/diet-esp.pcapng")?;
    let mut decoder = Decoder::new(&keys, &rules)?;
    while let Some(frame) = capture.next_frame()? {
        for record in &decoder.decode(&frame) {
            println!("{}", record.to_json());
        }
    }
    Ok(())
}
