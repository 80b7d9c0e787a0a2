#!/usr/bin/env python3
"""Scans of private Tor networks with known capacities, judged against the truth.

A cell is a network and a way to scan it: the link that bwscan may use, the distance of the relays
(a delay, one way), what limits them (their line, RelayBandwidthRate, or either), their burst, and
clients that take a part of the capacity meanwhile. Each network is brought up once for all its cells;
--rounds rounds of bwscan scan it for each, and sbws once for two networks, against the
same lighttpd (keep-alive 120 s).

For each round: the time from the first attempt to the last, bytes received (of sbws, as its server sent
them), relays with a rate and those with no more than a lower bound (censored), failed attempts,
measurements that were made again, the part of the slices that the scanner's own link throttled; and
of the relays with a rate, ratio = measured / true: sigma, the standard deviation of ln(ratio / median ratio);
NWE, half the sum of |share measured - share true|; the worst relay's ln(ratio / median ratio).
After several rounds of a cell, "together" has the mean of each relay's rates, and the weights of all rounds.
Bytes and time are compared with those of an idle 60 MB/s link on the same network, and the time with
the bound 1.35 x those bytes / link + 5 s ("!" where it is missed).

Needs tor, lighttpd, and sbws for the comparison (scripts/setup.sh bench installs them).
"""
import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
WIDE = "60MB"
DISTANT = "10ms..60ms"


@dataclasses.dataclass(frozen=True)
class Network:
    delay: str = "0"
    limit: str = "line"
    burst: str = "1"
    observed: str = "true"

    def __str__(self):
        where = f"{self.delay} away" if self.delay != "0" else "no delay"
        history = "" if self.observed == "true" else ", no observed bandwidth"
        return f"{where}, limited by {self.limit}, burst {self.burst}{history}"


@dataclasses.dataclass(frozen=True)
class Cell:
    network: Network
    link: str = WIDE
    load: float = 0


def cell(text):
    """link=5MB,delay=10ms..60ms,limit=line,burst=1,load=0,observed=true: any part may be missing."""
    fields = dict(part.split("=", 1) for part in text.split(","))
    link, load = fields.pop("link", WIDE), float(fields.pop("load", 0))
    return Cell(Network(**fields), link, load)


def some_cells():
    """The hard ones first."""
    hard = Network(DISTANT, "line")
    yield from (Cell(hard, link) for link in (WIDE, "5MB", "12.5MB", "2MB"))
    yield from (Cell(hard, link, 0.5) for link in (WIDE, "12.5MB"))
    mixed = Network(DISTANT, "mixed")
    yield from (Cell(mixed, link) for link in (WIDE, "5MB", "12.5MB"))
    near = Network("0", "relay")
    yield from (Cell(near, link) for link in (WIDE, "5MB", "12.5MB"))
    bursting = Network(DISTANT, "relay", "4")
    yield from (Cell(bursting, link) for link in (WIDE, "5MB"))
    new = Network(DISTANT, "line", observed="none")
    yield from (Cell(new, link) for link in (WIDE, "12.5MB"))


def all_cells():
    networks = [
        Network(delay, limit, burst)
        for delay, limit, burst in itertools.product(
            (DISTANT, "0"), ("line", "relay", "mixed"), ("1", "4")
        )
        if (limit, burst) != ("line", "4")  # a line has no burst
    ]
    networks.append(Network(DISTANT, "line", observed="none"))
    for network, load in itertools.product(networks, (0, 0.5)):
        yield from (Cell(network, link, load) for link in (WIDE, "2MB", "5MB", "12.5MB"))


def size(text):
    number = text.rstrip("MkB")
    return float(number) * {"MB": 1e6, "kB": 1e3, "B": 1, "": 1}[text[len(number) :]]


