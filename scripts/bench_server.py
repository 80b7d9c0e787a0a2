#!/usr/bin/env python3
"""Throughput of `bwscan serve` beside lighttpd and Caddy, by wrk, on this machine.

All serve 1 GiB, plain and over TLS with the same certificate. wrk asks for ranges, by turns of
one and the others. Ratios to the faster of the others in the same turn are printed, with their
median and range: above 1 bwscan is faster. Then the memory that a connection takes whose
request does not end.

Needs lighttpd, lighttpd-mod-openssl, caddy, wrk and openssl (scripts/setup.sh bench installs
them).
Tool and server share the machine's cores: ratios say something, rates do not.

usage: scripts/bench_server.py --bwscan PATH [--turns N] [--seconds N]
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Name, last byte of the range, connections.
CASES = [("64 MiB", (64 << 20) - 1, 8), ("1 MiB", (1 << 20) - 1, 32), ("16 KiB", (16 << 10) - 1, 64)]
UNFINISHED = 500


def program(name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    return found or sys.exit(f"no {name}; scripts/setup.sh bench installs it")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on port {port}")


def certificate(place):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(place / "key.pem"), "-out", str(place / "chain.pem")]
    subprocess.run(command, check=True, capture_output=True)
    both = (place / "key.pem").read_text() + (place / "chain.pem").read_text()
    (place / "both.pem").write_text(both)


def lighttpd(place, port, tls):
    lines = [
        f'server.document-root = "{place / "files"}"',
        f"server.port = {port}",
        'server.bind = "127.0.0.1"',
        "server.max-keep-alive-requests = 1000000",
        f"server.max-worker = {os.cpu_count()}",
    ]
    if tls:
        lines += ['server.modules = ("mod_openssl")', 'ssl.engine = "enable"', f'ssl.pemfile = "{place}/both.pem"']
    config = place / f"lighttpd-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    # With workers it ends its whole process group.
    command = [program("lighttpd"), "-D", "-f", str(config)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def caddy(place, port, tls):
    certificate = f"tls {place}/chain.pem {place}/key.pem" if tls else ""
    config = place / f"caddy-{port}.conf"
    config.write_text(
        "{\n admin off\n auto_https off\n}\n"
        f"{'https' if tls else 'http'}://127.0.0.1:{port} {{\n"
        f" root * {place / 'files'}\n {certificate}\n file_server\n}}\n"
    )
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    environment = {**os.environ, "HOME": str(place), "XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def bwscan(path, place, port, tls):
    command = [path, "serve", "--no-config", "--listen", f"127.0.0.1:{port}"]
    command += ["--connections-per-client", "1024"]
    if tls:
        command += ["--tls-cert", str(place / "chain.pem"), "--tls-key", str(place / "key.pem")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wrk(url, last, connections, seconds):
    """Megabytes per second, and requests that failed."""
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
    command += ["-H", f"Range: bytes=0-{last}", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", text)
    unit = {"": 1e-6, "K": 1024e-6, "M": 1.048576, "G": 1073.741824}[rate.group(2)]
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return float(rate.group(1)) * unit, int(errors.group(1)) if errors else 0


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def unfinished(path, place):
    """Bytes of memory per connection of 500 whose head of 15 kB does not end."""
    port = free_port()
    # Doors are for 64 connections of one client, so that they come from many.
    server = bwscan(path, place, port, False)
    try:
        wait_for(port)
        before, open_sockets = resident(server), []
        for number in range(UNFINISHED):
            one = socket.create_connection(("127.0.0.1", port), 5, (f"127.0.1.{number % 250 + 1}", 0))
            one.sendall(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 15_000)
            open_sockets.append(one)
        time.sleep(1)
        return (resident(server) - before) / UNFINISHED
    finally:
        stop(server)


def stop(process):
    process.terminate()
    process.wait(10)


def compare(options, place, tls):
    """Prints a line for each case."""
    scheme = "https" if tls else "http"
    ports = [free_port() for _ in range(3)]
    servers = [
        bwscan(options.bwscan, place, ports[0], tls),
        lighttpd(place, ports[1], tls),
        caddy(place, ports[2], tls),
    ]
    try:
        for port in ports:
            wait_for(port)
        for name, last, connections in CASES:
            turns = []
            for turn in range(options.turns):
                rates = [0.0] * len(ports)
                order = range(len(ports))
                for which in order if turn % 2 else reversed(order):
                    url = f"{scheme}://127.0.0.1:{ports[which]}/1GiB"
                    rates[which], errors = wrk(url, last, connections, options.seconds)
                    if errors:
                        sys.exit(f"{url}: {errors} requests failed")
                turns.append(rates)
            ratios = [ours / max(others) for ours, *others in turns]
            medians = "".join(f"{statistics.median(one):10.0f}" for one in zip(*turns))
            print(
                f"{scheme:6} {name:>10}, {connections:2}     {medians}"
                f"        {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
                flush=True,
            )
    finally:
        for server in servers:
            stop(server)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bwscan", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        certificate(place)
        (place / "files").mkdir()
        with open(place / "files" / "1GiB", "wb") as file:
            file.truncate(1 << 30)
        print("             range, connections   bwscan  lighttpd     Caddy MB/s   ratio to the faster")
        for tls in [False, True]:
            compare(options, place, tls)
        print(f"memory per connection with an unfinished head: {unfinished(options.bwscan, place) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
