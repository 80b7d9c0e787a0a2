//! Places for connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_protocol::Nonce;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ConnectionLimits;

/// So many connections may be at the door: shake hands, send a request, or read that there is no
/// place.
const AT_DOOR: usize = 1024;
/// So many of them of one client; several scanners may come through one exit.
const AT_DOOR_OF_ONE: usize = 64;
/// When all places are taken, whoever has moved no byte for this long gives way; at the door,
/// whoever is there for this long.
const IDLE: Duration = Duration::from_secs(5);
/// When all places are taken, a request that lasts for longer gives way; scanners take 10 s.
const LONGEST: Duration = Duration::from_secs(120);
/// The number of nonces remembered, so that a proof is good once: 11 minutes at 100 requests per
/// second. Each takes some 40 bytes.
const REMEMBERED: usize = 1 << 16;

/// Places for connections, some of them for those who prove the key.
///
/// So neither a single client, nor connections on which little moves, nor a crowd without the
/// key keeps others out.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    limits: ConnectionLimits,
}

#[derive(Default)]
struct Taken {
    next: u64,
    connections: BTreeMap<u64, Connection>,
    used: BTreeSet<[u8; 16]>,
    used_in_order: VecDeque<[u8; 16]>,
}

struct Connection {
    client: IpAddr,
    stage: Stage,
    activity: Arc<Activity>,
}

/// The stage of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked yet, or what was asked was refused.
    Door,
    /// It has a place.
    Served,
    /// It has a place, and proved the key.
    Keyed,
}

/// A connection, at the door at first; its place is free again when it is dropped.
pub(crate) struct Place {
    id: u64,
    places: Places,
    pub(crate) activity: Arc<Activity>,
}

/// The activity of a connection.
pub(crate) struct Activity {
    begin: Instant,
    /// Milliseconds after the beginning at which a byte was moved last.
    moved: AtomicU64,
    /// The same of the beginning of the latest request.
    asked: AtomicU64,
    /// Cancelled when it has to give way.
    pub(crate) gives_way: CancellationToken,
}

impl Activity {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            moved: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            gives_way: CancellationToken::new(),
        }
    }

    /// Bytes were moved just now.
    pub(crate) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    fn asked(&self) {
        self.asked.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, millis: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(millis.load(Ordering::Relaxed)))
    }
}

impl Connection {
    /// For how long it deserves to give way; `None` if it does not.
    fn surplus(&self) -> Option<Duration> {
        let activity = &self.activity;
        if self.stage == Stage::Door {
            return activity.begin.elapsed().checked_sub(IDLE);
        }
        let idle = activity.since(&activity.moved).checked_sub(IDLE);
        let long = activity.since(&activity.asked).checked_sub(LONGEST);
        idle.max(long)
    }
}

