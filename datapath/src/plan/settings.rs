// SPDX-License-Identifier: Apache-2.0
//! Settings of the node that outlive us: what each was when we first changed it, and whether an uninstall puts that back.
//! Pure; the file and the kernel are `apply::ledger`'s.
//!
//! | setting | why we change it |
//! |---|---|
//! | net.ipv4.ip_forward 1 | the node routes for its pods |
//! | net.ipv4.conf.all.accept_redirects 0 | the kernel does, with the one above, and sets 1 when that is put back (`inet_forward_change`, `net/ipv4/devinet.c`) |
//! | net.ipv4.tcp_early_demux 0 | `DISABLE_TCP_EARLY_DEMUX` |
//! | net.ipv6.conf.all.forwarding 1 | the node routes IPv6 for pods that use it |
//! | rp_filter 2 of the primary ENI's link | [`super::eni`] |
//!
//! Not here: `accept_ra` 2 of the primary ENI's link, which means as much as the 1 it was once the node does not forward, and
//! `forwarding` 0 of new links, which the kernel sets with that of all; what goes with its link (host veths, secondary ENIs when they
//! are detached); and the MTU of ENIs, which DHCP sets again. Writing ip_forward also sets `forwarding` of every link; a link on which somebody had chosen otherwise is not kept.
//!
//! Invariants: the first value found in a boot is the one that counts; what is not as we wrote it is somebody else's choice and
//! stays; nothing but these settings is ever written by what a file says.

use std::collections::BTreeMap;
use std::fmt;

use super::model::{LinkRef, LinkSet, Op, Sysctl};
use super::name::MacAddr;

/// A setting that outlives us. In the order in which they are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// net.ipv4.ip_forward.
    IpForward,
    /// net.ipv4.conf.all.accept_redirects.
    AcceptRedirects,
    /// net.ipv4.tcp_early_demux.
    TcpEarlyDemux,
    /// net.ipv6.conf.all.forwarding.
    Ipv6Forwarding,
    /// IPv4 rp_filter of the link with this MAC.
    RpFilter(MacAddr),
}

/// How a setting of a link begins in a file.
const RP_FILTER: &str = "rp_filter@";

impl Setting {
    /// Those that are no link's.
    const OF_THE_NODE: [Self; 4] = [Self::IpForward, Self::AcceptRedirects, Self::TcpEarlyDemux, Self::Ipv6Forwarding];

    /// Path below /proc/sys; `None`: a setting of a link.
    #[must_use]
    pub fn path(self) -> Option<&'static str> {
        match self {
            Self::IpForward => Some("net/ipv4/ip_forward"),
            Self::AcceptRedirects => Some("net/ipv4/conf/all/accept_redirects"),
            Self::TcpEarlyDemux => Some("net/ipv4/tcp_early_demux"),
            Self::Ipv6Forwarding => Some("net/ipv6/conf/all/forwarding"),
            Self::RpFilter(_) => None,
        }
    }

    /// The write that gives it a value.
    #[must_use]
    pub fn to(self, value: u32) -> Op {
        match self {
            Self::RpFilter(mac) => {
                let rp_filter = u8::try_from(value).ok();
                Op::LinkSet(LinkSet { rp_filter, ..LinkSet::of(LinkRef::Mac(mac)) })
            }
            Self::IpForward | Self::AcceptRedirects | Self::TcpEarlyDemux | Self::Ipv6Forwarding => {
                let path = self.path().unwrap_or_default().to_owned();
                Op::Sysctl(Sysctl { path, value: value.to_string() })
            }
        }
    }

    /// The setting that a write of the node's set-up changes, and its new value.
    #[must_use]
    pub fn changed_by(op: &Op) -> Option<(Self, u32)> {
        match op {
            Op::Sysctl(sysctl) => {
                let setting = Self::OF_THE_NODE.into_iter().find(|setting| setting.path() == Some(&sysctl.path))?;
                Some((setting, sysctl.value.parse().ok()?))
            }
            Op::LinkSet(LinkSet { link: LinkRef::Mac(mac), rp_filter: Some(value), .. }) => {
                Some((Self::RpFilter(*mac), u32::from(*value)))
            }
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let sysctl = Self::OF_THE_NODE.into_iter().find(|setting| setting.to_string() == text);
        sysctl.or_else(|| Some(Self::RpFilter(text.strip_prefix(RP_FILTER)?.parse().ok()?)))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.path()) {
            (Self::RpFilter(mac), _) => write!(f, "{RP_FILTER}{mac}"),
            (_, path) => f.write_str(&path.unwrap_or_default().replace('/', ".")),
        }
    }
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its value before ours.
    pub found: u32,
    /// Ours.
    pub written: u32,
}

