//! The division of a resource of which several want more than there is.

/// Something that flows through some resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// The most that it wants.
    pub(crate) cap: f64,
    /// The number of its shares in what is contended for.
    pub(crate) weight: f64,
    /// The resources that it takes, by index; `NONE` for fewer.
    pub(crate) takes: [u32; 4],
}

/// No resource.
pub(crate) const NONE: u32 = u32::MAX;

/// The limit of a demand: itself, or the resource of this index.
pub(crate) type Limit = Option<u32>;

/// Weighted max-min fair sharing (Bertsekas and Gallager, Data Networks,
/// §6.5.2): what nobody can be given more of without taking from someone who
/// has no more per weight. Reuses its memory from call to call.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    left: Vec<f64>,
    weights: Vec<f64>,
    level: Vec<f64>,
    waiting: Vec<u32>,
    bound: Vec<u32>,
    open: Vec<usize>,
    /// The rate of each demand and what limits it, after [`solve`](Self::solve).
    pub(crate) rates: Vec<(f64, Limit)>,
}

impl Sharing {
    /// Shares `capacities` among `demands`.
    pub(crate) fn solve(&mut self, demands: &[Demand], capacities: &[f64]) {
        self.rates.clear();
        self.rates.resize(demands.len(), (0.0, None));
        self.left.clear();
        self.left.extend_from_slice(capacities);
        self.open.clear();
        self.open.extend(0..demands.len());
        while !self.open.is_empty() {
            self.levels(demands, capacities.len());
            let before = self.open.len();
            self.give_what_is_wanted(demands);
            if self.open.len() == before {
                self.divide_bottlenecks(demands);
            }
        }
    }

    /// The rate that each resource can give per weight of those that still wait for it.
    fn levels(&mut self, demands: &[Demand], resources: usize) {
        for list in [&mut self.waiting, &mut self.bound] {
            list.clear();
            list.resize(resources, 0);
        }
        self.weights.clear();
        self.weights.resize(resources, 0.0);
        for &index in &self.open {
            for resource in taken(&demands[index]) {
                self.weights[resource] += demands[index].weight;
                self.waiting[resource] += 1;
            }
        }
        self.level.clear();
        let pairs = self.left.iter().zip(&self.weights);
        self.level
            .extend(pairs.map(|(left, weight)| left.max(0.0) / weight.max(1e-12)));
    }

    /// The resource with the lowest level among those that `demand` takes.
    fn tightest(&self, demand: &Demand) -> Option<(usize, f64)> {
        taken(demand)
            .map(|resource| (resource, self.level[resource]))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn settle(&mut self, index: usize, demand: &Demand, rate: f64, limit: Limit) {
        self.rates[index] = (rate, limit);
        for resource in taken(demand) {
            self.left[resource] -= rate;
        }
    }

    /// Those that want no more than their share get it: shares only grow when
    /// someone takes less.
    fn give_what_is_wanted(&mut self, demands: &[Demand]) {
        let open = std::mem::take(&mut self.open);
        let mut rest = Vec::with_capacity(open.len());
        for index in open {
            let demand = &demands[index];
            match self.tightest(demand) {
                Some((_, level)) if demand.cap > level * demand.weight => rest.push(index),
                _ => self.settle(index, demand, demand.cap, None),
            }
        }
        self.open = rest;
    }

    /// Resources that are the tightest for all that wait for them are divided.
    fn divide_bottlenecks(&mut self, demands: &[Demand]) {
        for &index in &self.open {
            if let Some((_, lowest)) = self.tightest(&demands[index]) {
                for resource in taken(&demands[index]) {
                    let ties = self.level[resource] <= lowest * (1.0 + 1e-12);
                    self.bound[resource] += u32::from(ties);
                }
            }
        }
        let open = std::mem::take(&mut self.open);
        let mut rest = Vec::with_capacity(open.len());
        for index in open {
            let demand = &demands[index];
            let bottleneck = taken(demand)
                .filter(|&resource| self.bound[resource] == self.waiting[resource])
                .min_by(|&a, &b| self.level[a].total_cmp(&self.level[b]));
            match bottleneck {
                Some(resource) => {
                    let rate = self.level[resource] * demand.weight;
                    self.settle(index, demand, rate, Some(resource as u32));
                }
                None => rest.push(index),
            }
        }
        self.open = rest;
    }
}

fn taken(demand: &Demand) -> impl Iterator<Item = usize> + use<> {
    let resources = demand.takes.into_iter();
    resources
        .filter(|&resource| resource != NONE)
        .map(|resource| resource as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn solve(demands: &[Demand], capacities: &[f64]) -> Vec<(f64, Limit)> {
        let mut sharing = Sharing::default();
        sharing.solve(demands, capacities);
        sharing.rates
    }

    fn demand(cap: f64, takes: &[u32]) -> Demand {
        let mut all = [NONE; 4];
        all[..takes.len()].copy_from_slice(takes);
        Demand {
            cap,
            weight: 1.0,
            takes: all,
        }
    }

    #[test]
    fn who_wants_less_leaves_more_to_the_others() {
        let demands = [demand(1.0, &[0]), demand(9.0, &[0]), demand(9.0, &[0, 1])];
        let rates = solve(&demands, &[9.0, 3.0]);
        assert_eq!(rates, [(1.0, None), (5.0, Some(0)), (3.0, Some(1))]);
    }

    #[test]
    fn weights_count() {
        let mut clients = demand(8.0, &[0]);
        clients.weight = 3.0;
        let rates = solve(&[demand(8.0, &[0]), clients], &[8.0]);
        assert_eq!(rates, [(2.0, Some(0)), (6.0, Some(0))]);
    }

    proptest! {
        /// The definition of max-min fairness: nothing is overdrawn, and whoever
        /// gets less than it wants passes a full resource on which nobody has
        /// more per weight.
        #[test]
        fn it_is_max_min_fair(
            demands in prop::collection::vec(
                (0.0..20.0_f64, 0.5..4.0_f64, prop::collection::vec(0..6_u32, 1..4)), 1..40),
            capacities in prop::collection::vec(0.0..30.0_f64, 6),
        ) {
            let demands: Vec<Demand> = demands
                .into_iter()
                .map(|(cap, weight, mut takes)| {
                    takes.sort_unstable();
                    takes.dedup();
                    Demand { weight, ..demand(cap, &takes) }
                })
                .collect();
            let rates = solve(&demands, &capacities);
            let mut used = [0.0; 6];
            for (one, (rate, _)) in demands.iter().zip(&rates) {
                prop_assert!(*rate <= one.cap);
                taken(one).for_each(|resource| used[resource] += rate);
            }
            for (used, capacity) in used.iter().zip(&capacities) {
                prop_assert!(*used <= capacity + 1e-6);
            }
            for (one, (rate, limit)) in demands.iter().zip(&rates) {
                if let Some(resource) = limit {
                    let resource = *resource as usize;
                    prop_assert!(used[resource] >= capacities[resource] - 1e-6);
                    for (other, (theirs, _)) in demands.iter().zip(&rates) {
                        if taken(other).any(|taken| taken == resource) {
                            prop_assert!(theirs / other.weight <= rate / one.weight + 1e-6);
                        }
                    }
                } else {
                    prop_assert!((rate - one.cap).abs() < 1e-6);
                }
            }
        }
    }
}
