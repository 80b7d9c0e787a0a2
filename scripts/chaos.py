#!/usr/bin/python3
"""Lets `bwscan run` work on a private Tor network while things break, and judges it.

Relays, an authority and destinations die and come back, another process locks the store,
the disk fills up, the clock is set, the configuration changes, the scanner is killed. In
the end nothing that was recorded is lost or there twice, memory and descriptors do not
grow, each file that was visible at latest.v3bw is whole, and the alerts fire that should
(those of packaging/monitoring, in seconds instead of minutes, if Prometheus is there).

Usage: scripts/chaos.py [--bwscan FILE] [--minutes N] [--faults NAMES] [--seed N] [--keep DIR]
Needs tor; faketime for the clock, prometheus for alerts, root for the disk. What a
missing program prevents is said, and left out.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: Room for store, files and arti's directory.
DISK_MB = 96
#: What must come comes within this time on a busy machine.
PATIENCE = 240
#: Descriptors beyond those of the first minutes: circuits that are just being opened.
SPARE_DESCRIPTORS = 40
#: Growth of memory that is not one: caches fill, records wait for a locked store.
SPARE_MEMORY = 40e6
#: The scanner promises it (docs/operations.md).
END_LIMIT = 5
#: Alerts in seconds instead of minutes, and a disk as small as this one.
SCALED = [(r"for: \d+[mh]", "for: 2s"), (r"< 1e9", "< 8e6")]
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Failed(Exception):
    """A promise that was not kept."""


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, found, limit=PATIENCE, pause=0.2):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(pause)
    raise Failed(f"{what}: not within {limit} s")


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


class Node:
    """A tor process of the network, which can die and come back as it was started."""

    def __init__(self, facts, started):
        self.name, self.pid = facts["nickname"], facts["pid"]
        process = pathlib.Path("/proc", str(self.pid))
        self.command = process.joinpath("cmdline").read_bytes().split(b"\0")[:-1]
        self.folder = os.readlink(process / "cwd")
        self.child, self.started = None, started

    def kill(self):
        if self.child:
            end(self.child)
        else:
            os.kill(self.pid, signal.SIGKILL)

    def start(self):
        self.child = subprocess.Popen(
            self.command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.started.append(self.child)


class Server:
    """A destination on a port of its own."""

    def __init__(self, program, started):
        self.port, self.program, self.started = free_port(), program, started
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self):
        command = [self.program, "serve", "--no-config", "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.started.append(self.process)

    def kill(self):
        end(self.process)


class Watcher(threading.Thread):
    """Keeps each file that is visible at latest.v3bw; once there, one always is."""

    def __init__(self, latest, keep):
        super().__init__(daemon=True)
        self.latest, self.keep = latest, keep
        self.seen, self.missing, self.stop = {}, 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.02):
            try:
                text = self.latest.read_bytes()
            except FileNotFoundError:
                self.missing += bool(self.seen)
                continue
            if text not in self.seen:
                path = self.keep / f"{len(self.seen):04}.v3bw"
                path.write_bytes(text)
                self.seen[text] = path


class Scanner:
    """`bwscan run`, over all of its lives."""

    def __init__(self, args, place, network, servers):
        self.args, self.place = args, place
        self.data = place / "disk" / "data"
        self.port, self.config = free_port(), place / "bwscan.toml"
        self.log = (place / "run.log").open("ab")
        self.network, self.servers = network, servers
        self.process, self.lives, self.samples = None, 0, []
        self.clock = place / "clock"
        self.set_clock(0)
        self.interval = 0
        self.minute = None
        self.configure()

    def configure(self, extra=""):
        """Writes the configuration; each time a little different, as operators do."""
        self.interval += 1
        at = f'generate_at = ":{self.minute:02}"\n' if self.minute is not None else ""
        urls = json.dumps([server.url for server in self.servers])
        self.config.write_text(
            f'data_dir = "{self.data}"\n[scan]\ndestination = {urls}\n'
            f'tor_config = ["{self.network / "arti.toml"}"]\nbootstrap_timeout = "60s"\n'
            f'interval = "{self.interval % 5 + 1}s"\nmin_time = "500ms"\nmax_time = "2s"\n'
            f'step_timeout = "5s"\nstall_timeout = "2s"\n{extra}'
            f'[generate]\nmax_total_change = 1000\nmax_changed_share = "100%"\n'
            f'max_consensus_factor = 1000\n'
            f'[run]\nmetrics = "127.0.0.1:{self.port}"\n{at}'
        )

    def set_clock(self, seconds):
        self.clock.write_text(f"{seconds:+d}\n")

    def start(self):
        # The limit of threads' stacks and of arenas makes memory comparable.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        if self.args.faketime:
            environment.update(
                LD_PRELOAD=FAKETIME,
                FAKETIME_TIMESTAMP_FILE=str(self.clock),
                FAKETIME_NO_CACHE="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
                NO_FAKE_STAT="1",
            )
        self.process = subprocess.Popen(
            [self.args.bwscan, "run", "--config", str(self.config)],
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        self.lives += 1
        until("/healthz", lambda: self.check() or self.get("/healthz"))

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.URLError):
            return None

    def metric(self, name):
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics") or "", re.M)
        return sum(map(float, found)) if found else 0.0

    def kill(self):
        end(self.process)

    def terminate(self):
        begin = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(END_LIMIT + 10)
        except subprocess.TimeoutExpired:
            raise Failed("SIGTERM does not end the scanner") from None
        took = time.monotonic() - begin
        if code or took > END_LIMIT + self.args.slack:
            raise Failed(f"SIGTERM: exit code {code} after {took:.1f} s")
        return took

    def check(self):
        """The scanner runs, and answers."""
        if self.process.poll() is not None:
            raise Failed(f"the scanner ended with {self.process.returncode}")

    def sample(self):
        """Memory in bytes and open descriptors."""
        process = pathlib.Path("/proc", str(self.process.pid))
        with contextlib.suppress(OSError, AttributeError):
            resident = re.search(r"VmRSS:\s+(\d+)", process.joinpath("status").read_text())
            descriptors = len(list(process.joinpath("fd").iterdir()))
            self.samples.append((self.lives, int(resident[1]) * 1024, descriptors))

    @property
    def store(self):
        return self.data / "results.sqlite"

    def rows(self):
        """The identities of the outcomes in the store."""
        if not self.store.exists():
            return set()
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as store:
            return {row[0] for row in store.execute("SELECT identity FROM outcome")}


class Prometheus:
    """A real one that scrapes every second, with the project's alerts in seconds."""

    def __init__(self, place, scanner, started):
        rules = (ROOT / "packaging/monitoring/alerts.yml").read_text()
        for pattern, replacement in SCALED:
            rules = re.sub(pattern, replacement, rules)
        (place / "alerts.yml").write_text(rules)
        (place / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            "rule_files: [alerts.yml]\n"
            "scrape_configs:\n"
            f"  - {{job_name: bwscan, static_configs: [{{targets: ['127.0.0.1:{scanner.port}']}}]}}\n"
        )
        self.port = free_port()
        log = (place / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={place / 'prometheus.yml'}",
                f"--storage.tsdb.path={place / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=log,
            stderr=log,
        )
        started.append(self.process)

    def query(self, expression):
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def firing(self):
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def fired(self):
        found = self.query('max_over_time(ALERTS{alertstate="firing"}[1d])')
        return {one["metric"]["alertname"] for one in found}

    def scrape(self):
        found = self.query('max_over_time(scrape_duration_seconds{job="bwscan"}[1d])')
        return float(found[0]["value"][1]) if found else float("nan")


