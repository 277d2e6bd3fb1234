// SPDX-License-Identifier: Apache-2.0
//! `ipamd events`: what the daemon did lately, from its memory; with `--follow` what it does, over its restarts.
//!
//! ```text
//!            ┌──────────────────────────── the connection ends: the daemon stops or restarts ◄─┐
//!            ▼                                                                               │
//!   /v1/events?since=n ──► print, n = next ──► /v1/events/follow?since=n ──► print each, n = its number + 1
//! ```
//! A restarted daemon numbers from 1 again, which shows in its `next`: then everything it knows is new.
//!
//! Invariant: each record is printed once, in order; what is forgotten before it could be printed is counted and told.

#![expect(clippy::disallowed_methods, reason = "waits before it asks a daemon again that is not there")]

use std::io::Write;
use std::time::Duration;

use ipamd_core::Config;
use ipamd_core::chronicle::{Kind, Record, Records};
use ipamd_core::reason::NoticeLevel;

use super::ask::{Asked, Daemon, NoAnswer};
use super::terminal::{Screen, Style};
use super::{print, time};

/// Between two tries to reach a daemon that is not there.
const PAUSE: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How, and whom.
    pub asked: Asked,
    /// Whether to go on.
    pub follow: bool,
    /// Only those after this number.
    pub since: Option<u64>,
    /// This level and louder ones.
    pub level: NoticeLevel,
    /// Only those of this pod.
    pub pod: Option<String>,
}

impl Question {
    fn wants(&self, record: &Record) -> bool {
        let of_pod = |wanted: &String| record.pod.as_deref().is_some_and(|pod| is_pod(pod, wanted));
        record.level >= self.level && self.pod.as_ref().is_none_or(of_pod)
    }
}

/// Whether `namespace/name` is what is called `wanted`: the same, or its name alone.
pub(super) fn is_pod(pod: &str, wanted: &str) -> bool {
    pod == wanted || (!wanted.contains('/') && pod.rsplit_once('/').is_some_and(|(_, name)| name == wanted))
}

/// Prints them.
///
/// # Errors
/// The daemon is not there, does not answer, or standard output is closed. While following, only the first time.
pub fn run(config: &Config, question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let daemon = Daemon::of(config, question.asked.address.as_ref());
    let mut printer = Printer { question, screen, out };
    let mut next = question.since.map_or(1, |since| since.saturating_add(1));
    next = printer.all(&fetch(&daemon, next)?, next)?;
    if !question.follow {
        return Ok(());
    }
    loop {
        match follow(&daemon, &mut printer, &mut next) {
            Ok(()) | Err(Ended::Daemon) => printer.note("the daemon has closed the connection: asking again")?,
            Err(Ended::Here(error)) => return Err(error),
        }
        let found = loop {
            std::thread::sleep(PAUSE);
            if let Ok(found) = fetch(&daemon, next) {
                break found;
            }
        };
        if found.next < next {
            printer.note("the daemon was started anew")?;
            next = printer.all(&fetch(&daemon, 1).unwrap_or(found), 1)?;
        } else {
            next = printer.all(&found, next)?;
        }
    }
}

fn fetch(daemon: &Daemon, since: u64) -> Result<Records, NoAnswer> {
    daemon.json(&format!("/v1/events?since={since}"))
}

/// Why a stream is over.
enum Ended {
    /// It is gone.
    Daemon,
    /// Standard output is, or the daemon does not want another one who follows.
    Here(String),
}

fn follow(daemon: &Daemon, printer: &mut Printer<'_>, next: &mut u64) -> Result<(), Ended> {
    let lines = daemon.follow(&format!("/v1/events/follow?since={next}")).map_err(|answer| match answer {
        NoAnswer::NoDaemon(_) => Ended::Daemon,
        NoAnswer::Other(text) => Ended::Here(text),
    })?;
    let mut reader = EventReader::default();
    for line in lines {
        let Some(event) = reader.line(&line.map_err(|_| Ended::Daemon)?) else { continue };
        let told = match event.name.as_str() {
            "record" => match serde_json::from_str::<Record>(&event.data) {
                Ok(record) if record.seq >= *next => {
                    *next = record.seq.saturating_add(1);
                    printer.one(&record)
                }
                Ok(_) => Ok(()),
                Err(error) => printer.note(&format!("a record that cannot be read: {error}")),
            },
            "missed" => printer.missed(missed(&event.data)),
            _ => Ok(()),
        };
        told.map_err(Ended::Here)?;
    }
    Ok(())
}

