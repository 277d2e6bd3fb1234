// SPDX-License-Identifier: Apache-2.0
//! STATUS: would an ADD succeed? containerd 2 asks every 5 s and any error makes the node NotReady within 6 s, so the
//! answer must not flap. It is an error (50) only
//!
//! - before the first proven address of this boot (the daemon's mark `ready` holds this boot's id), and
//! - when the daemon has been unreachable for [`PATIENCE`].
//!
//! A full pool is neither: it is told by the daemon's metric and node condition.
//!
//! ```text
//! daemon says SERVING ─────────────────────────► forget; ready mark? yes: 0, no: 50
//! daemon silent, first time or after a gap ────► remember since = now; ready mark? yes: 0, no: 50
//! daemon silent, and was since s at every look ► now - s < 60 s ? as above : 50
//! ```
//! "After a gap": a runtime that asks rarely (CRI-O: when it loads a configuration) must not make one bad moment and
//! another an hour later into an hour of absence, so looks further apart than [`LONGEST_GAP`] do not add up. Times are
//! CLOCK_BOOTTIME and carry the boot id.

use std::path::Path;
use std::time::Duration;

use ipam_api::Client;
use serde::{Deserialize, Serialize};

use crate::conf::NetConf;
use crate::error::{CniError, Code, chain};
use crate::log::Log;
use crate::reason::Reason;
use crate::state_file;

/// How long the daemon may be away: its pod is replaced within this time on an upgrade.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks further apart than this are not one absence.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// The whole answer has 50 ms; the rest of them is the process's own start.
const CALL_BUDGET: Duration = Duration::from_millis(30);

/// An absence in progress, as kept in the state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Absence {
    #[serde(rename = "bootID")]
    boot_id: String,
    /// First silent look, milliseconds since boot.
    since_ms: u64,
    /// Latest silent look.
    seen_ms: u64,
}

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look<'a> {
    is_reachable: bool,
    is_proven: bool,
    boot_id: &'a str,
    now_ms: u64,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Available,
    NothingProven,
    Unreachable { for_ms: u64 },
}

