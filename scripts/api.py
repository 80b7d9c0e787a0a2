#!/usr/bin/env python3
"""Lists the public interface of each crate, or checks that the committed lists are current.

The lists in docs/api/ have every public item with its declaration, its own methods and
constants, and the traits that it implements. They are read from the pages that `cargo doc
--workspace --all-features --no-deps` has made, so that no other compiler is needed; `make check`
makes them just before.

usage: scripts/api.py           writes the lists
       scripts/api.py --check   fails if they are not current
"""

import difflib
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

LISTS = Path("docs/api")
DOC = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "doc"


def crates():
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    names = [p["name"] for p in metadata["packages"] if p.get("publish") != []]
    return sorted(name for name in names if name.startswith("bw-"))


def text(markup):
    """What a reader sees of code, in one line."""
    markup = re.sub(r"<summary.*?</summary>", "", markup, flags=re.DOTALL)
    markup = re.sub(r"</(span|div)>", "</> ", markup) if "#[" in markup else markup
    plain = html.unescape(re.sub(r"<[^>]*>", "", markup))
    plain = re.sub(r"// (Required|Provided) (associated \w+|method)s?", "", plain)
    plain = re.sub(r"/\* (private fields|[^*]*) \*/", "…", plain)
    return " ".join(plain.split())


def between(page, start, ends):
    """The part of a page from an element's id on to the next of others."""
    begin = page.find(f'id="{start}"')
    if begin < 0:
        return ""
    stops = [stop for stop in (page.find(f'id="{end}"', begin) for end in ends) if stop >= 0]
    return page[begin : min(stops, default=len(page))]


AFTER = ["trait-implementations", "synthetic-implementations", "blanket-implementations", "implementors", "object-safety"]


def item(path, name):
    page = path.read_text()
    declared = re.search(r'<pre class="rust (?:item-decl|macro)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    yield f"{name}: {text(declared.group(1)) if declared else '?'}"
    own = between(page, "implementations-list", AFTER)
    for method in re.findall(r'<h4 class="code-header">(.*?)</h4>', own, re.DOTALL):
        yield f"{name}:: {text(method)}"
    traits = between(page, "trait-implementations-list", AFTER[1:])
    traits = re.findall(r'<h3 class="code-header">(.*?)</h3>', traits, re.DOTALL)
    for trait in sorted({text(trait) for trait in traits}):
        if "StructuralPartialEq" not in trait:
            yield f"{name}: {trait}"


def listing(crate):
    root = DOC / crate.replace("-", "_")
    if not (root / "all.html").is_file():
        sys.exit(f"{root} is not there: run cargo doc --workspace --all-features --no-deps")
    lines = []
    links = re.findall(r'<li><a href="([^"]+)">', (root / "all.html").read_text())
    # Pages of modules that are gone may still lie about.
    for folder in sorted({Path(link).parent for link in links} | {Path()}):
        module, page = "::".join(folder.parts), root / folder / "index.html"
        for one in re.findall(r'<dt id="reexport\.[^"]*">(.*?)</dt>', page.read_text(), re.DOTALL):
            lines.append(f"module {module or 'crate'}: {text(one)}")
    for link in links:
        path = root / link
        kind, name = path.name.split(".")[:2]
        name = "::".join([*Path(link).parts[:-1], name])
        if path.is_file():
            lines += item(path, f"{kind} {name}")
    return "".join(f"{line}\n" for line in lines)


def main():
    check, stale = sys.argv[1:] == ["--check"], False
    LISTS.mkdir(parents=True, exist_ok=True)
    for crate in crates():
        file, now = LISTS / f"{crate}.txt", listing(crate)
        committed = file.read_text() if file.is_file() else ""
        if not check:
            file.write_text(now)
        elif now != committed:
            stale = True
            lines = committed.splitlines(), now.splitlines()
            sys.stderr.writelines(f"{line}\n" for line in difflib.unified_diff(*lines, str(file), crate, n=0, lineterm=""))
    if stale:
        sys.exit("the public interface has changed: run scripts/api.py, and tell it in CHANGELOG.md")


if __name__ == "__main__":
    main()
