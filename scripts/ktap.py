# SPDX-License-Identifier: GPL-2.0
"""Read TAP (kselftest) and KTAP (KUnit) into flat cases.

The kernel's own parser (tools/testing/kunit/kunit_parser.py) drops the reason of
a skip and prints as it goes; what is needed here is a list, and to be strict: a
plan that does not hold, a case that never reported and a suite that fails
without a case are cases that failed.
"""

import dataclasses
import re
import sys

PASS, FAIL, SKIP = "pass", "fail", "skip"

_HEADER = re.compile(r"^( *)K?TAP version \d+\s*$")
_PLAN = re.compile(r"^( *)1\.\.(\d+)(?:\s*#\s*(SKIP)\b[\s:-]*(.*))?\s*$")
_RESULT = re.compile(
    r"^( *)(ok|not ok) (\d+)(?:\s+-)?(?:\s+([^#]*?))?\s*(?:#\s*(\w+)?[\s:-]*(.*))?$")
_BAIL = re.compile(r"^ *Bail out!\s*(.*)$")


@dataclasses.dataclass
class Case:
    name: str
    status: str
    reason: str = ""


class _Level:
    """The results of one nesting level since the suite around it began."""

    def __init__(self):
        self.plan = None
        self.results = 0
        self.in_order = True
        self.cases = []

    def close(self):
        cases = list(self.cases)
        if self.plan is None:
            cases.append(Case("plan", FAIL, "the output has no plan"))
        elif self.plan != self.results:
            cases.append(Case("plan", FAIL, "%d results were planned and %d came"
                              % (self.plan, self.results)))
        elif not self.in_order:
            cases.append(Case("plan", FAIL, "results are numbered out of order"))
        elif not cases:
            cases.append(Case("plan", FAIL, "there is no case"))
        return cases


class _Parser:
    def __init__(self):
        self.levels = {}
        self.cases = []
        self.seen = False

    def level(self, indent):
        return self.levels.setdefault(len(indent) // 4, _Level())

    def deeper_than(self, depth):
        return [d for d in sorted(self.levels) if d > depth]

    def feed(self, line):
        line = line.rstrip()
        match = _HEADER.match(line)
        if match:
            self.seen = True
            if not match[1]:
                self.finish()
            return
        match = _PLAN.match(line)
        if match:
            self.seen = True
            self.plan(match)
            return
        match = _RESULT.match(line)
        if match:
            self.seen = True
            self.result(match)
            return
        match = _BAIL.match(line)
        if match:
            self.level("").cases.append(Case("bail out", FAIL, match[1]))

    def plan(self, match):
        level = self.level(match[1])
        if level.plan is not None or level.results:
            # A child of a test program that skips prints a plan of its own.
            return
        level.plan = int(match[2])
        if match[3]:
            level.plan = 1
            level.results = 1
            level.cases.append(Case("", SKIP, match[4]))

    def result(self, match):
        indent, verdict, number, name, directive, text = match.groups()
        name = (name or "").strip()
        status = PASS if verdict == "ok" else FAIL
        reason = text or ""
        # A directive stands above the verdict; anything else after # is prose.
        if (directive or "").upper() in ("SKIP", "XFAIL", "TODO"):
            status = SKIP
        elif directive:
            reason = (directive + " " + reason).strip()
        depth = len(indent) // 4
        children = []
        for deeper in self.deeper_than(depth):
            children += self.levels.pop(deeper).close()
        level = self.level(indent)
        level.results += 1
        level.in_order &= int(number) == level.results
        if not children:
            level.cases.append(Case(name, status, reason))
            return
        for child in children:
            child.name = name + "." + child.name if child.name else name
            level.cases.append(child)
        if status == FAIL and all(c.status != FAIL for c in children):
            level.cases.append(Case(name, FAIL, reason or "the suite failed, none of its cases did"))

    def finish(self):
        for depth in sorted(self.levels, reverse=True):
            if depth > 0:
                self.cases += self.levels[depth].close()
                self.cases.append(Case("suite", FAIL, "a suite began and did not end"))
        if 0 in self.levels:
            self.cases += self.levels[0].close()
        self.levels = {}

    def end(self):
        self.finish()
        if self.seen and not self.cases:
            self.cases.append(Case("plan", FAIL, "there is no case"))


def parse(lines):
    """The cases in lines, or None where there is no TAP at all."""
    parser = _Parser()
    for line in lines:
        parser.feed(line)
    parser.end()
    return parser.cases if parser.seen else None


def _names(text):
    return [(c.name, c.status) for c in parse(text.splitlines()) or []]


def self_test():
    """What the strictness above promises, checked by make check."""
    assert parse(["Random seed: 0x1", "ok then, no TAP here"]) is None
    assert _names("TAP version 13\n1..2\n# RUN\nok 1 global.a\nnot ok 2 global.b\n# Totals\n") == [
        ("global.a", PASS), ("global.b", FAIL)]
    assert _names("TAP version 13\n1..2\nok 1 a\n") == [("a", PASS), ("plan", FAIL)]
    assert _names("TAP version 13\nok 1 a\n") == [("a", PASS), ("plan", FAIL)]
    assert _names("TAP version 13\n1..2\nok 1 a\nok 1 a\n") == [
        ("a", PASS), ("a", PASS), ("plan", FAIL)]
    assert _names("TAP version 13\n") == _names("TAP version 13\n1..0\n") == [("plan", FAIL)]
    assert ("s.plan", FAIL) in _names("1..1\n    1..0\nok 1 s\n")
    assert _names("1..0 # SKIP - Requirement not met: x") == [("", SKIP)]
    assert parse(["1..1", "ok 1 a # SKIP no such CPU"])[0].reason == "no such CPU"
    assert _names("1..1\n1..0 # SKIP child\nok 1 a # SKIP child\n") == [("a", SKIP)]
    kunit = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n" \
            "    # a: pass:1\n    ok 1 a\n    not ok 2 b\nnot ok 1 s\n"
    assert _names(kunit) == [("s.a", PASS), ("s.b", FAIL)]
    assert _names(kunit + kunit) == _names(kunit) * 2
    assert ("suite", FAIL) in _names(kunit.replace("not ok 1 s\n", ""))
    assert _names("1..1\n    1..2\n    ok 1 a\nok 1 s\n") == [("s.a", PASS), ("s.plan", FAIL)]
    assert _names("1..1\n    1..1\n    ok 1 a\nnot ok 1 s\n") == [("s.a", PASS), ("s", FAIL)]


if __name__ == "__main__":
    self_test()
    print("ktap.py: self test passed", file=sys.stderr)
