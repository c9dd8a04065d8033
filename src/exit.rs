//! The exit codes: a promise to every script that runs Squall. They are never renumbered.

use std::fmt;

use crate::verdict::Verdict;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Exit {
    /// Every gate passed.
    Pass,
    /// An assertion failed.
    Fail,
    /// Wrong usage, or the plan is invalid.
    Usage,
    /// No failure, and not enough evidence for a pass.
    Inconclusive,
    /// The target or the cluster could not be reached, a permission is missing, or this machine cannot send what is asked.
    Environment,
    /// Zero requests, or nothing selected.
    NothingRan,
    /// A fault may still be active. Outranks all others.
    CleanupNotProven,
    /// A bug in Squall.
    Bug,
    /// Interrupted (Ctrl-C), after healing.
    Interrupted,
    /// Terminated, after healing.
    Terminated,
}

impl Exit {
    /// Every code, in the order of their numbers.
    pub const ALL: [Exit; 10] = [
        Exit::Pass,
        Exit::Fail,
        Exit::Usage,
        Exit::Inconclusive,
        Exit::Environment,
        Exit::NothingRan,
        Exit::CleanupNotProven,
        Exit::Bug,
        Exit::Interrupted,
        Exit::Terminated,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Pass => 0,
            Exit::Fail => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::Environment => 4,
            Exit::NothingRan => 5,
            Exit::CleanupNotProven => 6,
            Exit::Bug => 70,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// One line for `--help` and the README.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Pass => "every gate passed",
            Exit::Fail => "an assertion failed",
            Exit::Usage => "usage, or the plan is invalid",
            Exit::Inconclusive => "inconclusive: not enough evidence for a pass",
            Exit::Environment => "environment: target or cluster unreachable, permission missing, machine too small for the load",
            Exit::NothingRan => "nothing ran: zero requests, nothing selected",
            Exit::CleanupNotProven => "cleanup not proven: a fault may still be active (outranks all others)",
            Exit::Bug => "a bug in Squall",
            Exit::Interrupted => "interrupted, after healing",
            Exit::Terminated => "terminated, after healing",
        }
    }

    /// What a verdict comes to.
    pub fn of(verdict: Verdict) -> Exit {
        match verdict {
            Verdict::Pass => Exit::Pass,
            Verdict::Fail => Exit::Fail,
            Verdict::Inconclusive => Exit::Inconclusive,
        }
    }

    /// The one that counts when two apply.
    pub fn or_worse(self, other: Exit) -> Exit {
        let rank = |exit: Exit| match exit {
            Exit::CleanupNotProven => 9,
            Exit::Bug => 8,
            Exit::Environment => 7,
            Exit::Terminated => 6,
            Exit::Interrupted => 5,
            Exit::Usage => 4,
            Exit::NothingRan => 3,
            Exit::Fail => 2,
            Exit::Inconclusive => 1,
            Exit::Pass => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.meaning())
    }
}

/// Why a command could not do what it was asked: a message for a person (empty where it was said already), and the code for the
/// shell.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// One that a person has been told of already.
    pub fn said(exit: Exit) -> Failure {
        Failure { exit, message: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_may_be_active_outranks_everything() {
        for exit in Exit::ALL {
            assert_eq!(exit.or_worse(Exit::CleanupNotProven), Exit::CleanupNotProven);
            assert_eq!(Exit::CleanupNotProven.or_worse(exit), Exit::CleanupNotProven);
            assert_eq!(Exit::Pass.or_worse(exit), exit);
        }
        assert_eq!(Exit::Fail.or_worse(Exit::Inconclusive), Exit::Fail);
        assert_eq!(Exit::Fail.or_worse(Exit::Interrupted), Exit::Interrupted);
    }
}
