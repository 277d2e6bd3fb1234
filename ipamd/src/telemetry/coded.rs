// SPDX-License-Identifier: Apache-2.0
//! What edges say of themselves: a warning of theirs that carries a code is told like a notice of the core's, so that it is
//! counted, remembered and made an Event by the same code as it is logged with.
//!
//! Hears warnings and errors whatever the level of the log. Leaves out what was told already by who logged it ([`TOLD`]). What is
//! said before somebody listens is kept, as far as [`EARLY`] goes.
//!
//! Invariant: hearing logs nothing, so it never hears itself.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use ipamd_core::reason::{Notice, NoticeLevel, ReasonCode};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Target of the last words of a panic.
pub(super) const PANIC: &str = "ipamd::panic";

/// Targets (modules, mostly) of whose lines the core, or they themselves, make what is told: notices, refusals, failures that the core
/// judges. And the last words of a panic, which may hold what a listener wants.
const TOLD: [&str; 5] = ["ipamd::driver", "ipamd::edge::rpc", "ipamd::edge::facts", "ipamd_aws::throttle", PANIC];

/// Notices kept until somebody listens.
const EARLY: usize = 32;

type Listener = Box<dyn Fn(&Notice) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();
static WAITING: Mutex<Vec<Notice>> = Mutex::new(Vec::new());

/// From now on `listener` is told, first of what came before. The first one stays.
pub(crate) fn listen(listener: impl Fn(&Notice) + Send + Sync + 'static) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = LISTENER.get_or_init(|| Box::new(listener));
    waiting.drain(..).for_each(|notice| listener(&notice));
}

fn hear(notice: Notice) {
    if let Some(listener) = LISTENER.get() {
        return listener(&notice);
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have come meanwhile, and have taken what was there.
    if let Some(listener) = LISTENER.get() {
        drop(waiting);
        return listener(&notice);
    }
    if waiting.len() < EARLY {
        waiting.push(notice);
    }
}

/// The layer that hears.
#[derive(Debug)]
pub(super) struct Coded;

impl<S: Subscriber> Layer<S> for Coded {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if TOLD.contains(&metadata.target()) {
            return;
        }
        if let Some(notice) = read(event) {
            hear(notice);
        }
    }
}

/// The line as a notice; `None`: it has no code.
fn read(event: &Event<'_>) -> Option<Notice> {
    let mut line = Line::default();
    event.record(&mut line);
    let Line { code, mut text, fields } = line;
    if !fields.is_empty() {
        let _ = write!(text, " ({fields})");
    }
    let level = if *event.metadata().level() == Level::ERROR { NoticeLevel::Error } else { NoticeLevel::Warn };
    Some(Notice { level, text, code: Some(code?) })
}

#[derive(Debug, Default)]
struct Line {
    code: Option<ReasonCode>,
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "code" => self.code = format!("{value:?}").parse().ok(),
            "message" => self.text = format!("{value:?}"),
            name => {
                let comma = if self.fields.is_empty() { "" } else { ", " };
                let _ = write!(self.fields, "{comma}{name}: {value:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps what `read` makes of every line.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Option<Notice>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(read(event));
        }
    }

    #[test]
    fn a_line_with_a_code_is_a_notice_with_its_fields() {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), || {
            tracing::error!(code = %ReasonCode::SnatFileInvalid, path = "/a", error = %"no JSON", "cannot be used");
            tracing::warn!(code = %ReasonCode::SweepDenied, "another node is to do it");
            tracing::warn!("without a code");
            tracing::warn!(code = "OfNextYear", "of no table");
        });
        let kept = kept.0.lock().unwrap();
        let notice = |level, code, text: &str| Some(Notice { level, text: text.to_owned(), code: Some(code) });
        let text = "cannot be used (path: /a, error: no JSON)";
        assert_eq!(kept[0], notice(NoticeLevel::Error, ReasonCode::SnatFileInvalid, text));
        assert_eq!(kept[1], notice(NoticeLevel::Warn, ReasonCode::SweepDenied, "another node is to do it"));
        assert_eq!(kept[2..], [None, None]);
    }
}
