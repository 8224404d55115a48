//! Link types and encapsulations that carry ESP.