/// All changes of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    changes: BTreeMap<Setting, Change>,
    /// Lines about settings that this version does not know: kept for the one that wrote them.
    unknown: Vec<String>,
}

/// A text that is no memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not {wanted}")]
pub struct MemoryError {
    /// The line, counted from 1.
    pub line: usize,
    /// What it should be.
    pub wanted: &'static str,
}

impl Memory {
    /// The change of a setting.
    #[must_use]
    pub fn get(&self, setting: Setting) -> Option<Change> {
        self.changes.get(&setting).copied()
    }

    /// The settings that were changed.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        self.changes.keys().copied()
    }

    /// Whether there is none, of this version or another.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.unknown.is_empty()
    }

    /// Lines about settings that this version does not know.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Adds a change that is about to be made, unless an earlier one of the setting is known; whether it was added.
    pub fn add(&mut self, setting: Setting, change: Change) -> bool {
        let is_new = !self.changes.contains_key(&setting);
        self.changes.entry(setting).or_insert(change);
        is_new
    }

    /// Takes a change out; whether it was there.
    pub fn remove(&mut self, setting: Setting) -> bool {
        self.changes.remove(&setting).is_some()
    }

    /// As text, with the boot that it belongs to.
    #[must_use]
    pub fn text(&self, boot_id: &str) -> String {
        let line = |(setting, change): (&Setting, &Change)| {
            format!("{setting} found {} written {}\n", change.found, change.written)
        };
        let unknown = self.unknown.iter().map(|line| format!("{line}\n"));
        std::iter::once(format!("boot {boot_id}\n")).chain(self.changes.iter().map(line)).chain(unknown).collect()
    }

    /// The memory in a text; empty when it is of another boot, whatever else it says.
    ///
    /// # Errors
    /// The first line that is not as [`Self::text`] writes it, or a later version might.
    pub fn parse(text: &str, boot_id: &str) -> Result<Self, MemoryError> {
        let mut lines = text.lines().zip(1..);
        let error = |line, wanted| MemoryError { line, wanted };
        let boot = lines.next().and_then(|(first, _)| first.strip_prefix("boot ").filter(|boot| !boot.is_empty()));
        let mut memory = Self::default();
        if boot.ok_or(error(1, "`boot` and the boot id"))? != boot_id {
            return Ok(memory);
        }
        for (text, line) in lines {
            let (name, change) = parse_line(text).ok_or(error(line, "`<setting> found <number> written <number>`"))?;
            match Setting::parse(name) {
                Some(setting) if !memory.add(setting, change) => return Err(error(line, "about a setting of its own")),
                Some(_) => {}
                None => memory.unknown.push(text.to_owned()),
            }
        }
        Ok(memory)
    }
}

/// The name of a setting and its change.
fn parse_line(text: &str) -> Option<(&str, Change)> {
    let mut words = text.split(' ');
    let name = words.next().filter(|name| !name.is_empty())?;
    let mut number = |name| {
        let is_named = words.next() == Some(name);
        words.next()?.parse().ok().filter(|_| is_named)
    };
    let change = Change { found: number("found")?, written: number("written")? };
    words.next().is_none().then_some((name, change))
}

