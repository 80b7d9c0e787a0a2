# What people run; `.ci/run` runs `make check test`.
.PHONY: demo test fresh check api bench bench-aggregate bench-scan bench-server bench-report browser figures pictures deb alerts try-deb try-machine dist chaos clean

# The profile of packages; dev is quick to build.
PROFILE = release

# The whole job on a private Tor network; results in ./demo.
demo:
	scripts/setup.sh demo
	@echo "Building; the first time takes some 20 minutes on two cores."
	cargo build --locked -p bw-cli
	cargo run --locked --quiet -p bw-cli -- demo --output demo

# All tests, those on private Tor networks included.
test:
	scripts/setup.sh test
	cargo test --locked --workspace --all-features --doc
	cargo nextest run --locked --workspace --all-features

# Both of them on a minimal Debian in a folder; needs root and debootstrap.
fresh:
	scripts/fresh_machine.sh

# What must hold beside the tests.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --all-features --no-deps
	scripts/api.py --check
	cargo package --locked --workspace --no-verify --allow-dirty --quiet
	scripts/crates.py
	scripts/foreign_types.py
	scripts/oldest_rust.py
	scripts/prose.py
	scripts/deny.sh

# The lists of public items in docs/api, which `check` compares.
api:
	cargo doc --locked --workspace --all-features --no-deps
	scripts/api.py

# Figures, not verdicts: ratios against a peer in the same run.
bench:
	scripts/setup.sh ci
	mkdir -p target/bench-files
	cargo bench --locked -p bw-file --all-features --bench read
	cargo bench --locked -p bw-file --all-features --bench read -- \
		--write-files "$(CURDIR)/target/bench-files"
	/usr/bin/python3 crates/bw-file/benches/against_stem.py target/bench-files/*.v3bw

# Import and generate against sbws, some five minutes; then with ten times the relays.
bench-aggregate:
	scripts/setup.sh ci
	cargo bench --locked -p bw-sbws --bench worker --no-run
	worker=$$(ls -t target/release/deps/worker-* | grep -v '\.d$$' | head -n 1) && \
	/usr/bin/python3 crates/bw-sbws/benches/against_sbws.py $$worker && \
	/usr/bin/python3 crates/bw-sbws/benches/against_sbws.py $$worker --growth --times 3

# Rounds of bwscan over private networks with known capacities, some also of sbws, two hours;
# with BENCH=--all every combination of link, distance, limit, burst and load.
bench-scan:
	scripts/setup.sh bench
	cargo build --locked --release -p bw-cli
	/usr/bin/python3 scripts/bench_scan.py --bwscan "$(CURDIR)/target/release/bwscan" $(BENCH)

# The report in a real browser, and `watch` in tmux at three sizes, by the results of `make demo`;
# screenshots in target/browser, captures in target/watch. Needs npm.
browser:
	scripts/setup.sh browser
	cargo build --locked --workspace --all-features --bin bwscan --example simulated
	cd scripts/browser && npm ci --no-audit --no-fund
	node scripts/browser/test.mjs "$(CURDIR)/target/debug/bwscan" \
		"$(CURDIR)/target/debug/examples/simulated" demo target/browser
	scripts/watch_sizes.py target/debug/bwscan target/debug/examples/simulated target/watch

# The pictures of the README, after `make demo browser`.
pictures:
	node scripts/browser/pictures.mjs demo/report target/watch target/browser docs/pictures

# Throughput of `bwscan serve` beside lighttpd and Caddy, some seven minutes.
bench-server:
	scripts/setup.sh bench
	cargo build --locked --release -p bw-cli
	/usr/bin/python3 scripts/bench_server.py --bwscan "$(CURDIR)/target/release/bwscan"

# Time, memory and sizes of `report` and `web` over 8,000 relays and 28 days; needs npm.
bench-report:
	scripts/setup.sh browser
	cargo build --locked --release --workspace --all-features --bin bwscan --example load --example large_store
	cd scripts/browser && npm ci --no-audit --no-fund
	scripts/bench_report.py --target target/release

# The figures of docs/scaling.md, by simulation; into target/figures.
figures:
	cargo build --locked --release -p bw-cli
	scripts/figures.sh target/figures

# A Debian package in target/debian; needs cargo-deb.
deb:
	cargo build --locked --profile $(PROFILE) -p bw-cli
	scripts/package.sh deb $(PROFILE)

# That package installed, upgraded, removed and purged in a minimal Debian; needs root,
# debootstrap and lintian.
try-deb:
	scripts/try_package.sh

# docs/operations.md followed on a Debian that boots in a folder, from sbws to the removal, some
# ten minutes; needs root, debootstrap, tor and systemd-nspawn.
try-machine:
	cargo build --locked -p bw-cli
	scripts/try_machine.py

# A tarball with checksums in target/dist.
dist:
	cargo build --locked --profile $(PROFILE) -p bw-cli
	scripts/package.sh dist $(PROFILE)

# Prometheus's own tool tests alerts and dashboard.
alerts:
	scripts/monitoring.py

# `bwscan run` on a private network while things break, some two minutes; with
# CHAOS="--minutes 300" a soak.
chaos:
	scripts/setup.sh chaos
	cargo build --locked -p bw-cli
	scripts/chaos.py $(CHAOS)

clean:
	cargo clean
	rm -rf demo
