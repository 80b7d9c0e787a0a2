//! The budget of downloads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The most that may be caught up on, in seconds of the rate.
const DEPTH: f64 = 1.0;

/// Bytes at a steady rate, for downloads that each run as fast as they can.
///
/// One may begin while there is anything left, and takes all its bytes at once:
/// the balance goes below zero, and the next one waits until it is paid.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes per second.
    rate: f64,
    /// Clients in the order in which they wait.
    queue: tokio::sync::Mutex<()>,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    balance: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(rate: f64) -> Self {
        Self {
            rate,
            queue: tokio::sync::Mutex::default(),
            account: Mutex::new(Account {
                balance: 0.0,
                at: Instant::now(),
            }),
        }
    }

    /// Waits until a download of `size` bytes may begin.
    pub(super) async fn take(&self, size: u64) {
        let _turn = self.queue.lock().await;
        loop {
            let debt = {
                let mut account = self.account();
                if account.balance >= 0.0 {
                    account.balance -= size as f64;
                    return;
                }
                -account.balance
            };
            sleep(Duration::from_secs_f64(debt / self.rate)).await;
        }
    }

    /// Takes back what a download has left.
    pub(super) fn give_back(&self, bytes: u64) {
        self.account().balance += bytes as f64;
    }

    /// The account as it is now.
    fn account(&self) -> MutexGuard<'_, Account> {
        // No panic can leave it half-changed.
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(account.at).as_secs_f64() * self.rate;
        account.balance = (account.balance + earned).min(DEPTH * self.rate);
        account.at = now;
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_on_average() {
        let budget = Budget::new(1000.0);
        let begin = Instant::now();
        for _ in 0..100 {
            budget.take(500).await;
        }
        let took = begin.elapsed().as_secs_f64();
        assert!((49.0..50.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up_and_leftovers_are() {
        let budget = Budget::new(1000.0);
        sleep(Duration::from_secs(100)).await;
        let begin = Instant::now();
        budget.take(2000).await;
        budget.give_back(1500);
        budget.take(1500).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        budget.take(1).await;
        let took = begin.elapsed().as_secs_f64();
        assert!((0.99..1.01).contains(&took), "{took}");
    }
}
