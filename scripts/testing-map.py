#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Hold the testing map in Documentation/testing.rst against the last test run: each
row names tests, each of them ran and passed on each kernel that it is for, nothing else
of that run has failed either (the kernel's log, say), each errno of the API's tables
has a row that names it and its command, and so has each run with KVM in another mode.
Says what ran on which kernel, and of which tree that was. Part of make check.

A test is "program: case", or "program mode: case" for the run in a mode. In all of it *
stands for anything; one in the program's part stands for each of the runs that it can.

Results of another tree than this one are warned about, and are a failure with
--same-tree."""

import argparse
import re
import sys

import test

MAP = test.TOP / "Documentation" / "testing.rst"
API = test.TOP / "Documentation" / "virt" / "kvm" / "memory-attributes.rst"
MARK = ".. testing-map"
ERRNO = re.compile(r"\bE[A-Z0-9]{2,}\b")
COMMAND = re.compile(r"\bKVM_[A-Z0-9_]+\b")
HEADING = re.compile(r"^(\S.*)\n([-=~^])\2{2,}$", re.MULTILINE)


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


def tables_by_section(text):
    """Each list-table with the heading that it's under."""
    headings = list(HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends):
        for table in tables(text[heading.end():end]):
            yield heading[1], table


def plain(cell):
    return cell.replace("``", "").replace("\\", "")


class Ran:
    """What came of each case on each kernel, and what it says about which tree."""

    def __init__(self):
        # variant: {name: status}, the worst of the module's states.
        self.status = {variant: {} for variant in test.VARIANTS}
        self.groups = {variant: set() for variant in test.VARIANTS}
        self.trees = {}
        order = (test.FAIL, test.PASS, test.SKIP)
        for group in test.load_last():
            variant = group["variant"]
            if variant not in self.status:
                continue
            self.groups[variant].add(group["group"])
            self.trees.setdefault((group["tree"]["hash"], group["tree"]["commit"]), []).append(
                "%s/%s %s" % (variant, group["state"], group["group"]))
            for result in group["results"]:
                known = self.status[variant].get(result["name"], test.SKIP)
                self.status[variant][result["name"]] = min(known, result["status"],
                                                           key=order.index)

    def others(self):
        """The groups whose results are of another tree than this one."""
        now = test.tree_of_today()["hash"]
        return {commit or "unknown": groups for (hash_, commit), groups in self.trees.items()
                if not now or hash_ != now}


def variants_by_program():
    """The kernels that each program of ours is for, and each run of it in a mode."""
    return {job.name: job.variants for job in test.own_jobs()}


def spelled_out(name, programs):
    """A name of the map, once for each run that its program's part stands for."""
    program, colon, case = name.partition(":")
    runs = [run for run in programs if test.matches(program, run)]
    return [run + colon + case for run in runs] or [name]


def status_of(pattern, statuses):
    """The worst status of the tests that a name of the map stands for, in which * may
    be the variants of a fixture. None if there's none."""
    order = (test.FAIL, test.PASS, test.SKIP)
    found = [status for name, status in statuses.items() if test.matches(pattern, name)]
    return min(found, key=order.index) if found else None


def judge(name, ran, programs):
    """What is wrong with a test that a row names: by kernel, where it differs."""
    program = name.split(":")[0]
    group = "kunit" if program == "kunit" else program.split("_")[0]
    wrong, passed = [], False
    for variant in programs.get(program, test.VARIANTS):
        if group not in ran.groups[variant]:
            wrong.append("its group did not run on the %s kernel" % variant)
            continue
        status = status_of(name, ran.status[variant])
        passed |= status == test.PASS
        if status is None:
            wrong.append("did not run on the %s kernel" % variant)
        elif status == test.FAIL:
            wrong.append("failed on the %s kernel" % variant)
    if not passed and not wrong:
        wrong.append("passed on no kernel")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Hold the testing map against the last run.")
    parser.add_argument("--same-tree", action="store_true",
                        help="results of another tree are a failure")
    args = parser.parse_args()
    wrong = []
    text = MAP.read_text()
    if MARK not in text:
        print("%s has no %s" % (MAP, MARK))
        return 1
    found = tables(text.split(MARK, 1)[1])
    rows = found[0] if found else []
    if not rows:
        wrong.append("the testing map has no rows")

    ran, programs = Ran(), variants_by_program()
    if not ran.trees:
        print("no results of a test run: make test")
        return 1

    mapped = set()
    named = set()
    for row in rows:
        if len(row) != 3:
            wrong.append("not three columns: %s" % " | ".join(row))
            continue
        rule, where, tests = (plain(cell) for cell in row)
        names = [run for name in tests.split(",") if name.strip()
                 for run in spelled_out(name.strip(), programs)]
        if not names:
            wrong.append("no test for: %s" % rule)
        mapped.update(names)
        for name in names:
            wrong += ["%s: %s %s" % (rule, name, how) for how in judge(name, ran, programs)]
        commands, _, what = rule.partition(":")
        named.update((command, errno) for command in COMMAND.findall(commands)
                     for errno in ERRNO.findall(what))

    for section, table in tables_by_section(API.read_text()):
        for row in table:
            errno = plain(row[0])
            if re.fullmatch(ERRNO, errno) and (section, errno) not in named:
                wrong.append("no row of the testing map is about %s: %s (%s)"
                             % (section, errno, plain(row[1])))

    for variant, statuses in ran.status.items():
        wrong += ["%s failed on the %s kernel" % (name, variant)
                  for name, status in statuses.items() if status == test.FAIL]

    runs = {name.split(":")[0] for name in mapped}
    wrong += ["no row of the testing map names the run %s" % run for run in programs
              if " " in run and run not in runs]

    for variant in test.VARIANTS:
        say(variant, ran, mapped, programs)
    others = ran.others()
    for commit, groups in sorted(others.items()):
        print("!!! not of this tree, but of %s: %s" % (commit, ", ".join(sorted(groups))))
    if others and args.same_tree:
        wrong.append("results of another tree: make test")

    for line in dict.fromkeys(wrong):
        print(line)
    print("testing map: %d rules, %d problems" % (len(rows), len(wrong)))
    return 1 if wrong else 0


def say(variant, ran, mapped, programs):
    """One line: what of the map is for this kernel, and what came of it there."""
    here = [name for name in mapped
            if variant in programs.get(name.split(":")[0], test.VARIANTS)]
    statuses = [status_of(name, ran.status[variant]) for name in here]
    print("%s: of %d tests of the map %d passed, %d failed, %d were skipped, %d did not run"
          % (variant, len(here), *(statuses.count(status) for status in
                                   (test.PASS, test.FAIL, test.SKIP, None))))
    missing = {"kunit", *(name.split("_")[0] for name in programs)} - ran.groups[variant]
    if missing:
        print("!!! not run on the %s kernel: %s" % (variant, ", ".join(sorted(missing))))


if __name__ == "__main__":
    sys.exit(main())
