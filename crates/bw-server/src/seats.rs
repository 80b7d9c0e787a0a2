//! Places for connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// As many connections more than are served are told so; further ones are closed.
const REFUSED: usize = 256;
/// As many of them of one client.
const REFUSED_OF_ONE: usize = 16;
/// When all places are taken, whoever has moved no byte for this long gives way.
const IDLE: Duration = Duration::from_secs(5);

/// Places for connections: so many, and no more than so many for one client.
///
/// So neither a single client nor connections on which nothing moves keep others out.
#[derive(Clone)]
pub(crate) struct Seats {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_of_one: usize,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Entry>,
}

struct Entry {
    client: IpAddr,
    is_served: bool,
    activity: Arc<Activity>,
}

/// A place; free again when it is dropped.
pub(crate) struct Seat {
    id: u64,
    taken: Arc<Mutex<Taken>>,
    /// True if the client is served, false if it is only told that there is no place.
    pub(crate) is_served: bool,
    pub(crate) activity: Arc<Activity>,
}

/// The activity of a connection.
pub(crate) struct Activity {
    begin: Instant,
    /// Milliseconds after the beginning at which a byte was moved last.
    last: AtomicU64,
    /// Cancelled when it has to give way.
    pub(crate) gives_way: CancellationToken,
}

impl Activity {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: AtomicU64::new(0),
            gives_way: CancellationToken::new(),
        }
    }

    /// Bytes were moved just now.
    pub(crate) fn moved(&self) {
        let millis = self.begin.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(last)
    }
}

impl Seats {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
            most_of_one,
        }
    }

    /// A place for a connection from `address`; `None` if there are too many to tell it so.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Seat> {
        let client = client(address);
        let mut taken = lock(&self.taken);
        let is_served =
            taken.has_place(self.most_of_one, Some(client)) && taken.has_place(self.most, None);
        if !is_served
            && (taken.count(false, None) >= REFUSED
                || taken.count(false, Some(client)) >= REFUSED_OF_ONE)
        {
            return None;
        }
        let (id, activity) = (taken.next, Arc::new(Activity::new()));
        taken.next += 1;
        let entry = Entry {
            client,
            is_served,
            activity: Arc::clone(&activity),
        };
        taken.seats.insert(id, entry);
        Some(Seat {
            id,
            taken: Arc::clone(&self.taken),
            is_served,
            activity,
        })
    }
}

impl Taken {
    /// The number of connections that are served, or are not; all, or those of one client.
    fn count(&self, is_served: bool, client: Option<IpAddr>) -> usize {
        let of = |entry: &&Entry| {
            entry.is_served == is_served && client.is_none_or(|client| client == entry.client)
        };
        self.seats.values().filter(of).count()
    }

    /// Returns true if one of `most` places is free. If need be, the connection that has been
    /// idle longest ends. All connections count, or those of one client.
    fn has_place(&mut self, most: usize, client: Option<IpAddr>) -> bool {
        if self.count(true, client) < most {
            return true;
        }
        let of = |entry: &Entry| client.is_none_or(|client| client == entry.client);
        let served = self.seats.iter();
        let served = served.filter(|(_, entry)| entry.is_served && of(entry));
        let idle = served.map(|(&id, entry)| (entry.activity.idle(), id)).max();
        let Some((_, id)) = idle.filter(|(idle, _)| *idle >= IDLE) else {
            return false;
        };
        if let Some(entry) = self.seats.remove(&id) {
            entry.activity.gives_way.cancel();
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.taken).seats.remove(&self.id);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address that stands for one client: its IPv4 address, or its IPv6 network of 64 bits.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn served(seat: Option<&Seat>) -> Option<bool> {
        seat.map(|seat| seat.is_served)
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_take_all_places() {
        let seats = Seats::new(4, 2);
        let mut mine: Vec<_> = (0..2).map(|_| seats.take(address(1))).collect();
        assert!(mine.iter().all(|seat| served(seat.as_ref()) == Some(true)));
        let refused: Vec<_> = (0..20).map(|_| seats.take(address(1))).collect();
        let told = refused.iter().flatten().count();
        assert_eq!(told, REFUSED_OF_ONE, "not all are told");
        assert!(refused.iter().flatten().all(|seat| !seat.is_served));
        assert_eq!(served(seats.take(address(2)).as_ref()), Some(true));
        mine.pop();
        assert_eq!(served(seats.take(address(1)).as_ref()), Some(true));

        let network: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        let _all = (seats.take(network), seats.take(same));
        assert_eq!(served(seats.take(same).as_ref()), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_idle_longest_gives_way() {
        let seats = Seats::new(3, 3);
        let all: Vec<_> = (0..3)
            .filter_map(|last| seats.take(address(last)))
            .collect();
        assert_eq!(served(seats.take(address(9)).as_ref()), Some(false));
        tokio::time::sleep(Duration::from_secs(3)).await;
        all[0].activity.moved();
        tokio::time::sleep(Duration::from_secs(3)).await;
        all[1].activity.moved();
        let new = seats.take(address(9));
        assert_eq!(served(new.as_ref()), Some(true));
        let gave_way: Vec<bool> = all
            .iter()
            .map(|seat| seat.activity.gives_way.is_cancelled())
            .collect();
        assert_eq!(gave_way, [false, false, true]);
        // The place is not free twice.
        let other = seats.take(address(8));
        assert_eq!(served(other.as_ref()), Some(false));
        drop(all);
        assert_eq!(lock(&seats.taken).count(true, None), 1);
    }
}