class Usage(threading.Thread):
    """Watches CPU seconds and peak memory of a process and its descendants."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.cpu, self.over = pid, 0, {}, threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            self.look()

    def look(self):
        parents, memory = {}, {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            pid = int(entry.name)
            parents[pid] = int(fields[1])
            memory[pid] = int(fields[21]) * PAGE, (int(fields[11]) + int(fields[12])) / TICK
        family, count = {self.pid}, 0
        while len(family) != count:
            count = len(family)
            family |= {pid for pid, parent in parents.items() if parent in family}
        self.peak = max(self.peak, sum(memory[pid][0] for pid in family if pid in memory))
        self.cpu.update({pid: memory[pid][1] for pid in family if pid in memory})

    def finish(self):
        self.over.set()
        self.join()
        return sum(self.cpu.values()), self.peak


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """lighttpd with one sparse file of a gibibyte; counts what it sends."""

    def __init__(self, place):
        self.port, self.log, self.counted = free_port(), place / "access.log", 0
        (place / "www").mkdir(parents=True)
        with open(place / "www" / "1GiB", "wb") as file:
            file.truncate(1 << 30)
        config = place / "lighttpd.conf"
        config.write_text(
            f"""server.bind = "127.0.0.1"
server.port = {self.port}
server.document-root = "{place / 'www'}"
server.modules = ("mod_accesslog")
server.max-keep-alive-idle = 120
server.max-keep-alive-requests = 100000
accesslog.filename = "{self.log}"
accesslog.format = "%O"
mimetype.assign = ("" => "application/octet-stream")
"""
        )
        program = shutil.which("lighttpd", path=os.environ["PATH"] + ":/usr/sbin")
        if not program:
            sys.exit("no lighttpd; scripts/setup.sh bench installs it")
        self.process = subprocess.Popen(
            [program, "-D", "-f", str(config)], stderr=subprocess.DEVNULL
        )
        time.sleep(0.5)

    def url(self):
        return f"http://127.0.0.1:{self.port}/1GiB"

    def sent(self):
        """Bytes sent since it was asked last; its log is written with delay."""
        self.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        lines = self.log.read_text().split() if self.log.exists() else []
        total = sum(int(line) for line in lines)
        self.counted, before = total, self.counted
        return total - before

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Load:
    """Clients that download meanwhile, from a server of their own."""

    def __init__(self, args, share, place, net):
        place = pathlib.Path(tempfile.mkdtemp(dir=place))
        place.chmod(0o755)
        self.server = Server(place)
        command = [args.bwscan, "testnet", "load", str(net), "--url", self.server.url(), "--json"]
        self.process = subprocess.Popen(
            [*command, "--share", str(share)], stdout=subprocess.PIPE, text=True
        )
        self.last = self.process.stdout.readline()  # once the clients work
        if not self.last:
            self.server.stop()
            sys.exit("the clients do not work")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.last = line

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.reader.join()
        self.server.stop()
        totals = json.loads(self.last)
        print(
            f"clients took {100 * totals['share']:.0f} % of the capacity on average, "
            f"{totals['failures']} of their {totals['downloads']} downloads failed"
        )


def tapered_rate(slices):
    """As bw_results::Slice::tapered_rate_of: the first and the last 150 ms count less."""
    ramp, total = 150_000, sum(one["us"] for one in slices)
    if len(slices) < 12 or total < 4 * ramp:
        return 1e6 * sum(one["b"] for one in slices) / total if total else 0

    def lost(since):
        within = min(max(since, 0), ramp)
        return within - within * within / (2 * ramp)

    begin = size = micros = 0
    for one in slices:
        end = begin + one["us"]
        counts = one["us"] - (lost(end) - lost(begin)) - (lost(total - begin) - lost(total - end))
        if one["us"]:
            size += one["b"] * counts / one["us"]
            micros += counts
        begin = end
    return 1e6 * size / micros if micros else 0


def rate_of(record):
    """The mean over transfers that have a rate, or none."""
    rates = []
    for one in record["transfers"]:
        last = len(one["slices"]) - one.get("cool_down", 0)
        rates.append(tapered_rate(one["slices"][one["warm_up"] : last]))
    rates = [rate for rate in rates if rate > 0]
    return statistics.mean(rates) if rates else None


def verdict_of(line, record):
    """Kind and reason of what the scheduler thinks of a measurement."""
    verdict = line.get("verdict")
    if verdict is None:  # of a version that has none
        verdict = {"kind": "accepted" if rate_of(record) else "remeasure"}
    return verdict["kind"], verdict.get("reason", "")


@dataclasses.dataclass
class Round:
    """What one scanner found."""

    scanner: str
    time: float = 0
    bytes: int = 0
    rates: dict = dataclasses.field(default_factory=dict)
    bounds: dict = dataclasses.field(default_factory=dict)
    failed: int = 0
    again: int = 0
    slices: int = 0
    throttled: int = 0
    data: pathlib.Path | None = None
    weights: dict = dataclasses.field(default_factory=dict)
    usage: dict = dataclasses.field(default_factory=dict)
    notes: dict = dataclasses.field(default_factory=dict)

    def note(self, relay, text):
        self.notes.setdefault(relay, []).append(text)


#: The formulas of which the weights are judged too.
METHODS = ("torflow", "capacity")


def weights_of(args, rounds, method):
    """The weights that one formula makes of rounds together, by relay."""
    data = rounds[-1].data
    output = data / f"v3bw-{method}-{len(rounds)}"
    command = [args.bwscan, "generate", "--data-dir", data, "--output", output]
    for one in rounds if len(rounds) > 1 else []:
        command += ["--store", one.data / "results.sqlite"]
    command += ["--scale", method, "--force"]
    run([*map(str, command)])
    file = output / "latest.v3bw"
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        pairs = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        if "node_id" in pairs and pairs.get("unmeasured") != "1":
            found[pairs["node_id"].lstrip("$")] = int(pairs["bw"])
    return found


def bwscan(args, one, place, net, server):
    data = pathlib.Path(tempfile.mkdtemp(prefix="bwscan-", dir=place))
    command = [args.bwscan, "scan", "--data-dir", data, "-d", server.url(), "--quiet"]
    command += ["--tor-config", net / "arti.toml", "--link-rate", one.link, "--fresh"]
    found = Round("bwscan", data=data, usage=run([*map(str, command), *args.options]))
    export = [args.bwscan, "export", "--data-dir", str(data)]
    lines = subprocess.run(export, check=True, capture_output=True, text=True).stdout.splitlines()
    if args.keep:
        name = f"{one.link}-{one.load}-{time.strftime('%H%M%S')}.jsonl"
        (pathlib.Path(args.keep) / name).write_text("\n".join(lines) + "\n")
    first, last, accepted = math.inf, 0, {}
    for line in map(json.loads, lines):
        line = line.get("outcome", {})
        outcome = line.get("outcome", {})
        record = outcome.get("measured") or outcome.get("failed")
        if not record:
            continue
        attempt = record["attempt"]
        relay = attempt["target"]["fingerprint"]
        first, last = min(first, attempt["started"]), max(last, record["ended"])
        slices = [s for t in record.get("transfers", []) for s in t["slices"]]
        received = sum(s["b"] for s in slices) if slices else record.get("bytes", 0)
        found.bytes += received
        found.slices += len(slices)
        throttled = sum(1 for s in slices if s.get("t"))
        found.throttled += throttled
        took = (record["ended"] - attempt["started"]) / 1000
        note = f"{attempt['position']} {took:.1f} s {received / 1e6:.2f} MB"
        if "failed" in outcome:
            found.failed += 1
            note += f" failed {record['stage']}/{record['kind']}/{record['blame']}"
        else:
            rate, (verdict, reason) = rate_of(record), verdict_of(line, record)
            stops = "+".join(str(t["stop"]) for t in record["transfers"])
            note += f" {verdict} {reason} {(rate or 0) / 1e3:.0f} kB/s, {stops}, "
            note += f"{throttled}/{len(slices)} throttled, offered {record.get('offered')}"
            if verdict == "accepted":
                accepted.setdefault(relay, []).append(rate)
            elif verdict == "lower_bound":
                found.bounds[relay] = max(rate or 0, found.bounds.get(relay, 0))
            else:
                found.again += 1
        helpers = ", ".join(args.names.get(helper, helper[:8]) for helper in attempt["helpers"])
        found.note(relay, f"{note}; with {helpers}")
    found.rates = {relay: statistics.mean(rates) for relay, rates in accepted.items()}
    found.bounds = {r: rate for r, rate in found.bounds.items() if r not in found.rates}
    found.time = (last - first) / 1000
    found.weights = {method: weights_of(args, [found], method) for method in METHODS}
    return found


def together(args, rounds):
    """The rounds of a cell as one: their mean rates, and the weights of all."""
    found = Round("together", data=rounds[-1].data)
    found.time, found.bytes = sum(one.time for one in rounds), sum(one.bytes for one in rounds)
    for relay in set().union(*(one.rates for one in rounds)):
        rates = [one.rates[relay] for one in rounds if relay in one.rates]
        found.rates[relay] = statistics.mean(rates)
    found.weights = {method: weights_of(args, rounds, method) for method in METHODS}
    return found


def sbws(args, _cell, place, net, server):
    home = place / "sbws"
    home.mkdir()
    torrc = next((net / "nodes").glob("relay*/torrc")).read_text().splitlines()
    authorities = [line for line in torrc if line.startswith("DirAuthority")]
    extra = "\n    ".join([*authorities, "TestingTorNetwork 1"])
    (home / "sbws.ini").write_text(
        f"""[paths]
