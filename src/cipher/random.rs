//! Random bytes for keys and IVs.

use sha2::{Digest, Sha256};

use crate::error::Error;

/// Random bytes from the operating system, or a stream derived from a seed for reproducible output.
#[derive(Debug, Clone)]
pub enum Random {
    /// Bytes from the operating system.
    System,
    /// SHA-256 of seed, purpose and a counter. Anyone who knows the seed can compute the bytes.
    Seeded {
        /// The seed.
        seed: u64,
        /// What the bytes are used for. Each purpose has its own stream.
        purpose: &'static str,
        /// Number of blocks generated so far.
        counter: u64,
    },
}

impl Random {
    /// Uses the seed, if one is given.
    pub fn new(seed: Option<u64>, purpose: &'static str) -> Random {
        seed.map_or(Random::System, |seed| Random::Seeded { seed, purpose, counter: 0 })
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self {
            Random::System => getrandom::fill(bytes)
                .map_err(|error| Error::usage(format!("no random bytes from the operating system: {error}"), "")),
            Random::Seeded { seed, purpose, counter } => {
                for chunk in bytes.chunks_mut(32) {
                    let block = Sha256::new().chain_update(b"dietesp").chain_update(seed.to_be_bytes());
                    let block = block.chain_update(counter.to_be_bytes()).chain_update(*purpose).finalize();
                    *counter += 1;
                    chunk.iter_mut().zip(block).for_each(|(to, from)| *to = from);
                }
                Ok(())
            }
        }
    }

    /// The next eight bytes as a number.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_bytes_and_the_system_gives_new_ones() {
        let (mut a, mut b) = ([0; 40], [0; 40]);
        Random::new(Some(7), "iv").fill(&mut a).unwrap();
        Random::new(Some(7), "iv").fill(&mut b).unwrap();
        assert_eq!(a, b);
        Random::new(Some(8), "iv").fill(&mut b).unwrap();
        assert_ne!(a, b);
        assert_ne!(Random::new(None, "iv").u64().unwrap(), Random::new(None, "iv").u64().unwrap());
    }
}
