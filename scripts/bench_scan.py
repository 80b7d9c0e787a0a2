#!/usr/bin/env python3
"""One round of sbws and one of bwscan over the same private Tor network.

Brings up a network of tor processes with known capacities, lets both scanners
measure it in turn against the same lighttpd (keep-alive 120 s), and prints wall
time, bytes received (of sbws, which keeps no account of them, as its server sent them), CPU, memory, relays measured, the robust spread of
ln(measured/true), and the network weight error: half the sum over all relays
of |share measured - share true|. Needs tor, lighttpd, and sbws for the comparison
(scripts/setup.sh bench installs them).
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


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
        family, size = {self.pid}, 0
        while len(family) != size:
            size = len(family)
            family |= {pid for pid, parent in parents.items() if parent in family}
        self.peak = max(self.peak, sum(memory[pid][0] for pid in family if pid in memory))
        self.cpu.update({pid: memory[pid][1] for pid in family if pid in memory})

    def finish(self):
        self.over.set()
        self.join()
        return sum(self.cpu.values()), self.peak


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """lighttpd with one sparse file of a gibibyte; counts what it sends."""

    def __init__(self, place):
        self.port, self.log = free_port(), place / "access.log"
        (place / "www").mkdir()
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
        self.counted, before = total, getattr(self, "counted", 0)
        return total - before


class Load:
    """Clients that download meanwhile, from a server of their own."""

    def __init__(self, args, place, net):
        place = place / "load"
        place.mkdir()
        self.server = Server(place)
        command = [args.bwscan, "testnet", "load", str(net), "--url", self.server.url(), "--json"]
        self.process = subprocess.Popen(
            [*command, "--share", str(args.load)], stdout=subprocess.PIPE, text=True
        )
        self.last = self.process.stdout.readline()  # once the clients work
        if not self.last:
            self.server.process.terminate()
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
        self.server.process.terminate()
        totals = json.loads(self.last)
        print(
            f"clients took {100 * totals['share']:.0f} % of the capacity on average, "
            f"{totals['failures']} of their {totals['downloads']} downloads failed"
        )


def bwscan(args, place, net, server):
    data = place / "bwscan"
    command = [args.bwscan, "scan", "--data-dir", data, "-d", server.url(), "--quiet"]
    command += ["--tor-config", net / "arti.toml", "--link-rate", args.link_rate, "--fresh"]
    result = run([*map(str, command), *args.options])
    lines = subprocess.run(
        [args.bwscan, "export", "--data-dir", str(data)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    first, last, result["received"] = math.inf, 0, 0
    for line in lines:
        outcome = json.loads(line).get("outcome", {}).get("outcome", {})
        one = outcome.get("measured") or outcome.get("failed")
        if one:
            first, last = min(first, one["attempt"]["started"]), max(last, one["ended"])
            slices = [s for t in one.get("transfers", []) for s in t["slices"]]
            result["received"] += sum(s["b"] for s in slices) if slices else one.get("bytes", 0)
    command = [args.bwscan, "aggregate", "--data-dir", str(data), "-n", "1", "--json"]
    relays = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["relays"]
    rates = {one["fingerprint"]: one["mean"] for one in relays if one["measurements"]}
    shutil.rmtree(data)
    return rates, (last - first) / 1000, result


def sbws(args, place, net, server):
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
    result = run(["sbws", "-c", str(home / "sbws.ini"), "scanner"], home / "output")
    rates, first, last = {}, math.inf, 0
    for file in sorted((home / "datadir").glob("*.txt")):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            last = max(last, one["time"])
            if one["type"] == "success":
                downloads = [d["amount"] / d["duration"] for d in one["downloads"]]
                rates[one["fingerprint"]] = statistics.mean(downloads)
                first = min(first, one["time"] - sum(d["duration"] for d in one["downloads"]))
    if not rates:
        print((home / "output").read_text()[-2000:], file=sys.stderr)
    result["received"] = server.sent()
    return rates, last - first, result


def run(command, log=None):
    begin = time.monotonic()
    with open(log or os.devnull, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT if log else None)
        usage = Usage(process.pid)
        usage.start()
        code = process.wait()
    cpu, peak = usage.finish()
    if code not in (0, 1):
        sys.exit(f"{command[0]} ended with {code}")
    return {"total": time.monotonic() - begin, "cpu": cpu, "peak": peak}


def judge(rates, capacities):
    logs = sorted(math.log(rate / capacities[relay]) for relay, rate in rates.items())
    middle = statistics.median(logs) if logs else 0
    spread = 1.4826 * statistics.median(abs(value - middle) for value in logs) if logs else math.nan
    true = sum(capacities[relay] for relay in capacities)
    measured = sum(rates.values()) or math.nan
    error = sum(abs(rates.get(r, 0) / measured - c / true) for r, c in capacities.items()) / 2
    return spread, error


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bwscan", default="target/release/bwscan")
    parser.add_argument("--relays", default="16")
    parser.add_argument("--exits", default="8")
    parser.add_argument("--max-rate", default="8MB")
    parser.add_argument("--burst", default="1")
    parser.add_argument(
        "--refill-interval",
        default="1ms",
        help="of the relays' token buckets; tor's own 100ms makes idle relays unsteady",
    )
    parser.add_argument("--seeds", default="1", help="networks to try, as 1,2,3")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of bwscan on each")
    parser.add_argument("--link-rate", default="40MB", help="of bwscan, per second")
    parser.add_argument(
        "--load", type=float, default=0, help="share of the capacity that clients take meanwhile"
    )
    parser.add_argument("--no-sbws", action="store_true")
    parser.add_argument("--json", help="also write all figures here")
    parser.add_argument("options", nargs="*", help="further options of bwscan scan, after --")
    args = parser.parse_args()
    everything = []
    for seed in args.seeds.split(","):
        with tempfile.TemporaryDirectory(prefix="bench-scan-") as place:
            place = pathlib.Path(place)
            place.chmod(0o755)
            everything += network(args, seed, place)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(everything, indent=1))


def network(args, seed, place):
    net = place / "net"
    up = [args.bwscan, "testnet", "up", str(net), "--seed", seed, "--relays", args.relays]
    up += ["--exits", args.exits, "--max-rate", args.max_rate, "--prior", "0.4"]
    up += ["--burst", args.burst, "--voting-interval", "60s"]
    up += ["--refill-interval", args.refill_interval, "--settle"]
    rows, server, load = [], None, None
    try:
        subprocess.run(
            up, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        capacities = {
            node["fingerprint"]: node["rate"]
            for node in json.loads((net / "capacities.json").read_text())
            if node["role"] != "authority"
        }
        server = Server(place)
        print(f"\nseed {seed}: {len(capacities)} relays, {sum(capacities.values()) / 1e6:.1f} MB/s")
        head = f"{'scanner':8} {'round':>8} {'total':>8} {'bytes':>9} {'measured':>9}"
        print(head + f" {'sigma':>7} {'NWE':>7} {'CPU':>7} {'memory':>8}", flush=True)
        if args.load:
            load = Load(args, place, net)
        shares = []
        scanners = ([] if args.no_sbws else [sbws]) + [bwscan] * args.rounds
        for scanner in scanners:
            rates, took, usage = scanner(args, place, net, server)
            # sbws measures authorities too.
            rates = {relay: rate for relay, rate in rates.items() if relay in capacities}
            spread, error = judge(rates, capacities)
            name, received = scanner.__name__, usage.pop("received")
            row = dict(seed=seed, scanner=name, round=took, bytes=received, measured=len(rates))
            row |= dict(sigma=spread, nwe=error, **usage)
            rows.append(row)
            print(
                f"{name:8} {took:6.1f} s {usage['total']:6.1f} s {received / 1e6:6.1f} MB "
                f"{len(rates):4}/{len(capacities):<4} {spread:7.3f} {error:7.4f} "
                f"{usage['cpu']:5.1f} s {usage['peak'] / 1e6:5.0f} MB",
                flush=True,
            )
            if name == "bwscan":
                shares.append({r: rate / sum(rates.values()) for r, rate in rates.items()})
        for one, other in zip(shares, shares[1:]):
            keys = one.keys() | other.keys()
            distance = sum(abs(one.get(k, 0) - other.get(k, 0)) for k in keys) / 2
            print(f"two rounds differ by {100 * distance:.1f} % (total variation)")
        peers = [row for row in rows if row["scanner"] == "sbws"]
        for row in rows:
            if peers and row["scanner"] == "bwscan":
                peer = peers[0]
                print(
                    f"bwscan / sbws: time 1/{peer['round'] / row['round']:.1f}, "
                    f"bytes 1/{peer['bytes'] / row['bytes']:.1f}, "
                    f"CPU 1/{peer['cpu'] / max(row['cpu'], 0.1):.1f}, "
                    f"memory 1/{peer['peak'] / row['peak']:.1f}, "
                    f"NWE {row['nwe']:.4f} / {peer['nwe']:.4f}"
                )
    finally:
        if load:
            load.stop()
        if server:
            server.process.terminate()
        subprocess.run([args.bwscan, "testnet", "down", str(net)], stdout=subprocess.DEVNULL)
    return rows


if __name__ == "__main__":
    main()
