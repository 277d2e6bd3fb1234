// SPDX-License-Identifier: Apache-2.0
//! What follows from the state as it is: the one place that says in which order things are done.

use super::{Core, Turn};

impl Core {
    /// Does everything that can be done now, and registers when to be woken for the rest. Doing it again at the same time
    /// does nothing.
    pub(super) fn advance(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if let Some(undurable) = &self.undurable {
            if now < undurable.until {
                let until = undurable.until;
                self.alarm(until);
                self.answer_expired(turn);
                self.drive_repair(turn);
                self.waiting_alarm();
                return;
            }
            self.undurable = None;
        }
        self.count_announced();
        self.update_guess();
        self.mark_excluded(turn);
        self.end_cooldowns(now);
        self.give_flushes_up(turn);
        self.forget_what_ec2_does_not_list(turn);
        self.conclude_unassign(turn);
        self.drive_pod_network(turn);
        self.recall(turn);
        self.serve_waiters(turn);
        self.answer_expired(turn);
        self.hurry_subnets();
        self.hurry(now);
        self.forget_tombstones(turn);
        self.drive_flushes(turn);
        self.drive_host(turn);
        self.drive_subnets(turn);
        self.drive_requests(turn);
        self.drive_enis(turn);
        self.grow(turn);
        self.refuse_hopeless(turn);
        self.vacate(turn);
        self.shrink(turn);
        // What was on its way out and stays after all: somebody may wait for it, and it is flushed as what is new.
        self.serve_waiters(turn);
        self.drive_flushes(turn);
        self.drive_repair(turn);
        self.drive_reads(turn);
        self.drive_zone(turn);
        self.drive_upkeep(turn);
        self.drive_sweep(turn);
        self.tell_slow_calls(turn);
        self.growth_alarms(now);
        self.waiting_alarm();
    }

    fn end_cooldowns(&mut self, now: crate::ids::BootTime) {
        let observed = self.observe.last;
        let held = &self.kernel.held;
        let next = self.store.expire(now, |address, released| {
            let seen_since = observed.is_some_and(|observed| observed >= released);
            held.get(&address).filter(|_| seen_since).map(|held| held.link.clone())
        });
        if let Some(next) = next {
            self.alarm(next);
        }
    }

    fn waiting_alarm(&mut self) {
        if let Some(deadline) = self.waiters.next_deadline() {
            self.alarm(deadline);
        }
    }
}
