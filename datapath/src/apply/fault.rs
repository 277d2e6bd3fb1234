// SPDX-License-Identifier: Apache-2.0
//! Points between the steps of an attach or a repair at which a test makes it fail, or does something else. Nothing outside of tests.

use super::error::ApplyError;

/// A point between two steps.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "its twin for tests fails")]
pub(crate) fn point() -> Result<(), ApplyError> {
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// How many points are still passed before one fails; `None`: none fails.
    static LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
    /// What is done there instead.
    static MEANWHILE: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

/// A point between two steps; fails when its turn has come.
#[cfg(test)]
pub(crate) fn point() -> Result<(), ApplyError> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            LEFT.set(None);
            if let Some(meanwhile) = MEANWHILE.take() {
                meanwhile();
                return Ok(());
            }
            Err(ApplyError::Invalid { reason: "injected fault".to_owned() })
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}

/// The point after `passed` others fails, once.
#[cfg(test)]
pub(crate) fn fail_after(passed: u32) {
    LEFT.set(Some(passed));
}

/// At the point after `passed` others something else is done, once.
#[cfg(test)]
pub(crate) fn meanwhile_after(passed: u32, work: impl FnOnce() + 'static) {
    MEANWHILE.set(Some(Box::new(work)));
    LEFT.set(Some(passed));
}

/// Whether the fault has happened; forgets it if not.
#[cfg(test)]
pub(crate) fn has_happened() -> bool {
    LEFT.replace(None).is_none()
}
