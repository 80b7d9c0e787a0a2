#!/usr/bin/python3
"""Follows docs/operations.md on a Debian machine, as an operator who comes from sbws.

The machine is a minimal Debian in a folder, booted with a systemd of its own. It shares the
loopback of this machine, where a private Tor network runs; one of its authorities is the tor
of Debian's package on the new machine. sbws measures the network first. Then the package of
`make deb` comes, takes sbws over, runs as a service, is watched by Prometheus, and gives the
authority its file. It is killed, reloaded, upgraded, removed and purged.

Usage: scripts/try_machine.py [--package FILE] [--bwscan FILE] [--folder DIR]
Needs root, tor, debootstrap and systemd-nspawn (Debian's systemd-container), and 2 GB.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = "adduser,ca-certificates,cron,dbus,prometheus,sbws,systemd,systemd-sysv,tor"
PATIENCE = 300
SBWS_FILE = "/var/lib/sbws/v3bw/latest.v3bw"
FILE = "/var/lib/bwscan/v3bw/latest.v3bw"
CONFIG = "/etc/bwscan/bwscan.toml"


class Failed(Exception):
    """Something of the documentation does not hold."""


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def until(what, found, limit=PATIENCE, pause=1.0):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(pause)
    raise Failed(f"{what}: not within {limit} s")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode(errors="replace")
    except OSError:
        return ""


class Machine:
    """A Debian in a folder, booted."""

    def __init__(self, folder):
        self.folder = folder
        if not (folder / "etc/debian_version").exists():
            say("the machine is made")
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite(), str(folder)]
            with open(f"{folder}.log", "wb") as log:
                subprocess.run(command, check=True, stdout=log, stderr=log)

    def boot(self, stack):
        command = ["systemd-nspawn", "--directory", str(self.folder), "--boot", "--register=no"]
        command += ["--keep-unit", "--machine=bwscan-try", "--console=pipe"]
        log = open(f"{self.folder}.boot", "wb")
        nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(lambda: (nspawn.terminate(), nspawn.wait(120)))
        children = pathlib.Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        self.init = until("the machine's init", lambda: children.read_text().split(), 60)[0]
        until("the boot", lambda: self.run("systemctl is-system-running", check=None)[1] == "running", 120)

    def run(self, command, check=0, show=False):
        """Runs a line of shell as root; returns exit code and output."""
        line = ["nsenter", "-t", self.init, "-m", "-p", "-u", "-i", "-C"]
        line += ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        line += ["DEBIAN_FRONTEND=noninteractive", "sh", "-c", command]
        ended = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        text = ended.stdout.strip()
        if show:
            say(f"# {command}")
            print("\n".join(f"    {one}" for one in text.splitlines()), flush=True)
        if check is not None and ended.returncode != check:
            raise Failed(f"{command}: exit code {ended.returncode}: {text}")
        return ended.returncode, text

    def path(self, path):
        return self.folder / path.lstrip("/")

    def edit(self, path, pattern, replacement):
        text = self.path(path).read_text()
        changed, count = re.subn(pattern, replacement, text, flags=re.M)
        if not count:
            raise Failed(f"{path} has no {pattern}")
        self.path(path).write_text(changed)


def suite():
    text = pathlib.Path("/etc/os-release").read_text()
    return re.search(r"^VERSION_CODENAME=(\w+)", text, re.M)[1]


class Network:
    """A private network, one of whose authorities moves to the machine."""

    def __init__(self, bwscan, place, stack):
        self.place, self.bwscan = place / "net", bwscan
        up = [bwscan, "testnet", "up", str(self.place), "--json", "--no-config", "--relays", "4"]
        up += ["--exits", "4", "--seed", "7", "--voting-interval", "20s"]
        stack.callback(
            subprocess.run, [bwscan, "testnet", "down", str(self.place)], stdout=subprocess.DEVNULL
        )
        status = subprocess.run(up, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.nodes = json.loads(status)["nodes"]
        self.relays = [node for node in self.nodes if not node["nickname"].startswith("auth")]

    def move_authority(self, machine):
        """Makes Debian's tor on the machine the first authority; returns its directory's URL."""
        node = next(node for node in self.nodes if node["nickname"].startswith("auth"))
        process = pathlib.Path(f"/proc/{node['pid']}")
        torrc = next(self.place.glob(f"nodes/{node['nickname']}/torrc"))
        os.kill(node["pid"], 15)
        until("the end of an authority", lambda: not process.exists(), 60)
        lines = torrc.read_text().splitlines()
        data = next(line for line in lines if line.startswith("DataDirectory")).split('"')[1]
        ours = ("DataDirectory", "Log ", "PidFile", "GeoIP", "ServerDNSResolv", "V3Bandwidths", "__Owning")
        kept = [line for line in lines if not line.startswith(ours)]
        kept.append(f"V3BandwidthsFile {SBWS_FILE}")
        machine.run("systemctl stop tor@default")
        home = machine.path("/var/lib/tor")
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(data, home, ignore=shutil.ignore_patterns("lock", "control_*"))
        machine.path("/etc/tor/torrc").write_text("\n".join(kept) + "\n")
        machine.run("chown -R debian-tor: /var/lib/tor && chmod 700 /var/lib/tor")
        # A folder that was used before has tried to reach a network that is gone.
        machine.run("systemctl reset-failed tor@default", check=None)
        machine.run("systemctl restart tor@default")
        address = next(line for line in lines if line.startswith("Address")).split()[1]
        port = next(line for line in lines if line.startswith("DirPort")).split()[1]
        return f"http://{address}:{port.rpartition(':')[2]}"

    def client(self):
        """The configuration of arti, without the places of files."""
        return (self.place / "arti.toml").read_text().partition("[storage]")[0]


def sbws(machine, network, url):
    """The sbws of Debian's package measures once and writes its file."""
    torrc = next(network.place.glob("nodes/relay*/torrc")).read_text().splitlines()
    authorities = [line for line in torrc if line.startswith("DirAuthority")]
    extra = "\n    ".join([*authorities, "TestingTorNetwork 1"])
    machine.path("/etc/sbws/sbws.ini").write_text(
        f"[scanner]\nnickname = oldscanner\ncountry = ZZ\n[destinations]\nown = on\n"
        f"[destinations.own]\nurl = {url}\nverify = /etc/sbws/ca.pem\ncountry = ZZ\n"
        f"[tor]\nextra_lines =\n    {extra}\n"
    )
    machine.run("rm -rf /var/lib/sbws/* && systemctl start sbws")
    results = machine.path("/var/lib/sbws/datadir")

    def measured():
        lines = [line for file in results.glob("*.txt") for line in file.read_text().splitlines()]
        good = [one for one in map(json.loads, lines) if one["type"] == "success"]
        return len({one["fingerprint"] for one in good}) >= len(network.relays)

    until("a round of sbws", measured, 900, 5)
    # Without the option it reads no configuration, in Debian's hourly job too.
    machine.run("runuser -u sbws -- sbws -c /etc/sbws/sbws.ini generate")