impl Places {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self {
            taken: Arc::default(),
            limits,
        }
    }

    /// Lets a connection from `address` stand at the door; `None` if too many are there.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let client = client(address);
        let mut taken = self.lock();
        let at_door = |one: &Connection| one.stage == Stage::Door;
        let mine = |one: &Connection| at_door(one) && one.client == client;
        if !(taken.has_room(AT_DOOR_OF_ONE, mine, mine)
            && taken.has_room(AT_DOOR, at_door, at_door))
        {
            return None;
        }
        let (id, activity) = (taken.next, Arc::new(Activity::new()));
        taken.next += 1;
        let connection = Connection {
            client,
            stage: Stage::Door,
            activity: Arc::clone(&activity),
        };
        taken.connections.insert(id, connection);
        Some(Place {
            id,
            places: self.clone(),
            activity,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns true if there is a place for a request, which may have proved the key by `proven`.
    /// A nonce is good once.
    pub(crate) fn serve(&self, proven: Option<Nonce>) -> bool {
        let (limits, mut taken) = (self.places.limits, self.places.lock());
        let keyed = proven.is_some_and(|nonce| taken.is_new(nonce));
        let Some((client, stage)) = taken.stage(self.id) else {
            return false; // It has to give way.
        };
        let is_served = match (stage, keyed) {
            (Stage::Keyed, _) | (Stage::Served, false) => true,
            (_, true) => {
                let any = |one: &Connection| one.stage != Stage::Door;
                let unkeyed = |one: &Connection| one.stage == Stage::Served;
                stage == Stage::Served
                    || taken.has_room(limits.all, any, unkeyed)
                    || taken.has_room(limits.all, any, any)
            }
            (Stage::Door, false) => {
                let any = |one: &Connection| one.stage != Stage::Door;
                let unkeyed = |one: &Connection| one.stage == Stage::Served;
                let mine = |one: &Connection| unkeyed(one) && one.client == client;
                let open = limits.all.saturating_sub(limits.reserved);
                taken.has_room(limits.of_one_client, mine, mine)
                    && taken.has_room(open, unkeyed, unkeyed)
                    && taken.has_room(limits.all, any, unkeyed)
            }
        };
        if is_served && let Some(one) = taken.connections.get_mut(&self.id) {
            let keyed = keyed || stage == Stage::Keyed;
            one.stage = if keyed { Stage::Keyed } else { Stage::Served };
            one.activity.asked();
        }
        is_served
    }
}

impl Taken {
    fn stage(&self, id: u64) -> Option<(IpAddr, Stage)> {
        let one = self.connections.get(&id)?;
        Some((one.client, one.stage))
    }

    /// Returns true if there are fewer than `most` connections that `count`. If need be, one of
    /// those that `may_end` gives way: the one that deserves it most.
    fn has_room(
        &mut self,
        most: usize,
        count: impl Fn(&Connection) -> bool,
        may_end: impl Fn(&Connection) -> bool,
    ) -> bool {
        if self.connections.values().filter(|one| count(one)).count() < most {
            return true;
        }
        let candidates = self.connections.iter();
        let candidates = candidates.filter(|(_, one)| count(one) && may_end(one));
        let surplus = candidates.filter_map(|(&id, one)| Some((one.surplus()?, id)));
        let Some((_, id)) = surplus.max() else {
            return false;
        };
        if let Some(one) = self.connections.remove(&id) {
            one.activity.gives_way.cancel();
        }
        true
    }

    /// Returns true if this nonce was not used lately, and remembers it.
    fn is_new(&mut self, nonce: Nonce) -> bool {
        let bytes = *nonce.as_bytes();
        if !self.used.insert(bytes) {
            return false;
        }
        self.used_in_order.push_back(bytes);
        if self.used_in_order.len() > REMEMBERED
            && let Some(oldest) = self.used_in_order.pop_front()
        {
            self.used.remove(&oldest);
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.id);
    }
}

/// The address that stands for one client: its IPv4 address, or its IPv6 network of 64 bits.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        IpAddr::V4(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn places(all: usize, of_one_client: usize, reserved: usize) -> Places {
        Places::new(ConnectionLimits {
            all,
            of_one_client,
            reserved,
        })
    }

    /// A connection that asks at once; and whether it is served.
    fn ask(places: &Places, from: u8, proven: Option<u8>) -> (Place, bool) {
        let place = places.enter(address(from)).unwrap();
        let served = place.serve(proven.map(|byte| Nonce::from_bytes([byte; 16])));
        (place, served)
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_take_all_places() {
        let places = places(4, 2, 0);
        let mut mine: Vec<_> = (0..2).map(|_| ask(&places, 1, None)).collect();
        assert!(mine.iter().all(|(_, served)| *served));
        let refused: Vec<_> = (0..80).filter_map(|_| places.enter(address(1))).collect();
        assert_eq!(refused.len(), AT_DOOR_OF_ONE, "not all are told");
        assert!(refused.iter().all(|place| !place.serve(None)));
        drop(refused);
        let (_other, served) = ask(&places, 2, None);
        assert!(served);
        mine.pop();
        assert!(ask(&places, 1, None).1);

        let network: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        assert_eq!(client(network), client(same));
        assert_ne!(client(network), client("2001:db8:0:1::1".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_idle_longest_gives_way() {
        let places = places(3, 3, 0);
        let all: Vec<_> = (0..3).map(|last| ask(&places, last, None).0).collect();
        assert!(!ask(&places, 9, None).1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        all[0].activity.moved();
        tokio::time::sleep(Duration::from_secs(3)).await;
        all[1].activity.moved();
        let (_new, served) = ask(&places, 9, None);
        assert!(served);
        let gave_way = |place: &Place| place.activity.gives_way.is_cancelled();
        assert_eq!([0, 1, 2].map(|n| gave_way(&all[n])), [false, false, true]);
        // The place is not free twice, and who gave way asks for nothing more.
        assert!(!ask(&places, 8, None).1);
        assert!(!all[2].serve(None));
        drop(all);
        assert_eq!(places.lock().connections.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_trickles_on_and_on_gives_way_too() {
        let places = places(1, 1, 0);
        let (slow, _) = ask(&places, 1, None);
        for second in 0..120 {
            let served = ask(&places, 2, None).1;
            assert!(!served, "after {second} s");
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.activity.moved();
        }
        assert!(ask(&places, 2, None).1);
        assert!(slow.activity.gives_way.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_leaves_places_to_those_with_the_key() {
        let places = places(4, 4, 2);
        let crowd: Vec<_> = (0..4).map(|last| ask(&places, last, None)).collect();
        let served = crowd.iter().filter(|(_, served)| *served).count();
        assert_eq!(served, 2);
        let (_first, served) = ask(&places, 9, Some(1));
        assert!(served);
        let (_replayed, served) = ask(&places, 8, Some(1));
        assert!(!served, "a proof is good once");
        let (_second, served) = ask(&places, 9, Some(2));
        assert!(served);
        assert!(!ask(&places, 9, Some(3)).1, "four are four");
        // One of the crowd moves nothing.
        tokio::time::sleep(IDLE).await;
        let (_third, served) = ask(&places, 9, Some(4));
        assert!(served);
        let ended = |(place, _): &(Place, bool)| place.activity.gives_way.is_cancelled();
        assert_eq!(crowd.iter().filter(|one| ended(one)).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_leaves_the_door_to_others() {
        let places = places(1, 1, 0);
        let clients = (0..40).flat_map(|last| [last; 30]);
        let silent: Vec<_> = clients
            .filter_map(|last| places.enter(address(last)))
            .collect();
        assert_eq!(silent.len(), AT_DOOR);
        assert!(places.enter(address(99)).is_none());
        tokio::time::sleep(IDLE).await;
        // Bytes of a head that does not end are no excuse.
        for place in &silent {
            place.activity.moved();
        }
        let place = places.enter(address(99)).unwrap();
        assert!(place.serve(None));
    }

    #[test]
    fn few_nonces_are_remembered() {
        let mut taken = Taken::default();
        for number in 0..REMEMBERED as u128 + 2 {
            assert!(taken.is_new(Nonce::from_bytes(number.to_be_bytes())));
        }
        assert_eq!(taken.used.len(), REMEMBERED);
        assert_eq!(taken.used_in_order.len(), REMEMBERED);
    }
}
