#!/usr/bin/env python3
"""Drives `bwscan watch` in tmux at three sizes, over a simulated scan.

Usage: watch_sizes.py BWSCAN SIMULATED OUTPUT

Presses keys, resizes, quits, and looks whether the terminal is as it was. Writes what was
seen into OUTPUT, as text and as SVG.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = [(80, 24), (132, 40), (50, 14)]
PATIENCE = 60

# The eight colours, then their bright forms, on a dark ground.
COLOURS = ["#3b3b45", "#e06c75", "#8fc97a", "#d9b465", "#6fa8dc", "#c4a1e6", "#63c5c9", "#d7d7de"]
GROUND, INK, FAINT = "#17171a", "#d7d7de", "#8b8b96"


class Terminal:
    """A tmux server of its own, with one window."""

    def __init__(self, folder, width, height, command):
        # A server that ends may still hold its socket when the next one begins.
        own = tempfile.mkdtemp(dir=folder)
        self.tmux = ["tmux", "-S", f"{own}/tmux", "-f", "/dev/null"]
        size = ["-x", str(width), "-y", str(height)]
        self.run("new-session", "-d", *size, "sh", "-c", f"echo BEFORE; {command}; echo AFTER=$?; exec cat")

    def run(self, *arguments):
        done = subprocess.run([*self.tmux, *arguments], check=True, capture_output=True, text=True)
        return done.stdout

    def text(self, *more):
        return self.run("capture-pane", "-p", *more)

    def press(self, *keys):
        self.run("send-keys", *keys)

    def wait_for(self, pattern, there=True):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if bool(re.search(pattern, self.text())) == there:
                return
            time.sleep(0.1)
        what = "appear" if there else "go away"
        raise SystemExit(f"{pattern!r} did not {what}:\n{self.text()}")

    def end(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, check=False)


def svg(coloured, width, height):
    """A picture of what `capture-pane -e` gives."""
    cell, line = 8.4, 18
    # tmux tells a style where it begins, which may be lines before.
    rows, style = [], {}
    for number, text in enumerate(coloured.splitlines()[:height]):
        column, spans = 0, []
        for part in re.split(r"(\x1b\[[0-9;]*m)", text):
            code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
            if code:
                style = restyle(style, [int(one or 0) for one in code[1].split(";")])
            elif part:
                fill = style.get("fill", FAINT if style.get("dim") else INK)
                weight = ' font-weight="bold"' if style.get("bold") else ""
                # The length keeps columns straight, whatever the font.
                spans.append(
                    f'<tspan x="{12 + column * cell:.1f}" textLength="{len(part) * cell:.1f}"'
                    f' fill="{fill}"{weight}>{html.escape(part)}</tspan>'
                )
                column += len(part)
        rows.append(f'<text y="{26 + number * line}" xml:space="preserve">{"".join(spans)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 + width * cell:.0f} {24 + height * line}"'
        f' font-family="monospace" font-size="14"><rect width="100%" height="100%" rx="8" fill="{GROUND}"/>'
        + "\n".join(rows)
        + "</svg>\n"
    )


def restyle(style, codes):
    style = dict(style)
    if codes[:2] == [38, 5] and codes[2] < 16:
        style["fill"] = COLOURS[codes[2] % 8]
        return style
    for code in codes:
        if code == 0:
            style = {}
        elif code == 1:
            style["bold"] = True
        elif code == 2:
            style["dim"] = True
        elif code == 22:
            style.pop("bold", None), style.pop("dim", None)
        elif code == 39:
            style.pop("fill", None)
        elif 30 <= code <= 37:
            style["fill"] = COLOURS[code - 30]
        elif 90 <= code <= 97:
            style["fill"] = COLOURS[code - 90]
    return style


def drive(folder, bwscan, socket, output, width, height):
    name = f"{width}x{height}"
    terminal = Terminal(folder, width, height, f"{bwscan} watch --socket {socket}")
    try:
        terminal.wait_for(r"measuring \d\d")
        terminal.wait_for(r"\d \wB/s")
        time.sleep(12)  # so that there is something to see
        (output / f"{name}.txt").write_text(terminal.text())
        (output / f"{name}.svg").write_text(svg(terminal.text("-e"), width, height))
        terminal.press("s")
        terminal.wait_for("by interval")
        terminal.press("?")
        terminal.wait_for("┌ keys")
        (output / f"{name}-help.txt").write_text(terminal.text())
        terminal.press("Escape")
        # An arrow right behind it would be taken for one sequence with it.
        terminal.wait_for("┌ keys", there=False)
        terminal.press("Down", "Enter")
        terminal.wait_for("following")
        (output / f"{name}-follow.txt").write_text(terminal.text())
        terminal.run("resize-window", "-x", str(width + 20), "-y", str(height + 6))
        terminal.wait_for(r"relays in the consensus.*UTC")
        terminal.press("q")
        terminal.wait_for("AFTER=0")
        if "BEFORE" not in terminal.text():
            raise SystemExit(f"the screen is not as it was:\n{terminal.text()}")
        terminal.press("typed", "Enter")
        terminal.wait_for("typed\ntyped")  # echoed, and repeated by cat
    finally:
        terminal.end()
    print(f"{name}: as it should be")


def killed(folder, bwscan, socket):
    """A signal leaves the terminal as it was, too."""
    command = f"{bwscan} watch --socket {socket} & echo $! > {folder}/pid; fg"
    terminal = Terminal(folder, 80, 24, f"bash -mc '{command}'")
    try:
        terminal.wait_for(r"measuring \d\d")
        os.kill(int(Path(folder, "pid").read_text()), 15)
        terminal.wait_for("AFTER=")
        if "BEFORE" not in terminal.text():
            raise SystemExit(f"the screen is not as it was:\n{terminal.text()}")
    finally:
        terminal.end()
    print("SIGTERM: as it should be")


def main():
    bwscan, simulated, output = (Path(argument).absolute() for argument in sys.argv[1:])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "watch.sock"
        scan = subprocess.Popen([simulated, socket, "2000", "600"])
        try:
            for width, height in SIZES:
                drive(folder, bwscan, socket, output, width, height)
            killed(folder, bwscan, socket)
        finally:
            scan.terminate()
            scan.wait()


main()
