// SPDX-License-Identifier: Apache-2.0
//! A sequential program as a value: it runs until it has to wait, says for what, and goes on with the answer.
//!
//! The reference is one long procedure that sleeps, calls and waits in the middle of its work. Written as an `async`
//! function it reads as it is meant; this is all the machinery it needs: one question at a time, no clock, no task, no
//! executor. What answers (the virtual clock, EC2, IMDS, the kernel) is outside.
//!
//! ```text
//!   Program::resume(answer) ─► runs ─► Some(Ask) ─► … the answer comes … ─► resume(answer) ─► … ─► None: it has ended
//! ```
//! Invariant: a program that has not ended waits for exactly one answer.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipamd_core::event::Failure;
use vpc_model::imds::ImdsView;

use crate::allocator::KernelCall;
use crate::client::Ec2Call;

/// What a program waits for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// An EC2 call.
    Ec2(Ec2Call),
    /// All of IMDS.
    Imds,
    /// A call on the kernel.
    Kernel(KernelCall),
    /// Time.
    Sleep(Duration),
}

/// What it gets.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The XML.
    Ec2(Result<String, Failure>),
    /// What IMDS said.
    Imds(Result<Box<ImdsView>, Failure>),
    /// Whether the kernel did it.
    Kernel(Result<(), Failure>),
    /// The time is over.
    Slept,
}

/// Where a program lays down its question and finds the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Rc<RefCell<Papers>>);

#[derive(Debug, Default)]
struct Papers {
    ask: Option<Ask>,
    answer: Option<Answer>,
}

impl Desk {
    async fn put(&self, ask: Ask) -> Answer {
        self.0.borrow_mut().ask = Some(ask);
        poll_fn(|_| match self.0.borrow_mut().answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    pub(super) async fn ec2(&self, call: Ec2Call) -> Result<String, Failure> {
        match self.put(Ask::Ec2(call)).await {
            Answer::Ec2(answer) => answer,
            other => unreachable!("an EC2 call was answered with {other:?}"),
        }
    }

    pub(super) async fn imds(&self) -> Result<Box<ImdsView>, Failure> {
        match self.put(Ask::Imds).await {
            Answer::Imds(answer) => answer,
            other => unreachable!("a read of IMDS was answered with {other:?}"),
        }
    }

    pub(super) async fn kernel(&self, call: KernelCall) -> Result<(), Failure> {
        match self.put(Ask::Kernel(call)).await {
            Answer::Kernel(answer) => answer,
            other => unreachable!("a kernel call was answered with {other:?}"),
        }
    }

    pub(super) async fn sleep(&self, time: Duration) {
        self.put(Ask::Sleep(time)).await;
    }
}

/// A program under way.
pub(super) struct Program {
    desk: Desk,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    /// A program that has not begun.
    pub(super) fn new<F: Future<Output = ()> + 'static>(program: impl FnOnce(Desk) -> F) -> Self {
        let desk = Desk::default();
        Self { future: Box::pin(program(desk.clone())), desk }
    }

    /// Goes on to the next question; `answer` is `None` only at the beginning. `None`: the program has ended, and is not to
    /// be resumed again.
    pub(super) fn resume(&mut self, answer: Option<Answer>) -> Option<Ask> {
        self.desk.0.borrow_mut().answer = answer;
        match self.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => None,
            Poll::Pending => self.desk.0.borrow_mut().ask.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_waits_at_each_question_and_ends() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let notes = seen.clone();
        let mut program = Program::new(|desk| async move {
            for seconds in 1..=2 {
                desk.sleep(Duration::from_secs(seconds)).await;
                notes.borrow_mut().push(seconds);
            }
        });
        assert!(matches!(program.resume(None), Some(Ask::Sleep(time)) if time == Duration::from_secs(1)));
        assert!(seen.borrow().is_empty());
        assert!(
            matches!(program.resume(Some(Answer::Slept)), Some(Ask::Sleep(time)) if time == Duration::from_secs(2))
        );
        assert!(program.resume(Some(Answer::Slept)).is_none());
        assert_eq!(*seen.borrow(), [1, 2]);
    }
}
