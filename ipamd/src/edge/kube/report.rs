// SPDX-License-Identifier: Apache-2.0
//! What the rest of the daemon tells the Kubernetes edge: never waits, never fails.
//!
//! A bounded queue of news, and a bell that says that the state may have changed. What does not fit is counted and gone: an
//! API server that is away must cost nobody anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipamd_core::ids::PodRef;
use ipamd_core::reason::{Notice, NoticeLevel, ReasonCode, Refusal};
use tokio::sync::{Notify, mpsc};

use super::events::{About, News};

/// News that wait for the edge: more than a node's worth of refused pods.
const MOST_NEWS: usize = 1_024;

/// The end that tells; without an edge behind it nothing happens. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reporter(Option<Ends>);

#[derive(Clone, Debug)]
struct Ends {
    news: mpsc::Sender<News>,
    bell: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

/// The end that is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) news: mpsc::Receiver<News>,
    /// The state may have changed.
    pub(super) bell: Arc<Notify>,
}

impl Reporter {
    /// `dropped`: where what did not fit is counted.
    pub(super) fn new(dropped: Arc<AtomicU64>) -> (Self, Told) {
        let (sender, news) = mpsc::channel(MOST_NEWS);
        let bell = Arc::new(Notify::new());
        (Self(Some(Ends { news: sender, bell: bell.clone(), dropped })), Told { news, bell })
    }

    /// A pod's ADD was refused.
    pub(crate) fn refused(&self, pod: &PodRef, refusal: &Refusal) {
        let passing = matches!(refusal.code, ReasonCode::Stopping | ReasonCode::Superseded);
        if !passing && !pod.name.is_empty() {
            self.tell(News {
                about: About::Pod(pod.clone()),
                code: refusal.code,
                warning: true,
                text: refusal.cause.clone(),
            });
        }
    }

    /// The daemon has something to say of the node.
    pub(crate) fn noticed(&self, notice: &Notice) {
        if let (NoticeLevel::Warn | NoticeLevel::Error, Some(code)) = (notice.level, notice.code) {
            self.tell(News { about: About::Node, code, warning: true, text: notice.text.clone() });
        }
    }

    /// Addresses were given, refused, released, came or went.
    pub(crate) fn changed(&self) {
        if let Some(ends) = &self.0 {
            ends.bell.notify_one();
        }
    }

    fn tell(&self, news: News) {
        if let Some(ends) = &self.0
            && ends.news.try_send(news).is_err()
        {
            ends.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ReasonCode) -> Refusal {
        Refusal { code, cause: "9 of 9 addresses in use".to_owned(), retry_after: None }
    }

    fn pod(name: &str) -> PodRef {
        PodRef { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn refusals_and_loud_notices_with_a_code_are_told() {
        let (reporter, mut told) = Reporter::new(Arc::default());
        reporter.refused(&pod("web-0"), &refusal(ReasonCode::NodeFull));
        reporter.refused(&pod("web-0"), &refusal(ReasonCode::Stopping));
        reporter.refused(&pod(""), &refusal(ReasonCode::NodeFull));
        for (level, code) in [
            (NoticeLevel::Warn, Some(ReasonCode::HostContested)),
            (NoticeLevel::Info, Some(ReasonCode::OrphansSwept)),
            (NoticeLevel::Error, None),
        ] {
            reporter.noticed(&Notice { level, text: "text".to_owned(), code });
        }
        let mut codes = Vec::new();
        while let Ok(news) = told.news.try_recv() {
            codes.push((news.about, news.code));
        }
        assert_eq!(codes, [(About::Pod(pod("web-0")), ReasonCode::NodeFull), (About::Node, ReasonCode::HostContested)]);
    }

    #[test]
    fn what_nobody_takes_is_counted_and_gone() {
        let dropped = Arc::new(AtomicU64::new(0));
        let (reporter, told) = Reporter::new(dropped.clone());
        for _ in 0..MOST_NEWS + 3 {
            reporter.refused(&pod("web-0"), &refusal(ReasonCode::NodeFull));
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        drop(told);
        reporter.refused(&pod("web-0"), &refusal(ReasonCode::NodeFull));
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        Reporter::default().refused(&pod("web-0"), &refusal(ReasonCode::NodeFull));
    }
}
