//! Holds of a wallet under random requests in random order: the held amounts never exceed the balance, a session never
//! takes what another session holds, and the amounts match a simple reference model.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use domain::Instant;
use domain::billing::{HoldRequest, Wallet};
use domain::id::{InvoiceId, SessionId, UserId};
use domain::money::Currency;
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::random::seeded;

#[derive(Clone, Debug)]
enum Step {
    TopUp(u32),
    Pay(u32),
    Hold { session: u8, attempt: u8, max_cost: Option<u32>, due: u32 },
    GiveUp { session: u8, attempt: Option<u8> },
    End { session: u8 },
    Days(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cents = || 1..2_000u32;
    let step = prop_oneof![
        1 => cents().prop_map(Step::TopUp),
        1 => cents().prop_map(Step::Pay),
        4 => (0..3u8, 0..3u8, prop::option::of(cents()), prop_oneof![3 => Just(0), 1 => cents()])
            .prop_map(|(session, attempt, max_cost, due)| Step::Hold { session, attempt, max_cost, due }),
        2 => (0..3u8, prop::option::weighted(0.8, 0..3u8)).prop_map(|(session, attempt)| Step::GiveUp { session, attempt }),
        1 => (0..3u8).prop_map(|session| Step::End { session }),
        1 => (1..20i64).prop_map(Step::Days),
    ];
    prop::collection::vec(step, 1..40)
}

/// A hold in the reference model.
struct Promise {
    amount: Decimal,
    max_cost: Option<Decimal>,
    until: Instant,
}

fn money(cents: u32) -> Decimal {
    Decimal::new(cents.into(), 2)
}

fn wallet(now: Instant) -> (Wallet, Currency) {
    let euro: Currency = "EUR".parse().unwrap();
    (Wallet::open(UserId::new("u-1").unwrap(), euro, now), euro)
}

fn session(number: u8) -> SessionId {
    SessionId::new(format!("s-{number}")).unwrap()
}

proptest! {
    #![proptest_config(seeded(2000))]

    #[test]
    fn held_amounts_match_a_simple_model(steps in steps()) {
        let mut now: Instant = "2026-02-22T10:00:00Z".parse().unwrap();
        let (mut wallet, euro) = wallet(now);
        let mut promises: BTreeMap<u8, Promise> = BTreeMap::new();
        // Attempts that rely on a hold, even if it has expired; attempts that have given their hold up; and ended
        // sessions.
        let mut relying: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
        let (mut gone, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for (number, step) in steps.into_iter().enumerate() {
            promises.retain(|_, promise| now < promise.until);
            let promised: Decimal = promises.values().map(|promise| promise.amount).sum();
            prop_assert_eq!(wallet.held(now), promised);
            prop_assert!(promised <= wallet.balance);
            match step {
                Step::TopUp(cents) => {
                    wallet.top_up(money(cents), euro, number.to_string(), now).unwrap();
                }
                Step::Pay(cents) => {
                    let invoice = InvoiceId::of(&session(9));
                    let paid = wallet.pay(&invoice, money(cents), euro, now).is_ok();
                    let balance = if paid { wallet.balance + money(cents) } else { wallet.balance };
                    prop_assert_eq!(paid, money(cents) <= balance - promised);
                }
                Step::Hold { session: number, attempt, max_cost, due } => {
                    let (id, attempt, max_cost) = (session(number), format!("a-{attempt}"), max_cost.map(money));
                    let asked = HoldRequest { session_id: id, attempt: attempt.clone(), currency: euro, max_cost };
                    let refused = ended.contains(&number) || gone.contains(&(number, attempt.clone()))
                        || promises.get(&number).is_some_and(|promise| promise.max_cost != max_cost);
                    let standing = wallet.standing_hold(&asked, now);
                    prop_assert_eq!(standing.is_err(), refused);
                    let Ok(standing) = standing else { continue };
                    let standing = standing.map(|hold| hold.amount);
                    prop_assert_eq!(standing, promises.get(&number).map(|promise| promise.amount));
                    if standing.is_some() {
                        // The store records the attempt; the next attempt joins the hold by the same rule.
                        let hold = wallet.holds.iter_mut().find(|hold| hold.session_id == session(number)).unwrap();
                        hold.attempts.insert(attempt.clone(), true);
                        relying.entry(number).or_default().insert(attempt);
                        continue;
                    }
                    let available = wallet.balance - promised - money(due);
                    let (version, held) = (wallet.version, wallet.hold(&asked, money(due), now));
                    prop_assert_eq!(held.is_ok(), available > Decimal::ZERO);
                    let Ok(hold) = held else { continue };
                    prop_assert_eq!(hold.amount, max_cost.map_or(available, |most| most.min(available)));
                    prop_assert_eq!(wallet.version, version + 1);
                    promises.insert(number, Promise { amount: hold.amount, max_cost, until: hold.expires_at });
                    let earlier = relying.insert(number, BTreeSet::from([attempt.clone()])).unwrap_or_default();
                    gone.extend(earlier.into_iter().filter(|other| *other != attempt).map(|other| (number, other)));
                }
                Step::GiveUp { session: number, attempt } => {
                    let attempt = attempt.map(|attempt| format!("a-{attempt}"));
                    let end = wallet.give_up_hold(&session(number), attempt.as_deref(), now);
                    let relying = relying.entry(number).or_default();
                    let given_up = attempt.map_or_else(|| relying.clone(), |attempt| BTreeSet::from([attempt]));
                    relying.retain(|attempt| !given_up.contains(attempt));
                    gone.extend(given_up.into_iter().map(|attempt| (number, attempt)));
                    let freed = relying.is_empty() && promises.remove(&number).is_some();
                    prop_assert_eq!(end.is_some_and(|end| end.freed), freed);
                }
                Step::End { session: number } => {
                    let end = wallet.end_hold(&session(number), now);
                    prop_assert_eq!(end.is_some(), ended.insert(number), "a hold ends only once");
                    prop_assert_eq!(end.is_some_and(|end| end.freed), promises.remove(&number).is_some());
                }
                Step::Days(days) => now += Duration::days(days),
            }
        }
    }
}

#[test]
fn repeated_requests_do_not_grow_the_hold() {
    let now: Instant = "2026-02-22T10:00:00Z".parse().unwrap();
    let (mut wallet, euro) = wallet(now);
    wallet.top_up(money(1000), euro, "t".to_owned(), now).unwrap();
    for attempt in 0..1_000 {
        let attempt = format!("a-{attempt:04}");
        let asked = HoldRequest { session_id: session(1), attempt: attempt.clone(), currency: euro, max_cost: None };
        assert_eq!(wallet.standing_hold(&asked, now).unwrap(), None);
        assert_eq!(wallet.hold(&asked, Decimal::ZERO, now).unwrap().amount, money(1000));
        assert!(wallet.give_up_hold(&session(1), Some(&attempt), now).unwrap().freed);
        assert!(wallet.standing_hold(&asked, now).is_err(), "a late repetition is refused");
    }
    assert_eq!((wallet.holds.len(), wallet.holds[0].attempts.len()), (1, 32));
}
