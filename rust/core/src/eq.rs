//! Equality that may have to be asked outside the lock.
//!
//! Whether two keys are equal is foreign code: it can raise, block, or use the container it is asked for. So the
//! structure asks a [`Probe`], which decides what can be decided on sight and remembers the rest. If the look-up ends
//! without an answer, the questions are settled with nothing held, and the look-up starts again: CPython's restart of
//! a dict look-up, made a type.

use crate::refused::{Refused, Undecided};

/// What can be said of two keys on sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are equal.
    Same,
    /// They are not.
    Different,
    /// Only foreign code can tell.
    Undecided,
}

/// How the key that is looked for compares with stored keys.
pub trait Equality<K> {
    /// What foreign code raises, or a refusal.
    type Error: From<Refused>;

    /// Decides on sight. Runs under the lock: no foreign code.
    fn verdict(&self, stored: &K) -> Verdict;

    /// Asks foreign code. Runs with nothing held.
    fn ask(&self, stored: &K) -> Result<bool, Self::Error>;

    /// A second strong reference to a stored key, taken under the lock, so that it outlives its entry.
    fn dup(&self, stored: &K) -> K;

    /// A number that two living keys share only if they are the same object.
    fn identity(stored: &K) -> usize;

    /// The allocator said no: frees what can be freed. False if that is nothing. Runs with nothing held.
    fn give_memory_back(&self) -> bool {
        false
    }
}

/// What a glance at a stored key tells: a verdict without the doubts, or less than that in fewer steps.
pub trait Plainly<K> {
    /// Whether it is plainly the one that is looked for. False says nothing. Runs under the lock: no foreign code.
    fn is_plainly(&self, stored: &K) -> bool;
}

impl<K, E: Equality<K>> Plainly<K> for E {
    #[inline(always)]
    fn is_plainly(&self, stored: &K) -> bool {
        self.verdict(stored) == Verdict::Same
    }
}

/// Questions taken along from one look-up: few at first, so that equality is asked as seldom as a dict asks it, then
/// more, so that a thousand keys with one hash cost a handful of rounds.
const FIRST_BATCH: usize = 1;
const BATCH_GROWTH: usize = 4;
/// Rounds after which foreign code that changes the container during every look-up is told so.
const MAX_ROUNDS: u32 = 1000;

/// One key being looked for: its equality, and what has been settled so far.
pub struct Probe<'a, K, E: Equality<K>> {
    eq: &'a E,
    /// None while everything is decided on sight, which is nearly always.
    settling: Option<Box<Settling<K>>>,
}

struct Settling<K> {
    questions: Vec<K>,
    /// Stored keys with their answer. They are kept alive, so an identity cannot come to mean another key.
    answers: Vec<(K, bool)>,
    rounds: u32,
    batch: usize,
}

impl<'a, K, E: Equality<K>> Probe<'a, K, E> {
    /// A probe that has settled nothing.
    #[inline]
    pub fn new(eq: &'a E) -> Self {
        Probe { eq, settling: None }
    }

    /// Whether `stored` is the key looked for; false also if that is not known yet.
    #[inline(always)]
    pub fn is(&mut self, stored: &K) -> bool {
        match self.eq.verdict(stored) {
            Verdict::Same => true,
            Verdict::Different => false,
            Verdict::Undecided => self.recall(stored),
        }
    }

    /// What a look-up that found nothing means: nothing there, or nothing known yet.
    #[inline]
    pub fn missed(&self) -> Result<(), Undecided> {
        match &self.settling {
            Some(settling) if !settling.questions.is_empty() => Err(Undecided),
            _ => Ok(()),
        }
    }

    #[cold]
    fn recall(&mut self, stored: &K) -> bool {
        let settling = self.settling.get_or_insert_with(|| {
            Box::new(Settling { questions: Vec::new(), answers: Vec::new(), rounds: 0, batch: FIRST_BATCH })
        });
        let identity = E::identity(stored);
        // Answers are sorted by identity, so a thousand of them cost ten steps.
        match settling.answers.binary_search_by_key(&identity, |(key, _)| E::identity(key)) {
            Ok(at) => settling.answers[at].1,
            Err(_) => {
                if settling.questions.len() < settling.batch {
                    settling.questions.push(self.eq.dup(stored));
                }
                false
            }
        }
    }

    /// Asks what the last look-up left open, in the order it met the keys, and stops at the first that is equal.
    #[cold]
    pub(crate) fn settle(&mut self) -> Result<(), E::Error> {
        let Some(settling) = &mut self.settling else { return Ok(()) };
        settling.rounds += 1;
        if settling.rounds > MAX_ROUNDS {
            return Err(Refused::Unsettled.into());
        }
        settling.batch = settling.batch.saturating_mul(BATCH_GROWTH);
        for stored in std::mem::take(&mut settling.questions) {
            let same = self.eq.ask(&stored)?;
            settling.answers.push((stored, same));
            if same {
                break;
            }
        }
        settling.answers.sort_unstable_by_key(|(key, _)| E::identity(key));
        Ok(())
    }
}
