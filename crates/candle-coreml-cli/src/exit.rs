//! How a command ends that neither is done nor failed.

use std::fmt;

/// Exit codes beside 0 and 1.
#[derive(Debug)]
pub enum Exit {
    /// Wrong usage that the definition of the command line can't tell, and what to do: 2.
    Usage(String),
    /// A check has found something, and told it: 3.
    Found,
    /// Stopped by Ctrl-C: 130, as a shell has it.
    Interrupted,
}

impl Exit {
    /// The code.
    pub fn code(&self) -> u8 {
        match self {
            Exit::Usage(_) => 2,
            Exit::Found => 3,
            Exit::Interrupted => 130,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Exit::Usage(advice) => f.write_str(advice),
            Exit::Found => f.write_str("something was found"),
            Exit::Interrupted => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Exit {}
