//! The check that a wallet's ledger adds up to its balance.
//!
//! The check follows the ledger from the newest entry to the first, one page at a time. Entries are only ever added,
//! and each is written in one transaction with its wallet. Therefore the state of a wallet at any time determines which
//! entries must exist, even if more entries are booked while the check reads.

use domain::billing::{LedgerEntry, Wallet};
use domain::id::UserId;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// The state of a check: the number and balance that the next entry must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerCheck {
    /// The owner of the wallet.
    pub user_id: UserId,
    /// The number of the next entry, counting down; 0 after entry 1.
    pub sequence: u64,
    /// The balance after that entry, as computed from the wallet or from the entry that follows it in the ledger.
    pub balance: Decimal,
}

impl LedgerCheck {
    /// Starts a check with the number of entries and the balance of the wallet.
    pub fn of(wallet: &Wallet) -> Self {
        Self { user_id: wallet.user_id.clone(), sequence: wallet.entries, balance: wallet.balance }
    }

    /// Checks entries, newest first. Entries booked after the wallet was read are skipped.
    ///
    /// # Errors
    /// A description of the defect when the entries do not match.
    pub fn follow(&mut self, entries: &[LedgerEntry]) -> Result<(), String> {
        let known = self.sequence;
        for entry in entries.iter().skip_while(|entry| entry.sequence > known) {
            let LedgerEntry { sequence, balance_after, amount, .. } = entry;
            if *sequence != self.sequence {
                return Err(format!("entry {} of its ledger is missing", self.sequence));
            }
            if *balance_after != self.balance {
                return Err(format!("entry {sequence} says {balance_after}, what comes after says {}", self.balance));
            }
            self.balance = balance_after - amount;
            self.sequence -= 1;
        }
        Ok(())
    }

    /// Ends a check after the last page: the ledger must have been followed to entry 1 and to a balance of zero.
    ///
    /// # Errors
    /// A description of the defect when it was not.
    pub fn finish(&self) -> Result<(), String> {
        if self.sequence > 0 {
            return Err(format!("entry {} of its ledger is missing", self.sequence));
        }
        if self.balance.is_zero() {
            return Ok(());
        }
        Err(format!("its ledger leads to {} before the first entry", self.balance))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use domain::billing::EntryKind;
    use proptest::prelude::*;
    use testkit::seeded;

    use super::*;

    /// Builds the ledger of these amounts, newest entry first, and its wallet.
    fn ledger(amounts: &[i64]) -> (Wallet, Vec<LedgerEntry>) {
        let user_id = UserId::new("u").unwrap();
        let mut wallet = Wallet::open(user_id, "EUR".parse().unwrap(), domain::Instant::UNIX_EPOCH);
        let mut entries = Vec::new();
        for cents in amounts {
            let amount = Decimal::new(*cents, 2);
            wallet.balance += amount;
            wallet.entries += 1;
            entries.insert(
                0,
                LedgerEntry {
                    sequence: wallet.entries,
                    kind: EntryKind::TopUp,
                    amount,
                    balance_after: wallet.balance,
                    currency: wallet.currency,
                    reference: "r".to_owned(),
                    created_at: domain::Instant::UNIX_EPOCH,
                },
            );
        }
        (wallet, entries)
    }

    fn check(wallet: &Wallet, entries: &[LedgerEntry], page: usize) -> Result<(), String> {
        let mut check = LedgerCheck::of(wallet);
        for entries in entries.chunks(page) {
            check.follow(entries)?;
        }
        check.finish()
    }

    proptest! {
        #![proptest_config(seeded(500))]

        /// A correct ledger passes for every page size, even if more entries are booked; any single change is detected.
        #[test]
        fn correct_ledgers_pass_and_any_single_change_is_detected(
            amounts in prop::collection::vec(-500..500i64, 1..30),
            (page, booked, at, by) in (1..8usize, 0..4usize, any::<prop::sample::Index>(), 1..100i64)
        ) {
            let (now, entries) = ledger(&amounts);
            prop_assert_eq!(check(&now, &entries, page), Ok(()));
            let earlier = ledger(&amounts[..amounts.len() - booked.min(amounts.len())]).0;
            prop_assert_eq!(check(&earlier, &entries, page), Ok(()));

            let wrong = |change: &dyn Fn(&mut Wallet, &mut Vec<LedgerEntry>, usize)| {
                let (mut wallet, mut entries) = (now.clone(), entries.clone());
                let at = at.index(entries.len());
                change(&mut wallet, &mut entries, at);
                check(&wallet, &entries, page).is_err()
            };
            let by = Decimal::new(by, 2);
            prop_assert!(wrong(&|wallet, _, _| wallet.balance += by));
            prop_assert!(wrong(&|wallet, _, _| wallet.entries += 1));
            prop_assert!(wrong(&|_, entries, at| drop(entries.remove(at))));
            prop_assert!(wrong(&|_, entries, at| entries[at].amount += by));
            prop_assert!(wrong(&|_, entries, at| entries[at].balance_after += by));
        }
    }

    #[test]
    fn a_wallet_without_entries_must_have_a_zero_balance() {
        let (mut wallet, _) = ledger(&[]);
        assert_eq!(check(&wallet, &[], 1), Ok(()));
        wallet.balance = Decimal::ONE;
        assert!(check(&wallet, &[], 1).is_err());
    }
}
