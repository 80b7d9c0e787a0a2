//! Circuits through the model: stage by stage, then payload as counts.

use std::sync::Arc;
use std::time::Duration;

use bw_measure::{Fault, Flow, Order, PathError, Transport, TwoHops};
use bw_results::{FailureKind, Stage, Timings};
use tokio::time::{sleep, sleep_until};

use crate::model::{Inner, Model};
use crate::traffic::{End, Moving};
use crate::{Nature, Relay, Server};

/// Payload on its way through the model.
#[derive(Debug)]
pub struct SimFlow {
    inner: Arc<Inner>,
    /// Entry, exit and server.
    path: (usize, usize, usize),
    rtt: Duration,
    /// Bytes to move.
    order: u64,
    /// Its number, once it was asked for.
    id: Option<u64>,
}

impl Drop for SimFlow {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.inner.lock().traffic.drop_flow(id);
        }
    }
}

impl Flow for SimFlow {
    async fn begin(&mut self, timings: &mut Timings) -> Result<(), PathError> {
        if self.id.is_some() {
            return Err(misused("a flow begins once"));
        }
        sleep(self.rtt).await;
        timings.response = Some(self.rtt);
        // Payload flows in ticks, to which the measurer's slices are thus aligned.
        let tick = self.inner.lock().traffic.done;
        sleep_until(self.inner.end_of(tick)).await;
        let flow = Moving::new(self.path, self.rtt, self.order);
        self.id = Some(self.inner.lock().traffic.begin(flow));
        Ok(())
    }

    async fn ready(&mut self) -> Result<bool, PathError> {
        let id = self
            .id
            .ok_or_else(|| misused("a flow that has not begun brings nothing"))?;
        loop {
            let tick = {
                let state = self.inner.lock();
                let broken =
                    |stage, kind, fault, detail| Err(PathError::new(stage, kind, fault, detail));
                match state.traffic.waiting(id) {
                    (0, None) => state.traffic.done,
                    (0, Some(End::Complete)) => return Ok(false),
                    (0, Some(End::Closed)) => {
                        let detail = "the circuit or the stream was closed";
                        return broken(Stage::Transfer, FailureKind::Closed, Fault::Either, detail);
                    }
                    (0, Some(End::Lie)) => {
                        let detail = "other bytes than the server should send";
                        return broken(Stage::Content, FailureKind::Content, Fault::Either, detail);
                    }
                    _ => return Ok(true),
                }
            };
            sleep_until(self.inner.end_of(tick)).await;
        }
    }

    fn take(&mut self, most: u64) -> u64 {
        let id = self.id;
        id.map_or(0, |id| self.inner.lock().traffic.read(id, most))
    }

    fn ran_dry(&mut self) -> bool {
        self.id
            .is_none_or(|id| self.inner.lock().traffic.ran_dry(id))
    }
}

/// A caller that does not keep to the order of things.
fn misused(detail: &str) -> PathError {
    PathError::new(Stage::Http, FailureKind::Local, Fault::Scanner, detail)
}

/// The way there and back between two places, through the middle of the Internet.
fn round_trip(a: Duration, b: Duration) -> Duration {
    (a + b) * 2
}

/// A circuit that is being built.
struct Building<'a> {
    inner: &'a Inner,
    entry: &'a Relay,
    exit: &'a Relay,
    /// Thrown once for the circuit.
    die: f64,
}

