// SPDX-License-Identifier: Apache-2.0
//! `ipamd events`: what the daemon did lately, from its memory; with `--follow` what it does, over its restarts.
//!
//! ```text
//!            ┌──────── the connection ends: the daemon stops or restarts; or it is another (`hello`) ◄─┐
//!            ▼                                                                                       │
//!   /v1/events?since=n ──► print, n = next ──► /v1/events/follow?since=n ──► print each, n = its number + 1
//! ```
//! A restarted daemon numbers from 1 again, and tells another start with its answers: then everything it knows is new.
//!
//! Invariant: each record is printed once, in order; what is forgotten before it could be printed is counted and told.

#![expect(clippy::disallowed_methods, reason = "waits before it asks a daemon again that is not there")]

use std::io::Write;
use std::time::Duration;

use ipamd_core::Config;
use ipamd_core::chronicle::{Kind, Record, Records};
use ipamd_core::reason::NoticeLevel;
use ipamd_core::tags::rfc3339;

use super::ask::{Asked, Daemon, NoAnswer};
use super::terminal::{Screen, Style};
use super::{print, time};
use crate::clock;

/// Between two tries to reach a daemon that is not there, at first.
const PAUSE: Duration = Duration::from_millis(500);

/// No longer between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Too many follow already, or the daemon stops: time mends it.
const UNAVAILABLE: u16 = 503;

/// A day.
const DAY_MS: i64 = 86_400_000;

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
    let mut printer = Printer { question, screen, out, last_note: String::new() };
    let next = question.since.map_or(1, |since| since.saturating_add(1));
    let found = fetch(&daemon, next)?;
    // Nobody has missed what was before he came.
    printer.all(&found, question.since.is_some())?;
    let mut place = Place { started: found.started_unix_ms, next: found.next };
    if !question.follow {
        return Ok(());
    }
    let mut pause = PAUSE;
    loop {
        match follow(&daemon, &mut printer, &mut place) {
            Ok(()) | Err(Ended::Daemon) => {
                pause = PAUSE;
                printer.note("the daemon has closed the connection: asking again")?;
            }
            Err(Ended::NotNow(text)) => {
                pause = LONGEST_PAUSE.min(pause * 2);
                printer.note_once(&format!("{text}: trying again"))?;
            }
            Err(Ended::Here(error)) => return Err(error),
        }
        catch_up(&daemon, &mut printer, &mut place, pause)?;
    }
}

/// Where one is: of which daemon, by its start, and the number to go on from.
#[derive(Debug)]
struct Place {
    started: i64,
    next: u64,
}

/// What was told meanwhile, by this daemon or by another.
fn catch_up(daemon: &Daemon, printer: &mut Printer<'_>, place: &mut Place, pause: Duration) -> Result<(), String> {
    let mut pause = pause;
    loop {
        std::thread::sleep(pause);
        match fetch(daemon, place.next).map_err(Ended::from) {
            Ok(found) if found.started_unix_ms == place.started => {
                place.next = found.next;
                return printer.all(&found, true);
            }
            Ok(found) => {
                printer.note("the daemon was started anew")?;
                *place = Place { started: found.started_unix_ms, next: 1 };
                pause = Duration::ZERO;
            }
            Err(Ended::Daemon) => pause = PAUSE,
            Err(Ended::NotNow(text)) => {
                pause = LONGEST_PAUSE.min(PAUSE.max(pause * 2));
                printer.note_once(&format!("{text}: trying again"))?;
            }
            Err(Ended::Here(error)) => return Err(error),
        }
    }
}

fn fetch(daemon: &Daemon, since: u64) -> Result<Records, NoAnswer> {
    daemon.json(&format!("/v1/events?since={since}"))
}

/// Why a stream is over, or there is none.
enum Ended {
    /// The daemon is gone.
    Daemon,
    /// It is there and does not tell now, as between its end and its next start.
    NotNow(String),
    /// Standard output is gone, or it is no daemon that can be followed.
    Here(String),
}

impl From<NoAnswer> for Ended {
    fn from(answer: NoAnswer) -> Self {
        match answer {
            NoAnswer::NoDaemon(_) => Self::Daemon,
            NoAnswer::Status(UNAVAILABLE, text) | NoAnswer::Other(text) => Self::NotNow(text.trim().to_owned()),
            NoAnswer::Status(_, text) => Self::Here(text),
        }
    }
}

