//! Due against a naive list of deadlines: exact, in order, wherever on the scale of time the deadlines lie.

use proptest::collection::vec;
use proptest::prelude::*;
use ullage_core::due::{Due, Effort};
use ullage_core::slab::{Slab, Token};
use ullage_core::Tick;

const NEVER: u64 = u64::MAX;

/// A moment, said so that small, large and neighbouring ones are met.
#[derive(Debug, Clone)]
enum Moment {
    Near(u64),
    Power(u32, u64),
    /// That long before the end of time.
    Last(u64),
}

impl Moment {
    fn after(&self, now: u64) -> u64 {
        match *self {
            Moment::Near(span) => now.saturating_add(span),
            Moment::Power(power, more) => now.saturating_add(1 << power).saturating_add(more),
            Moment::Last(before) => NEVER - 1 - before,
        }
    }
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        6 => (0..200u64).prop_map(Moment::Near),
        4 => (0..64u32, 0..3u64).prop_map(|(power, more)| Moment::Power(power, more)),
        1 => (0..100u64).prop_map(Moment::Last),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    /// Gives a token a deadline after now.
    Schedule(usize, Moment),
    /// Gives a token a deadline that may be long over.
    Anywhere(usize, Moment),
    Never(usize),
    Cancel(usize),
    Pop,
    /// Takes out all that is due.
    Drain,
    Turn(Moment),
    Back(u64),
}

fn op(tokens: usize) -> impl Strategy<Value = Op> {
    let token = move || 0..tokens;
    prop_oneof![
        12 => (token(), moment()).prop_map(|(token, at)| Op::Schedule(token, at)),
        2 => (token(), moment()).prop_map(|(token, at)| Op::Anywhere(token, at)),
        1 => token().prop_map(Op::Never),
        3 => token().prop_map(Op::Cancel),
        4 => Just(Op::Pop),
        1 => Just(Op::Drain),
        4 => moment().prop_map(Op::Turn),
        1 => (0..100u64).prop_map(Op::Back),
    ]
}

struct Model {
    due: Due,
    tokens: Vec<Token>,
    /// The deadline of each token.
    at: Vec<u64>,
    now: u64,
}

impl Model {
    fn new(tokens: usize, now: u64) -> Self {
        let mut slab = Slab::new();
        let tokens = (0..tokens).map(|_| {
            slab.reserve().expect("memory");
            slab.insert(0, ())
        });
        let tokens: Vec<_> = tokens.collect();
        Model { due: Due::new(), at: vec![NEVER; tokens.len()], tokens, now }
    }

    fn schedule(&mut self, token: usize, at: u64) {
        self.due.reserve(self.tokens[token]).expect("memory");
        self.due.schedule(self.tokens[token], Tick(at));
        self.at[token] = at;
    }

    fn earliest(&self) -> Option<u64> {
        self.at.iter().copied().filter(|&at| at != NEVER).min()
    }

    fn pop(&mut self) -> bool {
        let popped = self.due.pop(Tick(self.now), Effort::Whole).map(|(token, at)| {
            let token = self.tokens.iter().position(|&known| known == token).expect("a known token");
            (token, at.0)
        });
        let expected = self.earliest().filter(|&at| at <= self.now);
        assert_eq!(popped.map(|(_, at)| at), expected);
        let Some((token, at)) = popped else { return false };
        assert_eq!(self.at[token], at, "the token has the deadline it was given");
        self.at[token] = NEVER;
        true
    }

    /// As `pop`, with little effort: what is found is right; nothing found may mean that there is more to do.
    fn pop_a_little(&mut self) -> bool {
        let Some((token, at)) = self.due.pop(Tick(self.now), Effort::Little) else { return false };
        let expected = self.earliest().filter(|&at| at <= self.now);
        assert_eq!(Some(at.0), expected);
        self.at[self.tokens.iter().position(|&known| known == token).expect("a known token")] = NEVER;
        true
    }