/// What an uninstall does about a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The value found is written.
    PutBack,
    /// It stays: living pods need it, or another CNI that has the node now.
    Needed,
    /// It is as it was found.
    AsFound,
    /// It stays: somebody has given it this value after us.
    Chosen(u32),
    /// There is no such setting any more.
    Gone,
}

/// A changed setting, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The setting.
    pub setting: Setting,
    /// What we did.
    pub change: Change,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Judges every change by the values of now, all read before any is written.
#[must_use]
pub fn judge(memory: &Memory, now: &BTreeMap<Setting, u32>, is_needed: bool) -> Vec<Judged> {
    let verdict = |setting: &Setting, change: &Change| match now.get(setting) {
        None => Verdict::Gone,
        Some(now) if *now == change.written && is_needed => Verdict::Needed,
        Some(now) if *now == change.written => Verdict::PutBack,
        Some(now) if *now == change.found => Verdict::AsFound,
        Some(now) => Verdict::Chosen(*now),
    };
    let of_forwarding = memory.changes.get(&Setting::IpForward).map(|change| verdict(&Setting::IpForward, change));
    let judged = |(setting, change): (&Setting, &Change)| {
        let mut verdict = verdict(setting, change);
        // What came with forwarding goes back with it: alone it is somebody's choice.
        if *setting == Setting::AcceptRedirects && verdict == Verdict::PutBack && of_forwarding != Some(verdict) {
            verdict = Verdict::Chosen(change.written);
        }
        Judged { setting: *setting, change: *change, verdict }
    };
    memory.changes.iter().map(judged).collect()
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, change: Change { found, written }, verdict } = self;
        match verdict {
            Verdict::PutBack => write!(f, "put back: {setting}={found}, as it was found; we had made it {written}"),
            Verdict::Needed => write!(f, "left: {setting}={written}, which is still needed; it was found {found}"),
            Verdict::AsFound => write!(f, "left: {setting}={found}, as it was found"),
            Verdict::Chosen(now) => {
                write!(
                    f,
                    "left: {setting}={now}, somebody else's choice; it was found {found}, we had made it {written}"
                )
            }
            Verdict::Gone => write!(f, "left: {setting}, which is not there any more; it was found {found}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "0b2f-1";

    fn rp_filter() -> Setting {
        Setting::RpFilter(MacAddr([2, 0, 10, 0, 0, 10]))
    }

    fn memory(changes: &[(Setting, u32, u32)]) -> Memory {
        let mut memory = Memory::default();
        for (setting, found, written) in changes {
            assert!(memory.add(*setting, Change { found: *found, written: *written }));
        }
        memory
    }

    fn all() -> Memory {
        memory(&[
            (Setting::IpForward, 0, 1),
            (Setting::AcceptRedirects, 0, 0),
            (Setting::TcpEarlyDemux, 1, 0),
            (rp_filter(), 1, 2),
        ])
    }

    fn verdicts(memory: &Memory, now: &[(Setting, u32)], has_pods: bool) -> Vec<Verdict> {
        judge(memory, &now.iter().copied().collect(), has_pods).iter().map(|judged| judged.verdict).collect()
    }

    const OURS: [(Setting, u32); 3] =
        [(Setting::IpForward, 1), (Setting::AcceptRedirects, 0), (Setting::TcpEarlyDemux, 0)];

    #[test]
    fn a_memory_is_read_back_from_its_text_in_its_own_boot_only() {
        let text = all().text(BOOT);
        assert_eq!(
            text,
            "boot 0b2f-1\nnet.ipv4.ip_forward found 0 written 1\nnet.ipv4.conf.all.accept_redirects found 0 written 0\n\
             net.ipv4.tcp_early_demux found 1 written 0\nrp_filter@02:00:0a:00:00:0a found 1 written 2\n"
        );
        assert_eq!(Memory::parse(&text, BOOT), Ok(all()));
        assert_eq!(Memory::parse(&text, "another"), Ok(Memory::default()));
    }

    #[test]
    fn a_text_that_is_none_is_refused_with_its_line() {
        let good = "net.ipv4.ip_forward found 0 written 1\n";
        for (text, line) in [
            (String::new(), 1),
            ("boot \n".to_owned(), 1),
            (good.to_owned(), 1),
            (format!("boot {BOOT}\n{good}{good}"), 3),
            (format!("boot {BOOT}\nnet.ipv4.ip_forward found 0 writ"), 2),
            (format!("boot {BOOT}\n{good}\n"), 3),
            (format!("boot {BOOT}\nnet.ipv4.ip_forward found 0 written 1 2\n"), 2),
            (format!("boot {BOOT}\nnet.ipv4.ip_forward was 0 written 1\n"), 2),
        ] {
            assert_eq!(Memory::parse(&text, BOOT).map_err(|error| error.line), Err(line), "{text}");
        }
    }

    #[test]
    fn what_a_later_version_has_written_is_kept_and_never_acted_on() {
        let text =
            format!("boot {BOOT}\nnet.ipv4.ip_forward found 0 written 1\nkernel.core_pattern found 0 written 1\n");
        let memory = Memory::parse(&text, BOOT).unwrap();
        assert_eq!(memory.text(BOOT), text);
        assert_eq!(memory.settings().collect::<Vec<_>>(), [Setting::IpForward]);
        assert_eq!(memory.unknown(), ["kernel.core_pattern found 0 written 1"]);
        assert!(Memory::parse("boot other\nwhatever it says", BOOT).unwrap().is_empty());
    }

    #[test]
    fn the_first_value_found_stays() {
        let mut memory = memory(&[(Setting::IpForward, 0, 1)]);
        assert!(!memory.add(Setting::IpForward, Change { found: 2, written: 1 }));
        assert_eq!(memory.get(Setting::IpForward), Some(Change { found: 0, written: 1 }));
    }

    #[test]
    fn without_pods_all_that_is_still_ours_goes_back() {
        let now = [OURS.as_slice(), &[(rp_filter(), 2)]].concat();
        assert_eq!(verdicts(&all(), &now, false), [Verdict::PutBack; 4]);
        assert_eq!(verdicts(&all(), &now, true), [Verdict::Needed; 4]);
    }

    #[test]
    fn what_somebody_else_chose_what_is_as_before_and_what_is_gone_stay() {
        let now = [(Setting::IpForward, 1), (Setting::AcceptRedirects, 1), (Setting::TcpEarlyDemux, 1)];
        let wanted = [Verdict::PutBack, Verdict::Chosen(1), Verdict::AsFound, Verdict::Gone];
        assert_eq!(verdicts(&all(), &now, false), wanted);
    }

    #[test]
    fn redirects_go_back_only_together_with_forwarding() {
        let now = [(Setting::IpForward, 0), (Setting::AcceptRedirects, 0)];
        let changes = memory(&[(Setting::IpForward, 0, 1), (Setting::AcceptRedirects, 1, 0)]);
        assert_eq!(verdicts(&changes, &now, false), [Verdict::AsFound, Verdict::Chosen(0)]);
        let alone = memory(&[(Setting::AcceptRedirects, 1, 0)]);
        assert_eq!(verdicts(&alone, &now, false), [Verdict::Chosen(0)]);
    }

    #[test]
    fn a_write_of_the_set_up_is_known_as_its_setting() {
        for setting in [Setting::IpForward, Setting::AcceptRedirects, Setting::TcpEarlyDemux, rp_filter()] {
            assert_eq!(Setting::changed_by(&setting.to(2)), Some((setting, 2)));
            assert_eq!(Setting::parse(&setting.to_string()), Some(setting));
        }
        assert_eq!(Setting::changed_by(&Op::LinkSet(LinkSet::of(LinkRef::Index(1)))), None);
    }
}
