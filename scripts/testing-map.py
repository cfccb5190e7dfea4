#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Hold the testing map in Documentation/testing.rst against the last test run: each
row names tests, each of them ran and passed, and each errno of the API's tables has
a row. Part of make check."""

import json
import re
import sys

import test

MAP = test.TOP / "Documentation" / "testing.rst"
API = test.TOP / "Documentation" / "virt" / "kvm" / "memory-attributes.rst"
MARK = ".. testing-map"
ERRNO = re.compile(r"\bE[A-Z0-9]{2,}\b")


def tables(text):
    """The list-tables of an RST text, each a list of rows, each a list of cells;
    the header row is left out."""
    found, rows, inside, indent = [], [], False, 0
    for line in text.splitlines() + [""]:
        if line.lstrip().startswith(".. list-table::"):
            rows, inside, indent = [], True, len(line) - len(line.lstrip())
            found.append(rows)
        elif inside and line.strip() and len(line) - len(line.lstrip()) <= indent:
            inside = False
        elif inside:
            match = re.match(r"^\s+(\* )?\s*- ?(.*)$", line)
            if match and (match[1] or rows):
                if match[1]:
                    rows.append([])
                rows[-1].append(match[2].strip())
            elif rows and line.strip():
                rows[-1][-1] = (rows[-1][-1] + " " + line.strip()).strip()
    return [rows[1:] for rows in found]


def plain(cell):
    return cell.replace("``", "").replace("\\", "")


def main():
    wrong = []
    text = MAP.read_text()
    if MARK not in text:
        print("%s has no %s" % (MAP, MARK))
        return 1
    found = tables(text.split(MARK, 1)[1])
    rows = found[0] if found else []
    if not rows:
        wrong.append("the testing map has no rows")

    try:
        ran = json.loads((test.RESULTS / "last.json").read_text())
    except (OSError, ValueError):
        print("no results of a test run: make test")
        return 1
    passed = {r["name"] for r in ran if r["status"] == test.PASS}
    skipped = {r["name"] for r in ran if r["status"] == test.SKIP}

    named = set()
    for row in rows:
        if len(row) != 3:
            wrong.append("not three columns: %s" % " | ".join(row))
            continue
        rule, where, tests = (plain(cell) for cell in row)
        names = [name.strip() for name in tests.split(",") if name.strip()]
        if not names:
            wrong.append("no test for: %s" % rule)
        for name in names:
            if name not in passed:
                how = "was skipped" if name in skipped else "did not run, or failed"
                wrong.append("%s: %s (%s)" % (rule, name, how))
        named.update(ERRNO.findall(rule + " " + where))

    for table in tables(API.read_text()):
        for row in table:
            if re.fullmatch(ERRNO, plain(row[0])) and plain(row[0]) not in named:
                wrong.append("no row of the testing map is about %s (%s)"
                             % (plain(row[0]), plain(row[1])))

    for line in dict.fromkeys(wrong):
        print(line)
    print("testing map: %d rules, %d problems" % (len(rows), len(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
