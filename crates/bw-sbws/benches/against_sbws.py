#!/usr/bin/env python3
"""Import and generate against `sbws generate` on the same made-up home.

usage: against_sbws.py WORKER [--relays N] [--days N] [--times N] [--growth] [--keep DIR]

WORKER is the compiled benches/worker.rs. Times are CPU seconds of all threads (user
and system), with the elapsed time in brackets; memory is the peak resident set.
Prints ratios; judges nothing.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

MEASURE = """
import json, resource, subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": done.returncode, "text": done.stdout.decode()[-2000:],
    "cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - start,
    "rss": used.ru_maxrss / 1024}))
"""


def run(what, *command, env=None):
    out = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True,
                         stdout=subprocess.PIPE, env=env).stdout
    took = json.loads(out)
    if took["code"]:
        sys.exit("%s failed: %s" % (what, took["text"]))
    print("%-28s %8.2f s  [%8.2f s] %8.1f MB" % (what, took["cpu"], took["wall"], took["rss"]),
          flush=True)
    return took


def sizes(path):
    return sum(os.path.getsize(os.path.join(root, name))
               for root, _, names in os.walk(path) for name in names) / 1e6


def ours(worker, directory, relays, days, times):
    home = os.path.join(directory, "home-%d" % relays)
    store = os.path.join(directory, "store-%d" % relays)
    made = subprocess.run([worker, "home", home, str(relays), str(days), str(times)], check=True,
                          stdout=subprocess.PIPE).stdout.decode().split()
    print("%d relays, %d days: %s results, %.0f MB of lines" % (
        relays, days, made[0], sizes(os.path.join(home, "datadir"))))
    steps = {"import": run("import", worker, "import", home, store)}
    print("store: %.0f MB" % sizes_of_store(store))
    for step in ("generate", "compat"):
        steps[step] = run(step, worker, step, store, os.path.join(directory, step + ".v3bw"))
    return home, " ".join(made[1:]), steps


def sizes_of_store(store):
    return sum(os.path.getsize(store + end) for end in ("", "-wal") if os.path.exists(store + end)) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worker")
    parser.add_argument("--relays", type=int, default=8000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--times", type=int, default=120)
    parser.add_argument("--growth", action="store_true", help="ours alone, with ten times the relays")
    parser.add_argument("--keep", help="work here, and leave it")
    args = parser.parse_args()
    args.worker = os.path.abspath(args.worker)
    with tempfile.TemporaryDirectory() as temporary:
        directory = args.keep or temporary
        os.makedirs(directory, exist_ok=True)
        home, now, steps = ours(args.worker, directory, args.relays, args.days, args.times)
        if args.growth:
            _, _, more = ours(args.worker, directory, args.relays * 10, args.days, args.times)
            for step, took in steps.items():
                print("%s with ten times the relays: %.1f times the time, %.1f times the memory" % (
                    step, more[step]["cpu"] / took["cpu"], more[step]["rss"] / took["rss"]))
            return
        with open(os.path.join(home, "sbws.ini"), "w") as config:
            config.write("[paths]\nsbws_home = %s\n[scanner]\nnickname = bench\ncountry = ZZ\n"
                         "[destinations]\nfoo = on\n[destinations.foo]\nurl = https://x.example/1G\n"
                         "country = ZZ\n[logging]\nto_file = no\nto_stdout_level = error\n" % home)
        theirs = os.path.join(home, "v3bw", "sbws.v3bw")
        peer = run("sbws generate", "faketime", "-f", now, "sbws", "-c",
                   os.path.join(home, "sbws.ini"), "generate", "--output", theirs,
                   env=dict(os.environ, TZ="UTC"))
        for step, took in steps.items():
            print("%-9s sbws takes %6.1f times the CPU time, %6.1f times the elapsed time, "
                  "%5.1f times the memory" % (step, peer["cpu"] / took["cpu"],
                                              peer["wall"] / took["wall"], peer["rss"] / took["rss"]))
        relays = [[line for line in open(path) if line.startswith("bw=")]
                  for path in (theirs, os.path.join(directory, "compat.v3bw"))]
        print("relay lines: %d, %s" % (len(relays[0]), "equal" if relays[0] == relays[1] else "DIFFERENT"))


if __name__ == "__main__":
    main()