impl Building<'_> {
    fn is_there(&self, relay: &Relay) -> bool {
        relay.is_there(self.inner.elapsed())
    }

    fn to_entry(&self) -> Duration {
        round_trip(self.inner.options.delay, self.entry.delay)
    }

    fn to_exit(&self) -> Duration {
        self.to_entry() + round_trip(self.entry.delay, self.exit.delay)
    }

    /// A stage that takes `time` if `relay` plays its part in it, and no more
    /// than `limit`.
    async fn stage(
        &self,
        (stage, fault): (Stage, Fault),
        relay: &Relay,
        (time, limit): (Duration, Duration),
    ) -> Result<Option<Duration>, PathError> {
        let error = |kind, detail: &str| Err(PathError::new(stage, kind, fault, detail));
        let late = match relay.nature {
            Nature::AnswersLate { by } => by,
            _ => Duration::ZERO,
        };
        let time = time + late;
        let silent = relay.nature == Nature::Silent || !self.is_there(relay);
        if silent || time > limit {
            sleep(limit).await;
            let detail = format!("no answer for {} s", limit.as_secs_f64());
            return error(FailureKind::Timeout, &detail);
        }
        sleep(time).await;
        match relay.nature {
            Nature::Refuses => error(FailureKind::Refused, "the connection was refused"),
            Nature::Flaky { share } if stage >= Stage::Create && self.die < share => {
                error(FailureKind::Closed, "the circuit was destroyed")
            }
            _ => Ok(Some(time)),
        }
    }

    async fn circuit(&self, timings: &mut Timings) -> Result<(), PathError> {
        let limits = &self.inner.options.timeouts;
        let hop = self.to_entry();
        // TCP and TLS, one round trip each.
        let channel = (Stage::Channel, Fault::Entry);
        let times = (hop * 2, limits.channel);
        timings.channel = self.stage(channel, self.entry, times).await?;
        let create = (Stage::Create, Fault::Entry);
        timings.create = self.stage(create, self.entry, (hop, limits.create)).await?;
        // The entry connects to the exit, then asks it.
        let connect = round_trip(self.entry.delay, self.exit.delay) * 2;
        let extend = (Stage::Extend, Fault::Either);
        let times = (self.to_exit() + connect, limits.extend);
        timings.extend = self.stage(extend, self.exit, times).await?;
        Ok(())
    }

    async fn stream(&self, server: Option<&Server>) -> Result<Duration, PathError> {
        let limit = self.inner.options.timeouts.begin;
        let refused = |detail: &str| {
            let (stage, kind) = (Stage::Begin, FailureKind::Refused);
            Err(PathError::new(stage, kind, Fault::Destination, detail))
        };
        let Some(server) = server else {
            return refused("there is no such server");
        };
        let time = self.to_exit() + round_trip(self.exit.delay, server.delay);
        let outage = server.outage(self.inner.elapsed());
        if outage.is_some_and(|outage| outage.silent) {
            sleep(limit).await;
            let (stage, kind) = (Stage::Begin, FailureKind::Timeout);
            let detail = format!("no answer for {} s", limit.as_secs_f64());
            return Err(PathError::new(stage, kind, Fault::Either, detail));
        }
        sleep(time).await;
        if outage.is_some() || self.exit.nature == Nature::AccusesServers {
            return refused("the server refused the connection");
        }
        Ok(time)
    }
}

impl Transport for Model {
    type Flow = SimFlow;

    async fn open(
        &self,
        path: TwoHops,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> Result<SimFlow, PathError> {
        let inner = &self.inner;
        let find = |relay, fault| {
            let (stage, kind) = (Stage::Path, FailureKind::UnknownRelay);
            let unknown = || PathError::new(stage, kind, fault, "there is no such relay");
            inner.index(&relay).ok_or_else(unknown)
        };
        let entry = find(path.entry, Fault::Entry)?;
        let exit = find(path.exit, Fault::Exit)?;
        let building = Building {
            inner,
            entry: &inner.relays[entry],
            exit: &inner.relays[exit],
            die: inner.begin_circuit(),
        };
        building.circuit(timings).await?;
        let mut servers = inner.servers.iter();
        let server = servers.position(|server| server.destination == *order.destination);
        let stream = building.stream(server.map(|index| &inner.servers[index]));
        let rtt = stream.await?;
        timings.begin = Some(rtt);
        if order.destination.is_tls() {
            sleep(rtt).await;
            timings.tls = Some(rtt);
        }
        Ok(SimFlow {
            inner: Arc::clone(inner),
            path: (entry, exit, server.unwrap_or_default()),
            rtt,
            order: order.bytes,
            id: None,
        })
    }
}