def voted(directory, words):
    """The authority's own vote tells of a file with these words in its headers."""
    vote = fetch(f"{directory}/tor/status-vote/current/authority")
    headers = re.search(r"^bandwidth-file-headers (.*)$", vote, re.M)
    return bool(headers) and words in headers[1]


def alerts(metrics):
    """Prometheus as the documentation has it."""
    return (
        "global: {scrape_interval: 5s, evaluation_interval: 5s}\n"
        "rule_files: [/usr/share/doc/bwscan/monitoring/alerts.yml]\n"
        "scrape_configs:\n  - job_name: bwscan\n"
        f"    static_configs: [{{targets: ['{metrics}']}}]\n"
    )


def install(machine, package):
    machine.path("/root").joinpath(package.name).write_bytes(package.read_bytes())
    machine.run(f"apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /root/{package.name}")


def take_over(machine, network, metrics):
    machine.run("bwscan migrate-from-sbws --dry-run", show=True)
    machine.run("bwscan migrate-from-sbws", show=True)
    owners = machine.run("find /var/lib/bwscan ! -user bwscan")[1]
    if owners:
        raise Failed(f"not the service's own: {owners}")
    # Only a private network needs these.
    machine.path("/etc/bwscan/network.toml").write_text(network.client())
    machine.edit(CONFIG, r"^interval = .*", 'interval = "10s"\ntor_config = ["/etc/bwscan/network.toml"]')
    machine.edit(CONFIG, r"^link_rate = .*", 'link_rate = "50Mbit"')
    machine.edit(CONFIG, r"^# metrics = .*", f'metrics = "{metrics}"')
    code, text = machine.run("runuser -u bwscan -- bwscan doctor", check=None, show=True)
    if code:
        raise Failed(f"doctor finds a problem: {text}")


def run_service(machine, metrics):
    machine.run("systemctl enable --now bwscan")
    until("readiness", lambda: fetch(f"http://{metrics}/readyz"))
    until("a file", lambda: machine.path(FILE).exists())
    machine.run("systemctl status --no-pager bwscan | head -n 12", show=True)
    code, text = machine.run("bwscan status", check=None, show=True)
    if code:
        raise Failed(f"status finds a problem: {text}")
    machine.run(f"bwscan file diff --top 3 {SBWS_FILE} {FILE}", check=None, show=True)
    machine.run(f"bwscan file check {FILE}")


def monitor(machine, metrics):
    machine.path("/etc/prometheus/prometheus.yml").write_text(alerts(metrics))
    machine.run("systemctl restart prometheus")
    api = "http://127.0.0.1:9090/api/v1"
    up = f"{api}/query?query=up%7Bjob%3D%22bwscan%22%7D"
    until("Prometheus's scrape", lambda: '"1"]' in fetch(up))
    rules = until("the alerts", lambda: fetch(f"{api}/rules"))
    names = [one["name"] for group in json.loads(rules)["data"]["groups"] for one in group["rules"]]
    say(f"Prometheus has the alerts {', '.join(names)}")
    return lambda alert: f'"alertname":"{alert}"' in fetch(f"{api}/alerts")