/// Decides, and says what to remember.
fn judge(look: Look<'_>, remembered: Option<Absence>) -> (Verdict, Option<Absence>) {
    let standing = if look.is_proven { Verdict::Available } else { Verdict::NothingProven };
    if look.is_reachable {
        return (standing, None);
    }
    let continued = remembered.filter(|absence| {
        absence.boot_id == look.boot_id && look.now_ms.saturating_sub(absence.seen_ms) <= millis(LONGEST_GAP)
    });
    let since_ms = continued.map_or(look.now_ms, |absence| absence.since_ms);
    let for_ms = look.now_ms.saturating_sub(since_ms);
    let verdict = if for_ms >= millis(PATIENCE) { Verdict::Unreachable { for_ms } } else { standing };
    (verdict, Some(Absence { boot_id: look.boot_id.to_owned(), since_ms, seen_ms: look.now_ms }))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Answers STATUS.
pub(crate) fn status(conf: &NetConf, log: &Log) -> Result<(), CniError> {
    let client = Client::new(&conf.socket);
    let reached = client.is_serving("", CALL_BUDGET);
    let boot_id = read_line(Path::new(ipam_api::state::BOOT_ID));
    let ready = read_line(&conf.state_dir.join(ipam_api::state::READY));
    let memory = conf.state_dir.join(ipam_api::state::STATUS);
    let remembered = state_file::read(&memory).ok().flatten();
    let look = Look {
        is_reachable: matches!(reached, Ok(true)),
        is_proven: !boot_id.is_empty() && ready == boot_id,
        boot_id: &boot_id,
        now_ms: millis(since_boot()),
    };
    let (verdict, absence) = judge(look, remembered.as_deref().and_then(|text| serde_json::from_str(text).ok()));
    remember(&memory, absence.as_ref(), remembered.is_some(), log);
    let cause = match &reached {
        Ok(_) => String::new(),
        Err(error) => chain(error),
    };
    match verdict {
        Verdict::Available => Ok(()),
        Verdict::NothingProven => Err(not_available(
            Reason::NothingProven,
            "no pod address has been proven on this node since it booted: the IPAM daemon is starting, see its log",
            cause,
        )),
        Verdict::Unreachable { for_ms } => Err(not_available(
            Reason::DaemonUnreachable,
            &format!("the IPAM daemon has not answered for {} s: is its pod running on this node?", for_ms / 1000),
            cause,
        )),
    }
}

fn not_available(reason: Reason, message: &str, cause: String) -> CniError {
    CniError::new(Code::NotAvailable, reason, message).because(cause)
}

/// Keeps, or forgets, an absence. When it cannot be kept the verdict is right except that patience never ends.
fn remember(memory: &Path, absence: Option<&Absence>, is_remembered: bool, log: &Log) {
    let kept = match absence {
        Some(absence) => {
            serde_json::to_vec(absence).map_err(Into::into).and_then(|text| state_file::replace(memory, &text))
        }
        None if is_remembered => state_file::remove(memory),
        None => Ok(()),
    };
    if let Err(error) = kept {
        let (code, path) = (Reason::StateNotDurable.name(), memory.to_string_lossy());
        let fields = [("code", code.as_str()), ("path", &path), ("error", &error.to_string())];
        log.warn("status memory not written", &fields);
    }
}

/// The file's text without white space around it; empty when it cannot be read.
fn read_line(path: &Path) -> String {
    state_file::read(path).ok().flatten().unwrap_or_default().trim().to_owned()
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "this boot";

    fn silent(now_ms: u64) -> Look<'static> {
        Look { is_reachable: false, is_proven: true, boot_id: BOOT, now_ms }
    }

    fn absence(since_ms: u64, seen_ms: u64) -> Option<Absence> {
        Some(Absence { boot_id: BOOT.into(), since_ms, seen_ms })
    }

    #[test]
    fn a_daemon_that_answers_is_available_once_an_address_is_proven() {
        let look = Look { is_reachable: true, ..silent(5_000) };
        assert_eq!(judge(look, absence(0, 4_000)), (Verdict::Available, None));
        assert_eq!(judge(Look { is_proven: false, ..look }, None), (Verdict::NothingProven, None));
    }

    #[test]
    fn an_absence_of_less_than_60_s_is_not_told() {
        // containerd's rhythm: every 5 s.
        let mut remembered = None;
        for look in 0..=11 {
            let (verdict, next) = judge(silent(1_000 + look * 5_000), remembered);
            assert_eq!(verdict, Verdict::Available, "after {} s", look * 5);
            remembered = next;
        }
        let (verdict, remembered) = judge(silent(61_000), remembered);
        assert_eq!(verdict, Verdict::Unreachable { for_ms: 60_000 });
        let (verdict, forgotten) = judge(Look { is_reachable: true, ..silent(66_000) }, remembered);
        assert_eq!((verdict, forgotten), (Verdict::Available, None));
    }

    #[test]
    fn looks_far_apart_do_not_add_up() {
        let (verdict, remembered) = judge(silent(3_600_000), absence(0, 0));
        assert_eq!((verdict, remembered), (Verdict::Available, absence(3_600_000, 3_600_000)));
    }

    #[test]
    fn an_absence_of_another_boot_is_not_this_one_s() {
        let other = Absence { boot_id: "another".into(), since_ms: 0, seen_ms: 70_000 };
        assert_eq!(judge(silent(71_000), Some(other)).0, Verdict::Available);
    }

    #[test]
    fn before_the_first_proven_address_an_absence_is_told_at_once() {
        let look = Look { is_proven: false, ..silent(1_000) };
        assert_eq!(judge(look, None), (Verdict::NothingProven, absence(1_000, 1_000)));
    }
}