/// A number, or an object with one.
fn missed(data: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    value.as_u64().or_else(|| value.get("missed")?.as_u64()).unwrap_or(0)
}

struct Printer<'a> {
    question: &'a Question,
    screen: &'a Screen,
    out: &'a mut dyn Write,
}

impl Printer<'_> {
    /// All of an answer to `since`; what to ask for next.
    fn all(&mut self, records: &Records, since: u64) -> Result<u64, String> {
        // Nobody has missed what was before he came.
        if self.question.since.is_some() || since > 1 {
            self.missed(records.missed)?;
        }
        records.records.iter().try_for_each(|record| self.one(record))?;
        Ok(records.next)
    }

    fn one(&mut self, record: &Record) -> Result<(), String> {
        if !self.question.wants(record) {
            return Ok(());
        }
        let text = if self.question.asked.json {
            serde_json::to_string(record).map_err(|error| format!("writing JSON: {error}"))? + "\n"
        } else {
            line(record, self.screen)
        };
        print(self.out, &text)
    }

    fn missed(&mut self, count: u64) -> Result<(), String> {
        if count == 0 { Ok(()) } else { self.note(&format!("{count} records are forgotten already")) }
    }

    /// Something about the records. In JSON: an object without a number.
    fn note(&mut self, text: &str) -> Result<(), String> {
        let text = if self.question.asked.json {
            format!("{}\n", serde_json::json!({ "note": text }))
        } else {
            let note = format!("-- {text}");
            format!("{}\n", self.screen.paint(Style::Faint, &note))
        };
        print(self.out, &text)
    }
}

/// A record for people.
pub(super) fn line(record: &Record, screen: &Screen) -> String {
    let (level, style) = match record.level {
        NoticeLevel::Debug => ("debug", Style::Faint),
        NoticeLevel::Info => ("info ", Style::Good),
        NoticeLevel::Warn => ("WARN ", Style::Warning),
        NoticeLevel::Error => ("ERROR", Style::Bad),
    };
    let head = format!("{:>6} {} {level} {:8} ", record.seq, clock_time(record.unix_ms), kind(record.kind));
    let code = record.code.map(|code| format!("[{code}] ")).unwrap_or_default();
    let took = record.took_ms.map(|ms| format!(" ({})", time(ms))).unwrap_or_default();
    let missing = |name: &str| !record.text.contains(name);
    let pod = record.pod.as_deref().filter(|pod| missing(pod)).map(|pod| format!("{pod}: ")).unwrap_or_default();
    let address = record.address.map(|address| address.to_string()).filter(|address| missing(address));
    let address = address.map(|address| format!(" {address}")).unwrap_or_default();
    let eni = record.eni_id.as_ref().map(ToString::to_string).filter(|eni| missing(eni));
    let eni = eni.map(|eni| format!(" on {eni}")).unwrap_or_default();
    let text = screen.wrapped(&format!("{head}{code}{pod}{}{address}{eni}{took}", record.text), 20);
    match (screen.has_colours, text.split_once(level)) {
        (true, Some((before, after))) => format!("{before}{}{after}", screen.paint(style, level)),
        _ => text,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Added => "added",
        Kind::Refused => "refused",
        Kind::Released => "released",
        Kind::Decision => "decision",
        Kind::Action => "action",
        Kind::Failure => "failure",
        Kind::Repair => "repair",
        Kind::State => "state",
    }
}