def switch(machine, directory):
    machine.edit("/etc/tor/torrc", r"^V3BandwidthsFile .*", f"V3BandwidthsFile {FILE}")
    machine.run("systemctl reload tor@default")
    machine.run("systemctl disable --now sbws")
    machine.run("sed -i 's/^[0-9]/#&/' /etc/cron.d/sbws")
    until("a vote with bwscan's file", lambda: voted(directory, "software=bwscan"))
    say("the authority votes with bwscan's file")


def disturb(machine, metrics):
    """The service is killed, and reads its configuration again."""
    log = "journalctl -u bwscan --no-pager -o cat"
    machine.run("systemctl kill -s KILL bwscan")
    until("the restart", lambda: fetch(f"http://{metrics}/readyz"), 120)
    machine.edit(CONFIG, r"^link_rate = .*", 'link_rate = "100Mbit"')
    machine.run("systemctl reload bwscan")
    until("the reload", lambda: "link-rate" in machine.run(f"{log} | grep configuration:", check=None)[1], 30)
    machine.run(f"{log} | tail -n 12", show=True)


def later(package, place):
    """The same package with a later version."""
    tree, made = place / "later", place / f"{package.stem}-later.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+later1", control.read_text(), flags=re.M))
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def records(machine):
    return int(machine.run("bwscan export | wc -l")[1])


def upgrade_and_remove(machine, package, place, metrics):
    before = records(machine)
    process = machine.run("systemctl show -P MainPID bwscan")[1]
    install(machine, later(package, place))
    if machine.run("systemctl show -P MainPID bwscan")[1] == process:
        raise Failed("an upgrade does not restart the service")
    until("the upgraded service", lambda: fetch(f"http://{metrics}/readyz"))
    if records(machine) < before:
        raise Failed("an upgrade loses records")
    begin = time.monotonic()
    machine.run("systemctl stop bwscan")
    say(f"it stops in {time.monotonic() - begin:.1f} s")
    machine.run("bwscan export --format sbws --output /tmp/results", show=True)
    machine.run("systemctl start bwscan && apt-get remove -y bwscan")
    if machine.run("systemctl is-active bwscan", check=None)[1] == "active":
        raise Failed("a removed service runs")
    if not machine.path("/var/lib/bwscan/results.sqlite").exists():
        raise Failed("a removal takes the results")
    machine.run("apt-get purge -y bwscan")
    if machine.path("/var/lib/bwscan").exists():
        raise Failed("a purge leaves the results")
    say("upgraded, removed and purged")


def walk(args, stack, place):
    machine = Machine(pathlib.Path(args.folder or place / "machine").resolve())
    say("the network starts")
    network = Network(args.bwscan, place, stack)
    ports = [free_port() for _ in range(2)]
    url, metrics = f"https://127.0.0.1:{ports[0]}/1GiB", f"127.0.0.1:{ports[1]}"
    ca = machine.path("/etc/sbws/ca.pem")
    ca.parent.mkdir(exist_ok=True)
    command = [args.bwscan, "serve", "--no-config", "--listen", f"127.0.0.1:{ports[0]}"]
    command += ["--self-signed", "127.0.0.1", "--write-ca", str(ca)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(lambda: (server.kill(), server.wait()))
    say("the machine boots")
    machine.boot(stack)
    machine.run("apt-get purge -y bwscan", check=None)
    directory = network.move_authority(machine)
    say("sbws measures")
    sbws(machine, network, url)
    until("a vote with sbws's file", lambda: voted(directory, "software=sbws"))
    say("bwscan comes")
    install(machine, args.package)
    take_over(machine, network, metrics)
    run_service(machine, metrics)
    pending = monitor(machine, metrics)
    switch(machine, directory)
    disturb(machine, metrics)
    server.kill()
    until("an alert for the destination", lambda: pending("BwscanMeasuresNothing"))
    say("the alert BwscanMeasuresNothing is pending")
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(lambda: (server.kill(), server.wait()))
    upgrade_and_remove(machine, args.package, place, metrics)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    packages = sorted((ROOT / "target/debian").glob("bwscan_*.deb"))
    parser.add_argument("--package", default=packages[0] if packages else None, help="the package")
    parser.add_argument("--bwscan", default=ROOT / "target/debug/bwscan", help="the program for the network")
    parser.add_argument("--folder", help="the machine, kept afterwards [default: a temporary one]")
    args = parser.parse_args()
    if not args.package:
        parser.error('there is no package; run "make deb"')
    if os.geteuid():
        parser.error("must run as root: it boots a machine")
    for program in ["debootstrap", "systemd-nspawn", "nsenter", "dpkg-deb"]:
        if not shutil.which(program):
            parser.error(f"{program} is missing; please install it")
    args.package = pathlib.Path(args.package).resolve()
    args.bwscan = str(pathlib.Path(args.bwscan).resolve())
    # What was started is ended, also when somebody ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("try_machine: ended"))
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="try-machine-")))
        try:
            walk(args, stack, place)
        except Failed as failure:
            sys.exit(f"try_machine: FAILED: {failure}")
    say("try_machine: passed")


main()
