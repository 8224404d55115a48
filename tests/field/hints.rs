//! Reasons, hints and verdicts.