/// `17:04:05.123Z`: of records in memory the day is today's, or nearly.
pub(super) fn clock_time(unix_ms: i64) -> String {
    let of_day = unix_ms.rem_euclid(86_400_000);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Server-sent events of a stream's lines (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
#[derive(Debug, Default)]
struct EventReader {
    event: Event,
}

impl EventReader {
    /// Takes a line; an event that it completes.
    fn line(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => {
                self.event.data.push('\n');
                self.event.data.push_str(value);
            }
            // A comment keeps the connection alive; the number is in the record.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use ipamd_core::reason::ReasonCode;

    use super::*;

    fn record(seq: u64, level: NoticeLevel, pod: Option<&str>) -> Record {
        Record {
            seq,
            unix_ms: 61_445_123,
            level,
            kind: Kind::Refused,
            code: Some(ReasonCode::NodeFull),
            text: "no address".to_owned(),
            pod: pod.map(str::to_owned),
            key: None,
            address: None,
            eni_id: None,
            took_ms: Some(1_500),
        }
    }

    fn question() -> Question {
        Question { asked: Asked::default(), follow: false, since: None, level: NoticeLevel::Info, pod: None }
    }

    #[test]
    fn events_are_read_over_comments_and_several_lines_of_data() {
        let mut reader = EventReader::default();
        let text =
            ": keep-alive\n\nid: 3\nevent: record\ndata: {\"a\":\ndata: 1}\n\nevent: status\ndata: {}\n\nretry: 5\n\n";
        let events: Vec<_> = text.lines().filter_map(|line| reader.line(line)).collect();
        let of = |name: &str, data: &str| Event { name: name.to_owned(), data: data.to_owned() };
        assert_eq!(events, [of("record", "{\"a\":\n1}"), of("status", "{}")]);
        assert_eq!([missed("7"), missed("{\"missed\":8}"), missed("x")], [7, 8, 0]);
    }

    #[test]
    fn a_line_has_number_time_level_code_pod_and_what_it_took() {
        let text = line(&record(12, NoticeLevel::Warn, Some("default/web")), &Screen::default());
        assert_eq!(text, "    12 17:04:05.123Z WARN  refused  [NodeFull] default/web: no address (1.5s)\n");
        let screen = Screen { width: Some(60), has_colours: true, has_unicode: false };
        let text = line(&record(12, NoticeLevel::Error, Some("default/web")), &screen);
        assert!(text.contains("\x1b[31mERROR\x1b[0m"), "{text}");
    }

    #[test]
    fn level_pod_and_what_was_missed() {
        let all = Records {
            records: vec![
                record(5, NoticeLevel::Debug, None),
                record(6, NoticeLevel::Info, Some("a/x")),
                record(7, NoticeLevel::Warn, Some("b/x")),
                record(8, NoticeLevel::Warn, Some("b/y")),
            ],
            missed: 4,
            next: 9,
        };
        let printed = |question: &Question, since| {
            let (screen, mut out) = (Screen::default(), Vec::new());
            let next = Printer { question, screen: &screen, out: &mut out }.all(&all, since).unwrap();
            assert_eq!(next, 9);
            String::from_utf8(out).unwrap()
        };
        let numbers = |text: &str| -> Vec<u64> {
            text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
        };
        assert_eq!(numbers(&printed(&question(), 1)), [6, 7, 8]);
        assert_eq!(numbers(&printed(&Question { level: NoticeLevel::Debug, ..question() }, 1)), [5, 6, 7, 8]);
        assert_eq!(numbers(&printed(&Question { pod: Some("b/x".to_owned()), ..question() }, 1)), [7]);
        assert_eq!(numbers(&printed(&Question { pod: Some("x".to_owned()), ..question() }, 1)), [6, 7]);
        assert!(!printed(&question(), 1).contains("forgotten"));
        assert!(printed(&question(), 2).starts_with("-- 4 records are forgotten already\n"));
        let asked = Asked { json: true, ..Asked::default() };
        let json = printed(&Question { asked, level: NoticeLevel::Warn, ..question() }, 1);
        assert_eq!(json.lines().count(), 2);
        assert!(json.lines().all(|line| serde_json::from_str::<Record>(line).is_ok()), "{json}");
    }
}