    /// As `pop`, with little effort, time and again. How often.
    fn pop_slowly(&mut self) -> usize {
        let mut tries = 1;
        while !self.pop_a_little() {
            self.compare(false);
            if self.due.soonest() > Tick(self.now) {
                assert!(self.earliest() > Some(self.now) || self.earliest().is_none());
                break;
            }
            tries += 1;
        }
        tries
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Schedule(token, at) => self.schedule(*token, at.after(self.now)),
            Op::Anywhere(token, at) => self.schedule(*token, at.after(0)),
            Op::Never(token) => self.schedule(*token, NEVER),
            Op::Cancel(token) => {
                self.due.cancel(self.tokens[*token]);
                self.at[*token] = NEVER;
            }
            Op::Pop => drop(self.pop()),
            Op::Drain => while self.pop() {},
            Op::Turn(to) => self.now = to.after(self.now),
            Op::Back(span) => self.now = self.now.saturating_sub(*span),
        }
    }

    /// Asks the wheel everything that changes nothing. `exact` if no slot can hold more than it glances at.
    fn compare(&self, exact: bool) {
        self.due.validate();
        for (token, &at) in self.tokens.iter().zip(&self.at) {
            assert_eq!(self.due.at(*token), Tick(at));
        }
        let counted = |now: u64| self.at.iter().filter(|&&at| at != NEVER && at <= now).count();
        for now in [0, self.now / 2, self.now.saturating_sub(1), self.now, self.now.saturating_add(77), NEVER - 1] {
            assert_eq!(self.due.count_due(Tick(now)), counted(now), "due at {now}");
        }
        let (next, earliest) = (self.due.next().map(|at| at.0), self.earliest());
        assert_eq!(next.is_some(), earliest.is_some());
        assert!(next <= earliest, "next is never too late");
        let nearest = self.due.nearest().map(|token| self.due.at(token).0);
        if exact {
            assert_eq!(next, earliest);
            assert_eq!(nearest, earliest);
        } else {
            assert_eq!(nearest.is_some(), earliest.is_some());
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 4 } else { cases }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn behaves_as_a_list(
        start in prop_oneof![Just(0), 0..10_000u64, (0..64u32).prop_map(|power| 1 << power)],
        ops in vec(op(40), 1..if cfg!(miri) { 40 } else { 150 }),
    ) {
        let mut model = Model::new(40, start);
        for op in &ops {
            model.apply(op);
            model.compare(true);
        }
        model.now = NEVER - 1;
        while model.pop() {}
        prop_assert_eq!(model.earliest(), None);
    }
}

proptest! {
    #![proptest_config(config(40))]

    /// Slots with more entries than are glanced at: still in order, and `next` is still not too late.
    #[test]
    fn crowded(
        start in 0..1u64 << 40,
        spans in vec(prop_oneof![0..5000u64, 0..1u64 << 30], 300),
        turns in vec((0..2000u64, 0..300usize, 0..5000u64, any::<bool>()), 1..40),
    ) {
        let mut model = Model::new(spans.len(), start);
        for (token, span) in spans.iter().enumerate() {
            model.schedule(token, start + span);
        }
        model.compare(false);
        for (turn, token, span, slowly) in turns {
            model.now += turn;
            if slowly {
                model.pop_a_little();
                model.schedule(token, model.now + span / 2);
                model.compare(false);
                model.pop_slowly();
            } else {
                model.pop();
                model.compare(false);
                while model.pop() {}
            }
            model.schedule(token, model.now + span);
            model.compare(false);
        }
        model.now = NEVER - 1;
        while model.pop() {}
        prop_assert_eq!(model.earliest(), None);
    }
}

#[test]
fn an_idle_wheel_keeps_up_with_the_clock() {
    let mut model = Model::new(3, 0);
    for power in 0..64 {
        model.now = 1 << power;
        assert!(!model.pop());
        model.schedule(0, model.now + 1);
        model.compare(true);
        model.now += 1;
        assert!(model.pop());
        model.compare(true);
    }
}

#[test]
fn equal_deadlines_leave_in_the_order_they_came() {
    let mut model = Model::new(100, 0);
    for token in 0..100 {
        model.schedule(token, 1 << 20);
    }
    model.now = 1 << 20;
    for token in 0..100 {
        assert_eq!(model.due.pop(Tick(model.now), Effort::Whole), Some((model.tokens[token], Tick(1 << 20))));
    }
}

/// Deadlines without any order, in one slot: no call that makes little effort does much, and what it does is not lost.
#[test]
fn a_mixed_slot_is_spread_in_bounded_steps() {
    let tokens = if cfg!(miri) { 300 } else { 2000 };
    let mut model = Model::new(tokens, 0);
    for token in 0..tokens {
        model.schedule(token, (1 << 30) + (token as u64 * 7919) % 65_537);
    }
    model.now = 1 << 31;
    assert!(!model.pop_a_little());
    for token in [0, 1, 64, 65, 100, tokens - 1] {
        model.schedule(token, model.now + 1);
        model.compare(false);
    }
    model.schedule(tokens - 2, 1);
    assert!(model.pop_slowly() > tokens / 128);
    while model.pop() {}
    assert_eq!(model.earliest(), Some(model.now + 1));
}