class Chaos:
    """The faults. Each breaks something, waits, and repairs it."""

    def __init__(self, args, place, nodes, servers, scanner, prometheus):
        self.args, self.place, self.nodes, self.servers = args, place, nodes, servers
        self.scanner, self.prometheus = scanner, prometheus
        self.random = random.Random(args.seed)
        self.counts, self.ends = {}, []

    def must_fire(self, alert):
        """Goes on when the alert fires; without Prometheus after some seconds."""
        if self.prometheus:
            until(f"the alert {alert}", lambda: alert in self.prometheus.firing())
        else:
            time.sleep(10)

    def of_role(self, role):
        return [node for node in self.nodes if node.name.startswith(role)]

    def relay(self):
        node = self.random.choice(self.of_role("relay") + self.of_role("exit"))
        node.kill()
        time.sleep(6)
        node.start()

    def authority(self):
        node = self.random.choice(self.of_role("auth"))
        node.kill()
        time.sleep(6)
        node.start()

    def destination(self):
        server = self.random.choice(self.servers)
        server.kill()
        self.must_fire("BwscanDestinationDown")
        server.start()

    def lock(self):
        """Another program writes for long. Metrics, SIGHUP and the clock go on."""
        with contextlib.closing(sqlite3.connect(self.scanner.store, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(4)
            self.scanner.configure()
            self.scanner.process.send_signal(signal.SIGHUP)
            for _ in range(4):
                time.sleep(1)
                if not self.scanner.get("/healthz"):
                    raise Failed("/healthz does not answer while the store is locked")
            other.rollback()

    def lock_and_end(self):
        """SIGTERM is obeyed while the store is locked; what is written stays."""
        with contextlib.closing(sqlite3.connect(self.scanner.store, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(2)
            self.ends.append(self.scanner.terminate())
            other.rollback()
        self.scanner.start()

    def disk(self):
        filler = self.place / "disk" / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        time.sleep(10)
        # Metrics look at the disk once a minute.
        self.must_fire("BwscanDiskFull")
        filler.unlink()

    def clock(self):
        # Some hours forward and back, and a day back: a battery is empty.
        for seconds in (5 * 3600, -86400, 0):
            self.scanner.set_clock(seconds)
            time.sleep(4)

    def reload(self):
        scanner = self.scanner
        scanner.minute = (time.gmtime().tm_min + 1) % 60
        scanner.configure()
        scanner.process.send_signal(signal.SIGHUP)
        time.sleep(2)
        scanner.configure("no_such_option = 1\n")
        scanner.process.send_signal(signal.SIGHUP)
        time.sleep(2)
        scanner.configure()

    def kill(self):
        """SIGKILL: what was committed is there afterwards."""
        before = self.scanner.rows()
        self.scanner.kill()
        self.must_fire("BwscanDown")
        lost = before - self.scanner.rows()
        if lost:
            raise Failed(f"SIGKILL: {len(lost)} records are lost")
        self.scanner.start()

    def restart(self):
        self.ends.append(self.scanner.terminate())
        self.scanner.start()

    def one(self, name):
        say(f"fault: {name}")
        getattr(self, name)()
        self.scanner.check()
        self.counts[name] = self.counts.get(name, 0) + 1


#: Those that a scanner waits for a minute after take long, and are left out of a short run.
SHORT = ["destination", "lock", "kill", "relay", "reload", "authority", "lock_and_end", "clock"]
LONG = [*SHORT, "disk", "restart"]


def judge(args, scanner, chaos, watcher, prometheus):
    """All promises; returns figures for people."""
    scanner.check()
    program = str(args.bwscan)
    if watcher.missing:
        raise Failed(f"latest.v3bw was missing {watcher.missing} times")
    times = []
    for text, path in watcher.seen.items():
        checked = subprocess.run(
            [program, "file", "check", "--no-config", str(path)], capture_output=True, text=True
        )
        if checked.returncode:
            raise Failed(f"a visible file is wrong: {path}: {checked.stdout}{checked.stderr}")
        times.append(int(text.split(b"\n", 1)[0]))
    if not times:
        raise Failed("no file was written")
    with contextlib.closing(sqlite3.connect(f"file:{scanner.store}?mode=ro", uri=True)) as store:
        (whole,) = store.execute("PRAGMA integrity_check").fetchone()
        twice = store.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outcome GROUP BY relay, started HAVING count(*) > 1)"
        ).fetchone()[0]
        (count,) = store.execute("SELECT count(*) FROM outcome").fetchone()
        settled = store.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outcome WHERE verdict = 'accepted'"
            " GROUP BY scan, relay, position HAVING count(*) > 1)"
        ).fetchone()[0]
        (rounds,) = store.execute("SELECT count(*) FROM scan WHERE ended IS NOT NULL").fetchone()
    if whole != "ok" or twice or settled:
        raise Failed(
            f"the store: {whole}; {twice} records are there twice, "
            f"{settled} relays were measured twice in a round"
        )
    figures = {"records": count, "rounds": rounds, "files": len(times), "lives": scanner.lives}
    last = [sample for sample in scanner.samples if sample[0] == scanner.lives]
    middle = len(last) // 2
    # The end of the last life against its middle: what fills once has been filled.
    memory, descriptors = ([sample[index] for sample in last] for index in (1, 2))
    if middle > 20:
        grown = statistics.median(memory[-10:]) - statistics.median(memory[middle - 5 : middle + 5])
        figures["memory_growth_MB"] = round(grown / 1e6, 1)
        if grown > SPARE_MEMORY:
            raise Failed(f"memory grew by {grown / 1e6:.0f} MB in half of the last life")
    if max(descriptors[middle:]) > max(descriptors[: middle + 1]) + SPARE_DESCRIPTORS:
        raise Failed(f"descriptors grow: {descriptors}")
    figures["memory_MB"] = round(max(sample[1] for sample in scanner.samples) / 1e6)
    figures["descriptors"] = max(sample[2] for sample in scanner.samples)
    figures["slowest_end_s"] = round(max(chaos.ends, default=0), 2)
    if prometheus:
        figures["alerts"] = sorted(prometheus.fired())
        figures["slowest_scrape_ms"] = round(prometheus.scrape() * 1000, 1)
    return figures


def calm(scanner):
    """All works again: a whole round, a file of all relays, and readiness."""
    rounds = scanner.metric("bwscan_rounds_completed_total")
    until("ready", lambda: scanner.get("/readyz"))
    until("a round", lambda: scanner.metric("bwscan_rounds_completed_total") > rounds + 1)
    written = scanner.metric("bwscan_file_written_timestamp_seconds")
    if not written:
        until("a file", lambda: scanner.metric("bwscan_file_written_timestamp_seconds"))
    scanner.check()


def run(args, stack, place):
    started = []
    stack.callback(lambda: [end(process) for process in started])
    net = place / "net"
    up = [args.bwscan, "testnet", "up", str(net), "--json", "--no-config", "--relays", "4"]
    up += ["--exits", "4", "--prior", "0.3", "--voting-interval", "30s", "--seed", "7"]
    say("the network starts")
    stack.callback(
        subprocess.run, [args.bwscan, "testnet", "down", str(net)], stdout=subprocess.DEVNULL
    )
    status = subprocess.run(up, stdout=subprocess.PIPE, text=True, check=True).stdout
    nodes = [Node(facts, started) for facts in json.loads(status)["nodes"] if facts["pid"]]
    disk = place / "disk"
    disk.mkdir()
    if args.tmpfs:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", str(disk)]
        subprocess.run(mount, check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(disk)])
    servers = [Server(args.bwscan, started) for _ in range(2)]
    scanner = Scanner(args, place, net, servers)
    stack.callback(lambda: scanner.process and end(scanner.process))
    prometheus = Prometheus(place, scanner, started) if args.prometheus else None
    (place / "files").mkdir()
    watcher = Watcher(scanner.data / "v3bw" / "latest.v3bw", place / "files")
    watcher.start()
    scanner.start()
    stack.callback(watcher.stop.set)
    sampling = threading.Event()
    stack.callback(sampling.set)

    def sample():
        while not sampling.wait(0.5):
            scanner.sample()

    threading.Thread(target=sample, daemon=True).start()
    say("the first round")
    until("a round", lambda: scanner.metric("bwscan_rounds_completed_total"))
    until("a file", lambda: scanner.metric("bwscan_file_written_timestamp_seconds"))

    chaos = Chaos(args, place, nodes, servers, scanner, prometheus)
    close = time.monotonic() + args.minutes * 60
    faults = list(args.faults)
    while time.monotonic() < close or not chaos.counts:
        for name in faults:
            chaos.one(name)
            time.sleep(chaos.random.uniform(1, 3))
            if time.monotonic() > close and len(chaos.counts) == len(set(args.faults)):
                break
        chaos.random.shuffle(faults)
    say("all is repaired")
    scanner.set_clock(0)
    calm(scanner)
    figures = judge(args, scanner, chaos, watcher, prometheus)
    chaos.ends.append(scanner.terminate())
    print(json.dumps({"faults": chaos.counts, **figures}, indent=1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bwscan", default=ROOT / "target/debug/bwscan", help="the program")
    parser.add_argument("--minutes", type=float, default=1, help="break things for this long")
    parser.add_argument("--faults", help="only these, separated by commas")
    parser.add_argument("--seed", type=int, default=1, help="order and choice of what breaks")
    parser.add_argument("--keep", help="keep logs and files in this new folder")
    parser.add_argument("--slack", type=float, default=2, help="seconds for a busy machine")
    args = parser.parse_args()
    args.bwscan = str(pathlib.Path(args.bwscan).resolve())
    default = LONG if args.minutes >= 5 else SHORT
    args.faults = args.faults.split(",") if args.faults else list(default)
    unknown = set(args.faults) - set(LONG)
    if unknown:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(LONG)}")
    args.faketime = os.path.exists(FAKETIME)
    args.prometheus = shutil.which("prometheus") is not None
    args.tmpfs = os.geteuid() == 0
    for has, fault, why in [
        (args.faketime, "clock", "faketime is missing"),
        (args.tmpfs, "disk", "only root may mount a small disk"),
    ]:
        if not has and fault in args.faults:
            say(f"SKIPPED: {fault}: {why}")
            args.faults.remove(fault)
    if not args.prometheus:
        say("SKIPPED: alerts: prometheus is missing")
    return args


def main():
    args = parse()
    with contextlib.ExitStack() as stack:
        if args.keep:
            place = pathlib.Path(args.keep).resolve()
            place.mkdir(parents=True)
        else:
            place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        try:
            run(args, stack, place)
        except Failed as failure:
            log = place.joinpath("run.log")
            tail = log.read_text(errors="replace").splitlines()[-40:] if log.exists() else []
            sys.exit("\n".join([*tail, f"chaos: FAILED: {failure}"]))
    say("chaos: passed")


main()