fn follow(daemon: &Daemon, printer: &mut Printer<'_>, place: &mut Place) -> Result<(), Ended> {
    let lines = daemon.follow(&format!("/v1/events/follow?since={}", place.next))?;
    let mut reader = EventReader::default();
    for line in lines {
        let Some(event) = reader.line(&line.map_err(|_| Ended::Daemon)?) else { continue };
        let told = match event.name.as_str() {
            // Another daemon than was asked before: its numbers are others.
            "hello" if started(&event.data).is_some_and(|started| started != place.started) => return Ok(()),
            "record" => match serde_json::from_str::<Record>(&event.data) {
                Ok(record) if record.seq >= place.next => {
                    place.next = record.seq.saturating_add(1);
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

/// Of the event `hello`.
fn started(data: &str) -> Option<i64> {
    serde_json::from_str::<serde_json::Value>(data).ok()?.get("startedUnixMs")?.as_i64()
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
    last_note: String,
}

impl Printer<'_> {
    /// All of an answer, and what it lacks if that may have been missed.
    fn all(&mut self, records: &Records, may_miss: bool) -> Result<(), String> {
        if may_miss {
            self.missed(records.missed)?;
        }
        records.records.iter().try_for_each(|record| self.one(record))
    }

    fn one(&mut self, record: &Record) -> Result<(), String> {
        if !self.question.wants(record) {
            return Ok(());
        }
        let text = if self.question.asked.json {
            serde_json::to_string(record).map_err(|error| format!("writing JSON: {error}"))? + "\n"
        } else {
            line(record, self.screen, now())
        };
        print(self.out, &text)
    }

    fn missed(&mut self, count: u64) -> Result<(), String> {
        if count == 0 { Ok(()) } else { self.note(&format!("{count} records are forgotten already")) }
    }

    /// A note that is not told twice in a row.
    fn note_once(&mut self, text: &str) -> Result<(), String> {
        if self.last_note == text { Ok(()) } else { self.note(text) }
    }

    /// Something about the records. In JSON: an object without a number.
    fn note(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(&mut self.last_note);
        let text = if self.question.asked.json {
            format!("{}\n", serde_json::json!({ "note": text }))
        } else {
            let note = format!("-- {text}");
            format!("{}\n", self.screen.paint(Style::Faint, &note))
        };
        print(self.out, &text)
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    clock::now().unix_nanos / 1_000_000
}

/// A record for people who read it at `now_ms`.
pub(super) fn line(record: &Record, screen: &Screen, now_ms: i64) -> String {
    let (level, style) = match record.level {
        NoticeLevel::Debug => ("debug", Style::Faint),
        NoticeLevel::Info => ("info ", Style::Good),
        NoticeLevel::Warn => ("WARN ", Style::Warning),
        NoticeLevel::Error => ("ERROR", Style::Bad),
    };
    let when = when(record.unix_ms, now_ms);
    let head = format!("{:>6} {when} {level} {:8} ", record.seq, kind(record.kind));
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

/// `17:04:05.123Z`, and of another day than today's (UTC) `2026-11-29 17:04:05.123Z`.
fn when(unix_ms: i64, now_ms: i64) -> String {
    let of_day = unix_ms.rem_euclid(DAY_MS);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    let time = format!("{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if unix_ms.div_euclid(DAY_MS) == now_ms.div_euclid(DAY_MS) {
        return time;
    }
    let date = rfc3339(unix_ms.saturating_mul(1_000_000));
    format!("{} {time}", date.split('T').next().unwrap_or_default())
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
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use ipamd_core::config::Bind;
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
        let today = record(12, NoticeLevel::Warn, Some("default/web"));
        let text = line(&today, &Screen::default(), today.unix_ms + 1);
        assert_eq!(text, "    12 17:04:05.123Z WARN  refused  [NodeFull] default/web: no address (1.5s)\n");
        let screen = Screen { width: Some(60), has_colours: true, has_unicode: false };
        let text = line(&record(12, NoticeLevel::Error, Some("default/web")), &screen, 0);
        assert!(text.contains("\x1b[31mERROR\x1b[0m"), "{text}");
    }

    #[test]
    fn what_is_not_of_today_has_its_date() {
        let of_noon = 1_764_504_000_250;
        assert_eq!(when(of_noon, of_noon + DAY_MS / 4), "12:00:00.250Z");
        for other_day in [of_noon + DAY_MS / 2, of_noon + 30 * DAY_MS, of_noon - DAY_MS] {
            assert_eq!(when(of_noon, other_day), "2025-11-30 12:00:00.250Z");
        }
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
            started_unix_ms: 1,
        };
        let printed = |question: &Question, may_miss| {
            let (screen, mut out) = (Screen::default(), Vec::new());
            let mut printer = Printer { question, screen: &screen, out: &mut out, last_note: String::new() };
            printer.all(&all, may_miss).unwrap();
            String::from_utf8(out).unwrap()
        };
        let numbers = |text: &str| -> Vec<u64> {
            text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
        };
        assert_eq!(numbers(&printed(&question(), false)), [6, 7, 8]);
        assert_eq!(numbers(&printed(&Question { level: NoticeLevel::Debug, ..question() }, false)), [5, 6, 7, 8]);
        assert_eq!(numbers(&printed(&Question { pod: Some("b/x".to_owned()), ..question() }, false)), [7]);
        assert_eq!(numbers(&printed(&Question { pod: Some("x".to_owned()), ..question() }, false)), [6, 7]);
        assert!(!printed(&question(), false).contains("forgotten"));
        assert!(printed(&question(), true).starts_with("-- 4 records are forgotten already\n"));
        let asked = Asked { json: true, ..Asked::default() };
        let json = printed(&Question { asked, level: NoticeLevel::Warn, ..question() }, false);
        assert_eq!(json.lines().count(), 2);
        assert!(json.lines().all(|line| serde_json::from_str::<Record>(line).is_ok()), "{json}");
    }

    /// Answers each connection with the next text, of status 200 if it says none.
    fn serve(path: &Path, answers: Vec<String>) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let head = if answer.starts_with("HTTP/") { "" } else { "HTTP/1.0 200 OK\r\n\r\n" };
                stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
            }
        });
    }

    /// What a daemon that started then answers to `since`, having told `last` records.
    fn records(started_unix_ms: i64, since: u64, last: u64) -> String {
        let records = (since..=last).map(|seq| record(seq, NoticeLevel::Info, None)).collect();
        serde_json::to_string(&Records { records, missed: 0, next: last + 1, started_unix_ms }).unwrap()
    }

    #[test]
    fn a_restarted_daemon_that_has_told_more_already_is_read_from_its_first_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let hello = |started: i64| format!("event: hello\ndata: {{\"startedUnixMs\":{started}}}\n\n");
        serve(
            &path,
            vec![
                records(1, 1, 2),
                hello(1),
                // Another is there, and has told more than the one before; then it breaks off, and stops once more.
                records(2, 3, 5),
                "no HTTP".to_owned(),
                "HTTP/1.0 503 Service Unavailable\r\n\r\n16 follow already\n".to_owned(),
                records(2, 1, 5),
                "HTTP/1.0 503 Service Unavailable\r\n\r\n16 follow already\n".to_owned(),
                records(2, 6, 6),
                // Started anew just before it is followed.
                hello(3)
                    + &format!(
                        "event: record\ndata: {}\n\n",
                        serde_json::to_string(&record(9, NoticeLevel::Info, None)).unwrap()
                    ),
                records(3, 7, 9),
                records(3, 1, 9),
                "HTTP/1.0 404 Not Found\r\n\r\n".to_owned(),
            ],
        );
        let asked = Asked { address: Some(Bind::Unix(path)), ..Asked::default() };
        let question = Question { asked, follow: true, ..question() };
        let mut out = Vec::new();
        let ended = run(&Config::default(), &question, &Screen::default(), &mut out);
        assert!(ended.clone().is_err_and(|error| error.contains("404 Not Found")), "{ended:?}");
        let text = String::from_utf8(out).unwrap();
        let numbers: Vec<u64> = text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(numbers, [1, 2, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9], "{text}");
        assert_eq!(text.matches("the daemon was started anew").count(), 2, "{text}");
        assert!(text.contains("503 Service Unavailable"), "{text}");
    }
}