sbws_home = {home}
[scanner]
country = ZZ
[destinations]
local = on
[destinations.local]
url = {server.url()}
verify = False
country = ZZ
[tor]
extra_lines =
    {extra}
"""
    )
    server.sent()
    usage = run(["sbws", "-c", str(home / "sbws.ini"), "scanner"], home / "output")
    found, first, last = Round("sbws", usage=usage), math.inf, 0
    for file in sorted((home / "datadir").glob("*.txt")):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            last = max(last, one["time"])
            if one["type"] != "success":
                found.failed += 1
                continue
            downloads = [d["amount"] / d["duration"] for d in one["downloads"]]
            found.rates[one["fingerprint"]] = statistics.mean(downloads)
            first = min(first, one["time"] - sum(d["duration"] for d in one["downloads"]))
    if not found.rates:
        print((home / "output").read_text()[-2000:], file=sys.stderr)
    found.time, found.bytes = last - first, server.sent()
    shutil.rmtree(home)
    return found


def run(command, log=None):
    begin = time.monotonic()
    with open(log or os.devnull, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT if log else None)
        usage = Usage(process.pid)
        usage.start()
        code = process.wait()
    cpu, peak = usage.finish()
    if code not in (0, 1):
        print(f"{command[0]} ended with {code}", file=sys.stderr)
    return {"total": time.monotonic() - begin, "cpu": cpu, "peak": peak}


def judge(found, truth):
    """Logarithms of ratio / median ratio, by relay, and the network weight error."""
    rates = {relay: rate for relay, rate in found.items() if relay in truth}
    if not rates:
        return {}, math.nan
    logs = {relay: math.log(rate / truth[relay]) for relay, rate in rates.items()}
    middle = statistics.median(logs.values())
    logs = {relay: value - middle for relay, value in logs.items()}
    true, measured = sum(truth[relay] for relay in rates), sum(rates.values())
    return logs, sum(abs(rates[r] / measured - truth[r] / true) for r in rates) / 2


HEAD = (
    f"{'scanner':8}{'link':>7}{'load':>5}{'time':>8}{'bytes':>9}{'rates':>8}{'cens.':>6}{'failed':>7}"
    f"{'again':>6}{'thr.':>6}{'sigma':>7}{'NWE':>7}"
    f"{'torflow':>9}{'capacity':>9}{'worst':>16}{'bytes x':>9}{'time x':>8}{'bound':>9}"
)


class Table:
    """The rounds on one network."""

    def __init__(self, args, seed, network, nodes):
        self.args, self.seed, self.network, self.nodes = args, seed, network, nodes
        self.truth = {node["fingerprint"]: node["rate"] for node in nodes.values()}
        self.reference, self.rows = [], []
        total = sum(self.truth.values()) / 1e6
        print(f"\nseed {seed}: {network}; {len(nodes)} relays, {total:.1f} MB/s\n{HEAD}", flush=True)

    def add(self, one, found):
        logs, error = judge(found.rates, self.truth)
        worst = max(logs, key=lambda relay: abs(logs[relay]), default=None)
        sigma = math.sqrt(statistics.mean(v * v for v in logs.values())) if logs else math.nan
        row = {"seed": self.seed, **dataclasses.asdict(self.network), "scanner": found.scanner}
        row |= {"link": one.link, "load": one.load, "time": found.time, "bytes": found.bytes}
        row |= {"rates": len(logs), "censored": len(found.bounds), "failed": found.failed}
        row |= {"again": found.again, "throttled": found.throttled / max(found.slices, 1)}
        errors = {m: judge(found.weights.get(m, {}), self.truth)[1] for m in METHODS}
        row |= {f"nwe_{method}": value for method, value in errors.items()}
        row |= {"sigma": sigma, "nwe": error, "worst": logs.get(worst), **found.usage}
        if found.scanner == "bwscan" and one.link == WIDE and not one.load:
            self.reference.append(row)
        peer = {key: mean(row[key] for row in self.reference) for key in ("bytes", "time")}
        row["bytes_ratio"], row["time_ratio"] = found.bytes / peer["bytes"], found.time / peer["time"]
        row["bound"] = 1.35 * peer["bytes"] / size(one.link) + 5
        self.rows.append(row)
        missed = "!" if found.scanner == "bwscan" and found.time > row["bound"] else " "
        name = self.nodes[worst]["nickname"] if worst else "-"
        print(
            f"{found.scanner:8}{one.link:>7}{one.load:>5g}{found.time:>6.1f} s{found.bytes / 1e6:>6.1f} MB"
            f"{len(logs):>5}/{len(self.truth):<2}{len(found.bounds):>6}{found.failed:>7}{found.again:>6}"
            f"{100 * row['throttled']:>4.0f} %{sigma:>7.3f}{error:>7.4f}"
            f"{errors['torflow']:>9.4f}{errors['capacity']:>9.4f}{name:>9}{logs.get(worst, 0):>+7.2f}"
            f"{row['bytes_ratio']:>9.2f}{row['time_ratio']:>8.2f}{row['bound']:>6.1f} s{missed}",
            flush=True,
        )
        if self.args.verbose:
            self.show_relays(found, logs)

    def show_relays(self, found, logs):
        for relay in sorted(self.truth, key=lambda r: logs.get(r, math.inf)):
            node = self.nodes[relay]
            rate = found.rates.get(relay, found.bounds.get(relay))
            sign = "" if relay in found.rates else ">="
            print(
                f"  {node['nickname']:8} {node.get('limit', 'node'):5} {node.get('delay_ms', 0):3} ms "
                f"{node['rate'] / 1e3:7.0f} kB/s {sign:>2}"
                + (f"{rate / 1e3:7.0f} {rate / node['rate']:5.3f}" if rate else f"{'-':>7} {'-':>5}")
                + (f" {logs[relay]:+6.3f}" if relay in logs else "       ")
            )
            for text in found.notes.get(relay, []):
                print(f"           {text}")
        sys.stdout.flush()

    def close(self):
        """What the rounds say together."""
        peers = [row for row in self.rows if row["scanner"] == "sbws"]
        for peer, row in itertools.product(peers[:1], self.reference):
            print(
                f"bwscan / sbws: time 1/{peer['time'] / row['time']:.1f}, "
                f"bytes 1/{peer['bytes'] / row['bytes']:.1f}, "
                f"CPU 1/{peer['cpu'] / max(row['cpu'], 0.1):.1f}, "
                f"memory 1/{peer['peak'] / row['peak']:.1f}, NWE {row['nwe']:.4f} / {peer['nwe']:.4f}"
            )
        return self.rows


def mean(values):
    values = list(values)
    return statistics.mean(values) if values else math.nan


def bring_up(args, seed, network, net):
    up = [args.bwscan, "testnet", "up", str(net), "--seed", seed, "--prior", "0.4"]
    up += ["--relays", args.relays, "--exits", args.exits, "--voting-interval", "60s"]
    up += ["--min-rate", args.min_rate, "--max-rate", args.max_rate, "--burst", network.burst]
    up += ["--limit-by", network.limit, "--observed", network.observed]
    up += ["--refill-interval", args.refill_interval, "--settle"]
    if network.delay != "0":
        up += ["--delay", network.delay]
    done = subprocess.run(up, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the network did not come up:\n{done.stderr}")
    table = json.loads((net / "capacities.json").read_text())
    args.names = {node["fingerprint"]: node["nickname"] for node in table}
    return {node["fingerprint"]: node for node in table if node["role"] != "authority"}


def scan(args, seed, network, cells, with_sbws):
    """All cells of one network, the idle wide link first: others are compared with it."""
    wide = Cell(network)
    cells = sorted(cells, key=lambda one: (one.load, one != wide))
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-scan-"))
        place = pathlib.Path(place)
        place.chmod(0o755)
        net = place / "net"
        stack.callback(
            subprocess.run, [args.bwscan, "testnet", "down", str(net)], stdout=subprocess.DEVNULL
        )
        table = Table(args, seed, network, bring_up(args, seed, network, net))
        server = Server(place / "server")
        stack.callback(server.stop)
        if wide not in cells and not args.no_reference:
            table.add(wide, bwscan(args, wide, place, net, server))
        for share, some in itertools.groupby(cells, key=lambda one: one.load):
            with contextlib.ExitStack() as loaded:
                if share:
                    loaded.callback(Load(args, share, place, net).stop)
                for one in some:
                    rounds = []
                    for _ in range(args.rounds):
                        rounds.append(bwscan(args, one, place, net, server))
                        table.add(one, rounds[-1])
                    if len(rounds) > 1:
                        table.add(one, together(args, rounds))
                    for found in rounds:
                        shutil.rmtree(found.data)
        if with_sbws:
            table.add(wide, sbws(args, wide, place, net, server))
        return table.close()


def summary(rows):
    """What must hold on idle networks."""
    idle = [row for row in rows if row["scanner"] == "bwscan" and not row["load"]]
    known = [row for row in idle if row["worst"] is not None]
    if not known:
        return
    worst = max(abs(row["worst"]) for row in known)
    late = sum(row["time"] > row["bound"] for row in idle)
    print(
        f"\n{len(idle)} idle rounds: worst relay {worst:.3f}, highest NWE "
        f"{max(row['nwe'] for row in known):.4f}, {late} too late, bytes at most "
        f"{max(row['bytes_ratio'] for row in idle):.2f} of the wide link's"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bwscan", default="target/release/bwscan")
    parser.add_argument(
        "--cell",
        type=cell,
        action="append",
        help="only this one (repeatable), with the parts that differ from "
        "link=60MB,delay=0,limit=line,burst=1,load=0,observed=true",
    )
    parser.add_argument("--all", action="store_true", help="every combination, some hours")
    parser.add_argument("--relays", default="16")
    parser.add_argument("--exits", default="8")
    parser.add_argument("--min-rate", default="250kB")
    parser.add_argument("--max-rate", default="8MB")
    parser.add_argument(
        "--refill-interval",
        default="100ms",
        help="of the relays' token buckets; tor's own 100ms makes idle relays unsteady",
    )
    parser.add_argument("--seeds", default="7,8", help="of the networks")
    parser.add_argument("--rounds", type=int, default=3, help="of bwscan, in each cell")
    parser.add_argument("--no-sbws", action="store_true")
    parser.add_argument(
        "--no-reference", action="store_true", help="no round of an idle 60 MB/s link to compare with"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="each relay and attempt")
    parser.add_argument("--json", help="also write all figures here")
    parser.add_argument("--keep", help="also write each round's records to this directory")
    parser.add_argument("options", nargs="*", help="further options of bwscan scan, after --")
    args = parser.parse_args()
    # Who ends this program ends its networks too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cells = args.cell or list(all_cells() if args.all else some_cells())
    # sbws scans one network that is near and one that is not, and no other seed's.
    networks = list(dict.fromkeys(one.network for one in cells))
    peers = {network.delay != "0": network for network in reversed(networks)}.values()
    rows = []
    try:
        for seed, network in itertools.product(args.seeds.split(","), networks):
            with_sbws = not args.no_sbws and network in peers and seed == args.seeds.split(",")[0]
            mine = [one for one in cells if one.network == network]
            rows += scan(args, seed, network, mine, with_sbws)
    finally:
        summary(rows)
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
