//! Examples and notes that help and manual pages end with.

pub(crate) const BWSCAN: &str = "\
Examples:
  bwscan scan --continuous --destination https://bw.example/1GiB
  bwscan generate
  bwscan explain RELAY

Exit codes:
  0    done
  1    done, but the result is empty or not good enough
  2    wrong usage or configuration
  3    Tor network unreachable
  4    no destination works
  5    a file cannot be read or written
  6    the new bandwidth file is not plausible; the old one stays
  130  interrupted";

pub(crate) const SCAN: &str = "\
Examples:
  bwscan scan --destination https://bw.example/1GiB
  bwscan scan --continuous --interval 6h --link-rate 200Mbit -d https://bw.example/1GiB
  bwscan scan --relay 68A483E0 -d https://bw.example/1GiB
  bwscan scan --dry-run -d https://bw.example/1GiB";

pub(crate) const RUN: &str = "\
The tables [scan] and [generate] of the configuration file tell what it measures
and writes. SIGHUP reads the file again; SIGTERM ends it within five seconds.

Examples:
  bwscan run --config /etc/bwscan/bwscan.toml
  bwscan run --generate-at :35 --metrics 127.0.0.1:9052";

pub(crate) const WATCH: &str = "\
It attaches to the scan or run that uses the same data directory, and waits for one if
there is none. Leaving it does not stop the scan. ? lists the keys.

Examples:
  bwscan watch
  bwscan watch --data-dir /var/lib/bwscan
  bwscan watch --json | jq -c 'select(.event == \"failed\")'";

pub(crate) const AGGREGATE: &str = "\
Examples:
  bwscan aggregate -n 5
  bwscan aggregate -n 5 --format csv
  bwscan aggregate --store part1.sqlite --store part2.sqlite";

pub(crate) const GENERATE: &str = "\
Examples:
  bwscan generate
  bwscan generate --output /srv/v3bw --dirauth-nickname example --scanner-country DE
  bwscan generate --scale torflow-pid --param bwauthkp=5000
  bwscan generate --compat sbws=2.2.0";

pub(crate) const EXPLAIN: &str = "\
Examples:
  bwscan explain 68A483E0
  bwscan explain example
  bwscan explain 192.0.2.7 --scale torflow-pid --json";

pub(crate) const REPORT: &str = "\
Examples:
  bwscan report -o /srv/report
  bwscan report -o report --file ours.v3bw --file theirs.v3bw";

pub(crate) const WEB: &str = "\
It only reads. /api/openapi.json describes the JSON.

Examples:
  bwscan web
  bwscan web --data-dir /var/lib/bwscan --listen 127.0.0.1:9053";

pub(crate) const EXPORT: &str = "\
Examples:
  bwscan export -o results.jsonl
  bwscan export --format sbws -o ~/.sbws/datadir";

pub(crate) const IMPORT: &str = "\
Examples:
  bwscan import jsonl part2.jsonl part3.jsonl
  bwscan import sbws /var/lib/sbws --sbws-config /etc/sbws/sbws.ini \
    --write-config bwscan.toml";

pub(crate) const MIGRATE: &str = "\
sbws may run meanwhile; nothing of it is changed. Results are added once, however often
the command is run. Options that the configuration file has already stay as they are.

Examples:
  bwscan migrate-from-sbws --dry-run
  bwscan migrate-from-sbws
  bwscan migrate-from-sbws --sbws-config /home/scan/.sbws.ini";

pub(crate) const SERVE: &str = "\
Examples:
  bwscan serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem
  bwscan serve --listen 192.0.2.1:8443 --self-signed 192.0.2.1 --write-ca ca.pem";

pub(crate) const CONFIG: &str = "\
Examples:
  bwscan config show scan --interval 2h
  bwscan config show --json generate";

pub(crate) const TESTNET: &str = "\
Examples:
  bwscan testnet up
  bwscan testnet up /tmp/net --relays 20 --exits 8 --seed 7
  bwscan testnet status
  bwscan testnet down";

pub(crate) const DEMO: &str = "\
Examples:
  bwscan demo
  bwscan demo --https --seed 7 --output /tmp/demo";

pub(crate) const SIMULATE: &str = "\
Examples:
  bwscan simulate --utilisation 0.3,0.5,0.7 --plot plots
  bwscan simulate --attack lie=1000,favour,helpers=0.2 --scale torflow,capacity
  bwscan simulate --relays 8000 --format csv";

pub(crate) const MAN: &str = "\
Examples:
  bwscan man | man -l -
  bwscan man /usr/local/share/man";

/// A configuration file, for bwscan.toml(5).
pub(crate) const CONFIG_FILE: &str = "\
data_dir = \"/var/lib/bwscan\"

[scan]
destination = [\"https://a.example/1GiB\", \"https://b.example/1GiB\"]
continuous = true
interval = \"6h\"
link_rate = \"200Mbit\"

[generate]
output = \"/srv/v3bw\"
scanner_country = \"DE\"

# bwscan testnet up
[testnet.up]
relays = 20
";
