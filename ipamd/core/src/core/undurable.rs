// SPDX-License-Identifier: Apache-2.0
//! The journal could not be written: nothing of the failed effects happened, so they are taken back.
//!
//! Addresses given out in them go back without a cooldown (nobody heard of them) and their ADDs are refused; calls that
//! were not started count as failed and are tried again. A DEL is answered all the same: should we crash before the journal
//! can be written, its address is found without a host veth and released then. Nothing new is given out or started until
//! the next attempt a second later.

use std::time::Duration;

use crate::action::{ActionKind, Effects, Reply};
use crate::event::{Failure, FailureClass, Outcome};
use crate::reason::{NoticeLevel, ReasonCode, Refusal};

use super::state::Undurable;
use super::{Core, Turn};

const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn persist_failed(&mut self, turn: &mut Turn, effects: Effects, message: String) {
        let until = turn.boot() + TRY_AGAIN_AFTER;
        turn.fx.notices = effects.notices;
        turn.notice(NoticeLevel::Error, Some(ReasonCode::StateNotDurable), message.clone());
        self.undurable = Some(Undurable { until, message: message.clone() });
        self.touch();
        for reply in effects.replies {
            let reply = self.take_reply_back(reply, &message);
            turn.fx.replies.push(reply);
        }
        for action in effects.actions {
            if let ActionKind::ForgetTombstone { key } = action.kind {
                self.forgets.push(key);
                continue;
            }
            let failure = Failure {
                class: FailureClass::Transient,
                code: ReasonCode::StateNotDurable.to_string(),
                message: message.clone(),
                retry_after: Some(TRY_AGAIN_AFTER),
            };
            self.ended(turn, action.id, Outcome::Failed(failure));
        }
    }

    fn take_reply_back(&mut self, reply: Reply, message: &str) -> Reply {
        match reply {
            Reply::Add { request, result: Ok(allocated) } => {
                // One that was given long before is refused, too, for it shares the write, and keeps its address.
                let made_for_it = self
                    .store
                    .allocation(allocated.address)
                    .is_some_and(|allocation| allocation.request == Some(request));
                if made_for_it {
                    self.store.undo(allocated.address);
                }
                Reply::Add { request, result: Err(not_durable(message)) }
            }
            other @ (Reply::Add { .. } | Reply::Del { .. } | Reply::Gc { .. }) => other,
        }
    }
}

pub(super) fn not_durable(message: &str) -> Refusal {
    Refusal {
        code: ReasonCode::StateNotDurable,
        cause: format!("the daemon cannot write its state, so it gives no address out: {message}"),
        retry_after: Some(TRY_AGAIN_AFTER),
    }
}
