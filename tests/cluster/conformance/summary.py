#!/usr/bin/env python3
"""Follows the conformance suite's output and says how it ended.

usage: summary.py [--follow PID] SUITE.log EXPECTED [ONLY]

Names each test when it begins, then prints how each went (which the suite says at its end only),
the suite's own closing lines and a count. Exits with 1 unless exactly EXPECTED tests passed and none
failed or was skipped. Tests for features that were not asked for (those of gateways) are not
counted: the suite walks through them too. With ONLY, the name of a test, the others are not either.
"""

import re
import sys
import time
from pathlib import Path

# The test function, then one test of the suite; what is deeper is a part of a test.
RESULT = re.compile(r"^ {4}--- (PASS|FAIL|SKIP): TestConformance/([^/ ]+) \((.*)\)")
# Whichever comes first: not every test has parts, and not every one says on which features it relies.
STARTED = re.compile(r"Running (\S+), relying on|=== RUN +TestConformance/([^/ ]+)/")
CLOSING = re.compile(r"(--- (?:PASS|FAIL): TestConformance |PASS$|FAIL$|panic:)")
NOT_ASKED = re.compile(r"Skipping (\S+): suite does not support")


def lines(path: Path, pid: int | None):
    """The lines of a file; with a process id, those that come while the process lives, too."""
    with path.open(errors="replace") as file:
        rest = ""
        while True:
            alive = pid is not None and Path(f"/proc/{pid}").exists() and not zombie(pid)
            chunk = file.read()
            rest += chunk
            *whole, rest = rest.split("\n")
            yield from whole
            if not chunk and not alive:
                if rest:
                    yield rest
                return
            if not chunk:
                time.sleep(0.2)


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def main() -> int:
    arguments = sys.argv[1:]
    pid = None
    if arguments[0] == "--follow":
        pid = int(arguments[1])
        arguments = arguments[2:]
    path, expected, only = Path(arguments[0]), int(arguments[1]), arguments[2:]

    started = time.monotonic()
    results: dict[str, tuple[str, str]] = {}
    begun: set[str] = set()
    not_asked: set[str] = set()
    closing: list[str] = []
    for line in lines(path, pid):
        if match := NOT_ASKED.search(line):
            not_asked.add(match[1])
        if match := STARTED.search(line):
            name = match[1] or match[2]
            if name not in begun:
                begun.add(name)
                print(f"  {time.monotonic() - started:4.0f} s  {name}", flush=True)
        if match := RESULT.match(line):
            results[match[2]] = (match[1], match[3])
        if CLOSING.match(line):
            closing.append(line)

    counted = only or results.keys() - not_asked
    results = {name: result for name, result in results.items() if name in counted}
    print()
    for name, (result, took) in sorted(results.items()):
        print(f"  {result}  {name}  {took}")
    print("\n".join(closing) or "the suite said nothing at its end: see its log")
    verdicts = [result for result, _ in results.values()]
    count = {result: verdicts.count(result) for result in ("PASS", "FAIL", "SKIP")}
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    if count["PASS"] != expected:
        print(f"wanted: {expected} passed, 0 failed, 0 skipped")
        return 1
    return 1 if count["FAIL"] or count["SKIP"] else 0


if __name__ == "__main__":
    sys.exit(main())
