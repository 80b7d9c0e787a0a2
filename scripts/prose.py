#!/usr/bin/env python3
"""Fails where documentation opens with a question word or a sentence is too long.

The summary of an item (the first line of its `///` or `//!`, which for clap is the
help text) must begin with the thing, the actor, or in help an imperative. Sentences of
README.md and docs/*.md have at most 25 words, code and tables aside.

usage: scripts/prose.py [PATH...]    (default: what it covers)
"""

import pathlib
import re
import sys

SOURCES = ["crates/*/src", "crates/*/tests", "crates/*/benches", "crates/*/examples", "examples", "tests"]
PAGES = ["README.md", "CONTRIBUTING.md", "docs", "crates/*/README.md"]
QUESTIONS = re.compile(r"(What|How|Whether|Who|Whom|Whose|Which|Of)\b")
MOST_WORDS = 25


def summaries(text):
    """The first lines of runs of documentation comments, with their numbers."""
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*(///|//!)(?!/)\s?(.*)", line)
        kind = found.group(1) if found else ""
        if found and kind != before:
            yield number, found.group(2).strip()
        before = kind


def paragraphs(text):
    """The prose of Markdown: paragraphs and list items with the number of their first line."""
    fenced, number_of_first, words = False, 0, []
    for number, line in enumerate(text.splitlines() + [""], 1):
        bare = line.strip()
        is_fence = bare.startswith(("```", "~~~"))
        is_code = fenced or line.startswith("    ") and not words
        ends = not bare or is_fence or is_code or bare.startswith(("|", "#", "<"))
        if ends or re.match(r"([*+-]|\d+\.) ", bare):
            if words:
                yield number_of_first, " ".join(words)
            words = []
        if not ends:
            if not words:
                number_of_first = number
            words.append(re.sub(r"^([*+-]|\d+\.) ", "", bare))
        fenced ^= is_fence


def sentences(paragraph):
    """Its sentences; code is one word, and of a link its text counts."""
    text = re.sub(r"`+[^`]+`+", "CODE", paragraph)
    text = re.sub(r"\]\([^)]*\)|\]\[[^\]]*\]", "]", text)
    text = re.sub(r"<https?:[^>]*>", "LINK", text)
    after = r"[*_)\]\"]*\s+(?=[\[*_(\"\w])"
    return re.split(rf"(?<!\b[a-z]\.[a-z]\.)(?<=[.!?]){after}", text)


def problems_of_source(path):
    for number, summary in summaries(path.read_text()):
        if QUESTIONS.match(summary):
            yield f"{path}:{number}: opens with a question word: {summary}"


def problems_of_page(path):
    for number, paragraph in paragraphs(path.read_text()):
        for sentence in sentences(paragraph):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > MOST_WORDS:
                start = " ".join(words[:8])
                yield f"{path}:{number}: a sentence of {len(words)} words: {start} …"


def files(paths):
    for path in map(pathlib.Path, paths):
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(path.rglob("*.md")) + sorted(path.rglob("*.rs"))
        else:
            sys.exit(f"{path}: there is no such file")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    paths = sys.argv[1:] or [path for pattern in SOURCES + PAGES for path in sorted(root.glob(pattern))]
    problems = []
    for path in files(paths):
        path = path.relative_to(root) if path.is_absolute() else path
        check = problems_of_source if path.suffix == ".rs" else problems_of_page
        problems.extend(check(path))
    print("\n".join(problems))
    if problems:
        sys.exit(f"{len(problems)} places; name the thing or the actor first, and keep to {MOST_WORDS} words")


if __name__ == "__main__":
    main()
