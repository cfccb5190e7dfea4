#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""make test: boot the patched host in QEMU, run the test programs there, and say
what came out of it.

A boot is of one variant of the kernel and one state of the module ("mainline": not
loaded, "module": loaded), and the work of a variant and state is shared out among
several, of which two run at a time. What a boot has to do is a list of jobs; a job's
output is TAP, KTAP or an exit status. Everything that is judged is a case: the
cases of the programs, and those of this script, such as that the module (or KVM
itself) was seen to answer, that nothing leaked, that the module could be unloaded.
The last line is "N passed, N failed, N skipped".
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import threading
import time

import ktap
from ktap import FAIL, PASS, SKIP

TOP = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(
    os.environ.get("KVM_MEMATTR_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    / "kvm-memattr").absolute()
TESTING = TOP / "tools" / "testing"
OWN_TESTS = TESTING / "selftests" / "kvm_memattr"
RESULTS = CACHE / "results"
# Of single programs, as make mutants runs them by the hundred: no others make room for them.
PROGRAM_RESULTS = CACHE / "program-results"

VARIANTS = ("release", "debug")
MAINLINE, MODULE = "mainline", "module"
# Which groups share a boot with the module: some of about the same length, since the
# longest decides how long all of them take. Others are in the last.
SHARES = (("kunit", "mainline"), ("attributes", "zap", "store"), ("rwx",), ())
# Seconds for one program; the debug kernel checks every access.
LIMIT = {"release": 300, "debug": 900}
# Seconds for what has no program of its own: boot, the leak scan, unloading.
SILENCE = {"release": 60, "debug": 300}
# The same for the kernel's own start, which the emulation may hang, and how often it is tried.
START_SILENCE = 90
START_TRIES = 3
KEEP_RUNS = 20

# What the kernel prints when something is wrong with it, whatever the tests say.
SPLAT = re.compile(
    r"WARNING: |\bBUG\b|printk messages dropped|already present!|duplicate filename|KASAN: |UBSAN: |KCSAN: |KFENCE: |Oops\b"
    r"|INFO: task .* blocked|INFO: (?:possible|inconsistent|suspicious|trying|lockdep)"
    r"|rcu: INFO:|rcu_\w+ (?:detected|self-detected)|suspicious RCU usage"
    r"|possible (?:circular|recursive|irq lock)|inconsistent lock state|bad unlock balance"
    r"|held lock freed|lock held when returning|sleeping function called"
    r"|refcount_t: |list_(?:add|del) corruption|soft lockup|hard LOCKUP|hung_task"
    r"|general protection fault|unable to handle|Kernel panic|Bad page (?:state|map)"
    r"|kmemleak: \d+ new suspected|Rust panic|rust_kernel: panicked|rust_panic|DEBUG_LOCKS_WARN_ON"
    r"|scheduling while atomic|Out of memory: Killed|double free|stack-protector"
    r"|Objects remaining|tainted by a (?:crash|warning)|unchecked MSR access error"
    r"|page allocation failure|nobody cared|Memory cgroup out of memory")


class Problem(Exception):
    """Something that ends the run before there is anything to judge."""


@dataclasses.dataclass
class Job:
    group: str
    name: str           # as in the results
    command: str        # as in the guest
    program: str = ""   # file name of the program, if it is one
    checks: tuple = ()
    own: bool = False
    variants: tuple = VARIANTS
    limits: dict = dataclasses.field(default_factory=dict)

    def limit(self, variant):
        return self.limits.get(variant, LIMIT[variant])


@dataclasses.dataclass
class Outcome:
    """What the guest wrote between the marks of a job."""
    lines: list = dataclasses.field(default_factory=list)
    counts: dict = dataclasses.field(default_factory=lambda: {"before": {}, "after": {}})
    status: int = None
    seconds: float = 0.0
    began: float = 0.0


@dataclasses.dataclass
class Result:
    variant: str
    state: str
    group: str
    name: str
    status: str
    reason: str = ""
    # Did what it's of come to its end?
    ended: bool = True


def read_table(path, columns):
    """The rows of a text file with columns separated by |, comments left out."""
    rows = []
    if not path.exists():
        return rows
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        row = [field.strip() for field in line.split("|")]
        if len(row) != columns or not all(row):
            raise Problem("%s:%d: %d columns are wanted, none empty" % (path, number, columns))
        rows.append(row)
    return rows


# --- what there is to run ----------------------------------------------------

def mainline_jobs():
    jobs = []
    for command, checks in read_table(TESTING / "mainline-tests.txt", 2):
        program, *options = command.split()
        program = pathlib.PurePath(program).name
        words = [program] + options
        checks = tuple(checks.split())
        jobs.append(Job("mainline", " ".join(words), "/tests/" + " ".join(words), program, checks,
                        variants=("release",) if "slow" in checks else VARIANTS))
    return jobs


def variants_of(source):
    """The kernels that a program of ours is for: both, unless its source has a line
    such as /* variants: debug */."""
    marker = re.search(r"^/\* variants: (.*) \*/$", source.read_text(), re.MULTILINE)
    if not marker:
        return VARIANTS
    variants = tuple(marker[1].split())
    if not variants or not set(variants) <= set(VARIANTS):
        raise Problem("%s: unknown variant in '%s'" % (source, marker[0]))
    return variants


def modes_of(source):
    """What a program of ours is run with besides KVM's defaults, each in a run of its
    own: parameters of KVM's modules, in a line such as /* modes: npt=0 tdp_mmu=0 */. On
    the release kernel only: the debug kernel would take too long for all of them."""
    marker = re.search(r"^/\* modes: (.*) \*/$", source.read_text(), re.MULTILINE)
    return marker[1].split() if marker else []


def left_out_of(source, mode):
    """Arguments that leave out the variants of fixtures that there's nothing to run for in
    a mode, as KVM has not got there what they are about: each line of the source such as
    /* not with npt=0 tdp_mmu=0: protected */ names modes and variants."""
    lines = re.findall(r"^/\* not with (.*): (.*) \*/$", source.read_text(), re.MULTILINE)
    unknown = {word for modes, _ in lines for word in modes.split()} - set(modes_of(source))
    if unknown:
        raise Problem("%s: variants are left out of modes that it has not: %s"
                      % (source, " ".join(sorted(unknown))))
    return "".join(" -V " + variant for modes, variants in lines if mode in modes.split()
                   for variant in variants.split())


def limits_of(source):
    """The seconds that a program of ours may take, where its source has a line such
    as /* seconds: release 600, debug 1800 */."""
    marker = re.search(r"^/\* seconds: (.*) \*/$", source.read_text(), re.MULTILINE)
    if not marker:
        return {}
    limits = {}
    for word in marker[1].split(","):
        match = re.fullmatch(r"\s*(\w+) (\d+)", word)
        if not match or match[1] not in VARIANTS:
            raise Problem("%s: no variant with its seconds in '%s'" % (source, marker[0]))
        limits[match[1]] = int(match[2])
    return limits


def own_jobs():
    """Our programs: <group>_<what>_test.c."""
    jobs = []
    for source in sorted(OWN_TESTS.glob("*_test.c")):
        name = source.stem
        for mode in ["", *modes_of(source)]:
            command = "/tests/" + name
            variants = variants_of(source)
            if mode:
                variants = tuple(set(variants) & {"release"})
            jobs.append(Job(name.split("_")[0], " ".join([name, mode]).strip(),
                            "with_kvm %s %s%s" % (mode, command, left_out_of(source, mode))
                            if mode else command,
                            name, ("own",), True, variants, limits_of(source)))
    return jobs


def groups_of(jobs):
    return ["mainline", "kunit"] + sorted({job.group for job in jobs if job.own})


def share_of(group):
    """The number of the boot that a group is in."""
    return next((n for n, share in enumerate(SHARES) if group in share), len(SHARES) - 1)


def plan(jobs, variant, groups, control):
    """Module state, name, groups and jobs of each boot; the jobs are in order."""
    wanted = [job for job in jobs if job.group in groups and variant in job.variants]
    if control:
        wanted = [job for job in wanted if job.own]
        return [(MAINLINE, "control", groups, wanted)] if wanted else []
    boots = []
    mainline = [job for job in wanted if not job.own]
    if mainline:
        boots.append((MAINLINE, "mainline", ["mainline"], mainline))
    for number in range(len(SHARES)):
        share = [group for group in groups if share_of(group) == number]
        list_ = [job for job in wanted if job.group in share]
        if list_ or "kunit" in share:
            boots.append((MODULE, "-".join(share), share, list_))
    return boots


def side_by_side(boots):
    """The boots, or two halves of the only one, for two machines at a time."""
    if len(boots) != 1:
        return boots
    (state, about, groups, jobs), = boots
    if len(jobs) < 2:
        return boots
    rest = [group for group in groups if group != "kunit"]
    return [(state, about, groups, jobs[0::2]), (state, about + "-2", rest, jobs[1::2])]


# --- one boot ----------------------------------------------------------------

class Boot:
    """A machine: its jobs, the guest's script, and what it has said so far."""

    def __init__(self, variant, state, about, groups, jobs, folder, module_dir, first_failure):
        self.variant, self.state = variant, state
        self.first_failure = first_failure
        self.stopped = False
        self.folder = folder / "-".join((variant, state, about))
        self.module_dir = module_dir
        self.jobs = list(jobs)
        self.unload = state == MODULE and bool(jobs)
        if state == MODULE and "kunit" in groups:
            self.jobs.insert(0, Job("kunit", "kunit", "kunit_suites"))
        if self.unload:
            self.jobs.append(Job("module", "kvm_memattr.ko: unload after " + about,
                                 "unload_module"))
        if variant == "debug":
            self.jobs.append(Job("leaks", "kmemleak: nothing leaked by " + about, "leak_scan"))
        self.outcomes = {}
        # How often the kernel has hung before it came to our script, and whether it has come.
        self.hung = 0
        self.up = False
        self.done = False
        self.timed_out = False
        self.setup_error = []

    def script(self):
        lines = ["load_kvm || exit", "load_module kvm_memattr_observer || exit",
                 # Enough for the huge page variants, little enough for the rest.
                 "echo 64 > /proc/sys/vm/nr_hugepages"]
        loaded = self.state != MODULE
        for number, job in enumerate(self.jobs):
            if not loaded and job.group != "kunit" and (job.program or job.group == "module"):
                lines.append("load_module kvm_memattr || exit")
                loaded = True
            lines.append("job %d %d %s" % (number, job.limit(self.variant), job.command))
        return "\n".join(lines).replace("|| exit", "|| { echo @@stop; reboot -f; }") + "\n"

    def run(self, report):
        self.folder.mkdir(parents=True)
        (self.folder / "jobs").write_text(self.script())
        binaries = CACHE / "selftests" / "bin"
        programs = sorted({str(binaries / job.program) for job in self.jobs if job.program})
        env = dict(os.environ)
        if self.module_dir:
            env["MODULE_DIR"] = str(self.module_dir)
        if any(job.own for job in self.jobs):
            # Room for one page of 1 GiB, which others may borrow: later on there is no
            # such stretch of memory.
            env["BOOT_PARAMS"] = "hugetlb_cma=1G " + env.get("BOOT_PARAMS", "")
        subprocess.run([TOP / "scripts" / "initramfs.sh", self.variant, self.folder, *programs],
                       check=True, env=env)
        try:
            self.start(env, report)
            while self.timed_out and not self.up and self.hung < START_TRIES - 1:
                self.hung += 1
                self.timed_out = False
                console = self.folder / "console.log"
                kept = console.rename(self.folder / ("console-%d.log" % self.hung))
                note("%s, %s: the kernel hung while it started, and is started again: %s"
                     % (self.variant, self.state, kept))
                self.start(env, report)
        finally:
            (self.folder / "initrd.cpio").unlink()

    def start(self, env, report):
        output = self.folder / "output.log"
        output.unlink(missing_ok=True)
        output.touch()
        qemu = subprocess.Popen([TOP / "scripts" / "boot.sh", self.variant, self.folder],
                                stdin=subprocess.DEVNULL, env=env,
                                stdout=(self.folder / "qemu.log").open("w"),
                                stderr=subprocess.STDOUT)
        try:
            with output.open(errors="replace") as stream:
                self.follow(stream, qemu, report)
        finally:
            if qemu.poll() is None:
                qemu.kill()
            qemu.wait()

    def follow(self, stream, qemu, report):
        """Read what the guest writes until the machine is gone or has nothing
        more to say for longer than any job may take."""
        current, partial, heard = None, "", time.monotonic()
        while not self.stopped:
            ended = qemu.poll() is not None
            text = stream.read()
            if text:
                heard = time.monotonic()
                *lines, partial = (partial + text).split("\n")
                for line in lines:
                    current = self.line(line, current, report)
            elif ended:
                return
            else:
                allowed = SILENCE[self.variant] if self.up else START_SILENCE
                if current is not None:
                    allowed += self.jobs[current].limit(self.variant)
                if time.monotonic() - heard > allowed:
                    self.timed_out = True
                    return
                time.sleep(0.05)

    def line(self, line, current, report):
        line = line.rstrip("\r")
        if line.startswith("@@"):
            word, *rest = line[2:].split()
            if word == "begin" and len(rest) == 2:
                current = int(rest[0])
                self.outcomes[current] = Outcome(began=float(rest[1]))
                return current
            if word == "count" and current is not None and len(rest) == 4:
                when, who, name, value = rest
                self.outcomes[current].counts[when][who, name] = int(value)
                return current
            if word == "end" and current is not None and len(rest) == 3:
                outcome = self.outcomes[current]
                outcome.status = int(rest[1])
                outcome.seconds = float(rest[2]) - outcome.began
                report(self, self.jobs[current], outcome)
                self.stopped = self.first_failure and (
                    outcome.status not in (0, 4)
                    or any(text.lstrip().startswith("not ok") for text in outcome.lines))
                return None
            if word == "up":
                self.up = True
                return current
            if word == "done":
                self.done = True
                return current
        if current is not None:
            self.outcomes[current].lines.append(line)
        elif line and not line.startswith("@@"):
            self.setup_error.append(line)
        return current


# --- judging -----------------------------------------------------------------

class Judge:
    def __init__(self, boot):
        self.boot = boot
        self.results = []

    def add(self, job, name, status, reason="", ended=True):
        known = {r.name for r in self.results}
        unique, n = name, 1
        while unique in known:
            n += 1
            unique = "%s (%d)" % (name, n)
        self.results.append(Result(self.boot.variant, self.boot.state, job.group, unique,
                                   status, " ".join(reason.split()), ended))

    def all(self):
        boot = self.boot
        for number, job in enumerate(boot.jobs):
            outcome = boot.outcomes.get(number)
            if (outcome is None or outcome.status is None) and boot.stopped:
                continue
            if outcome is None or outcome.status is None:
                self.unfinished(job, outcome)
                continue
            if job.program or job.group == "kunit":
                self.cases(job, outcome)
                self.proof(job, outcome)
            else:
                self.housekeeping(job, outcome)
        if not boot.done and not boot.stopped:
            self.add(Job("kernel", "the end", ""), "the end of the machine", FAIL,
                     "it did not get there", ended=False)
        self.kernel_log()
        return self.results

    def unfinished(self, job, outcome):
        boot = self.boot
        if boot.timed_out:
            how = "the machine said nothing for too long"
        else:
            how = "the machine went down"
        if outcome is not None:
            self.add(job, job.name, FAIL, how + " while it ran; last: "
                     + " / ".join(outcome.lines[-3:]), ended=False)
        else:
            self.add(job, job.name, FAIL, "did not run: " + how
                     + (" (%s)" % " / ".join(boot.setup_error[:12]) if boot.setup_error else ""),
                     ended=False)

    def cases(self, job, outcome):
        limit = job.limit(self.boot.variant)
        cases = ktap.parse(outcome.lines)
        if outcome.status == 137 and outcome.seconds >= limit - 1:
            for case in cases or []:
                if case.name != "plan":
                    self.add(job, case_name(job, case), case.status, case.reason)
            self.add(job, job.name + ": timeout", FAIL, "killed after %d s" % limit, ended=False)
            return
        if cases is None and job.group == "kunit":
            self.add(job, job.name, FAIL, "no suite reported: " + " / ".join(outcome.lines[-8:]))
            return
        if cases is None:
            self.by_status(job, outcome)
            return
        for case in cases:
            self.add(job, case_name(job, case), case.status, case.reason or
                     (explain(outcome.lines, case.name) if case.status == FAIL else ""))
        failed = any(case.status == FAIL for case in cases)
        skipped = all(case.status == SKIP for case in cases)
        if outcome.status not in ((4,) if skipped else (0,)) and not failed and \
                not (skipped and outcome.status == 0):
            self.add(job, job.name + ": exit status", FAIL,
                     "every case passed, and the exit status is %d: %s"
                     % (outcome.status, " / ".join(outcome.lines[-3:])))

    def by_status(self, job, outcome):
        """A program that prints no TAP is one case. All of ours print some."""
        text = [line for line in outcome.lines if line.strip()]
        if job.own:
            self.add(job, job.name, FAIL, "exit status %d, and no TAP: %s"
                     % (outcome.status, " / ".join(text[-8:])), ended=False)
            return
        if outcome.status == 0:
            self.add(job, job.name, PASS)
        elif outcome.status == 4:
            self.add(job, job.name, SKIP, " / ".join(text[-1:]))
        else:
            self.add(job, job.name, FAIL,
                     "exit status %d: %s" % (outcome.status, " / ".join(text[-8:])))

    def housekeeping(self, job, outcome):
        text = [line for line in outcome.lines if line.strip()]
        if outcome.status == 0 and not text:
            self.add(job, job.name, PASS)
        else:
            self.add(job, job.name, FAIL, " / ".join(text[:12]) or "exit status %d" % outcome.status)

    def proof(self, job, outcome):
        """That the module answered, or that KVM itself did: by the counters of
        the module and by the observer, which looks into KVM's own array."""
        if not job.program or job.own and CONTROL:
            return
        before, after = outcome.counts["before"], outcome.counts["after"]

        def rose(who, name):
            return after.get((who, name), 0) - before.get((who, name), 0)

        # A test of a header alone has nothing to prove.
        if job.own and ("observer", "vms") in after and not rose("observer", "vms"):
            return
        wrong = []
        if ("observer", "sets") not in after or rose("observer", "missed"):
            wrong.append("the observer did not see all calls")
        sets, array = rose("observer", "sets"), rose("observer", "array_used")
        if "vms" in job.checks and not rose("observer", "vms"):
            wrong.append("no VM was created")
        if "sets" in job.checks and not sets:
            wrong.append("no attributes were set")
        if self.boot.state == MAINLINE:
            if not wrong and not sets:
                return
            if sets and not array:
                wrong.append("KVM's own array was never used")
            self.add(job, job.name + ": KVM's own code answered",
                     FAIL if wrong else PASS, "; ".join(wrong))
            return
        if ("module", "load") not in after:
            wrong.append("the module is not loaded any more")
        elif after["module", "load"] != before.get(("module", "load")):
            # The test loaded the module anew: its counters say nothing about the
            # time before, and VMs without it were part of the test. They began at
            # zero, and such a test ends with VMs of the module just loaded.
            if not after.get(("module", "vms")):
                wrong.append("the module has seen no VM since")
            if not after.get(("module", "sets"), 0) + after.get(("module", "sets_unchanged"), 0):
                wrong.append("the module has set no attributes since")
            self.add(job, job.name + ": the module is loaded again and answered",
                     FAIL if wrong else PASS, "; ".join(wrong))
            return
        if sets and rose("module", "sets") + rose("module", "sets_unchanged") < sets:
            wrong.append("%d sets succeeded, the module counted %d" % (sets, rose("module", "sets")))
        if array:
            wrong.append("KVM's own array was used %d times" % array)
        # The module also counts a VM whose creation fails later on.
        if rose("module", "vms") < rose("observer", "vms"):
            wrong.append("%d VMs were created, the module saw %d"
                         % (rose("observer", "vms"), rose("module", "vms")))
        if "asked" in job.checks and not rose("module", "asked"):
            wrong.append("no guest fault asked the module")
        self.add(job, job.name + ": the module answered", FAIL if wrong else PASS, "; ".join(wrong))

    def kernel_log(self):
        """Each first splat of a job is a case that failed; so is one between jobs."""
        # Those of starts that hung come first.
        consoles = sorted(self.boot.folder.glob("console-*.log"))
        consoles.append(self.boot.folder / "console.log")
        text = "".join(path.read_text(errors="replace") for path in consoles if path.exists())
        current, seen = None, set()
        for number, outcome in self.boot.outcomes.items():
            if outcome.status is not None and "@@end %d" % number not in text \
                    and not self.boot.stopped:
                self.add(self.boot.jobs[number], self.boot.jobs[number].name + ": kernel log", FAIL,
                         "the log of the kernel is not whole", ended=False)
        for line in text.splitlines():
            mark = re.search(r"@@(begin|end) (\d+)", line)
            if mark:
                current = int(mark[2]) if mark[1] == "begin" else None
                continue
            if current in seen or not SPLAT.search(line):
                continue
            seen.add(current)
            if current is None:
                job = Job("kernel", "outside of any test", "")
            else:
                job = self.boot.jobs[current]
            self.add(job, job.name + ": kernel log", FAIL, line)


def case_name(job, case):
    """<test>[ <options>]: <case>. kselftest's harness puts the fixture in front
    of the case's name, which says nothing that the program's name does not."""
    if not case.name:
        return job.name
    name = case.name
    if job.group != "kunit" and "." in name:
        name = name.split(".", 1)[1]
    return "%s: %s" % (job.name, name)


def explain(lines, name):
    """What a program of kselftest's harness printed about a case that failed."""
    said, inside = [], False
    for line in lines:
        if line.startswith("#  RUN ") and name in line:
            said, inside = [], True
        elif inside and (line.startswith("not ok") or line.startswith("ok ")):
            break
        elif inside and line.strip():
            said.append(line.strip("# "))
    return " / ".join(said[:6])


# --- expectations ------------------------------------------------------------

def matches(pattern, value):
    return fnmatch.fnmatchcase(value, pattern)


def judge_skips(results):
    """Only the skips that the list names are skips; a listed one that ran fails."""
    for row in read_table(TESTING / "expected-skips.txt", 4):
        name, variant, state, why = row
        for result in results:
            if not (matches(name, result.name) and matches(variant, result.variant)
                    and matches(state, result.state)):
                continue
            if result.status == SKIP:
                result.reason = "expected: %s (%s)" % (why, result.reason)
                result.expected = True
            elif result.status == PASS:
                result.status = FAIL
                result.reason = "expected-skips.txt lists it as skipped, and it ran"
    for result in results:
        if result.status == SKIP and not getattr(result, "expected", False):
            result.status = FAIL
            result.reason = "skipped, which expected-skips.txt does not list: " + result.reason


def judge_control(results):
    """Without the module our tests must not pass: one that does proves nothing,
    unless the list says that it is about mainline's behaviour. One that has not come
    to its end proves nothing either."""
    listed = read_table(TESTING / "control-passes.txt", 2)
    for result in [result for result in results if result.ended]:
        if result.group in ("leaks", "kernel") or result.name.endswith(": kernel log"):
            continue
        reasons = [why for name, why in listed if matches(name, result.name)]
        if result.status == PASS and reasons:
            result.reason = "passes without the module: " + reasons[0]
        elif result.status == PASS:
            result.status = FAIL
            result.reason = "passes without the module, so it proves nothing about it"
        elif reasons:
            result.status = FAIL
            result.reason = "control-passes.txt lists it, and it does not pass: " + result.reason
        else:
            result.reason = "as it should be without the module: %s %s" % (result.status, result.reason)
            result.status = PASS
        result.name = "control: " + result.name


# --- the run -----------------------------------------------------------------

_print_lock = threading.Lock()
CONTROL = False


def note(text):
    with _print_lock:
        print("# " + text, flush=True)


def report_job(boot, job, outcome):
    how = "ended" if outcome.status == 0 else "exit status %d" % outcome.status
    note("%s, %s: %s (%s, %.1f s)" % (boot.variant, boot.state, job.name, how, outcome.seconds))
    for line in outcome.lines:
        if line.startswith("# figure: "):
            note("    " + line.removeprefix("# figure: "))


def prepare(variants, module_dir):
    steps = [["selftests"]]
    steps += [["kernel" if module_dir else "modules", variant] for variant in variants]
    for step in steps:
        # The scripts' progress is on stderr; ours is the only voice on stdout.
        if subprocess.run([TOP / "scripts" / "prepare.sh", *step], stdout=sys.stderr).returncode:
            raise Problem("could not prepare: " + " ".join(step))


def run_boots(boots):
    """Two machines at a time where there are cores for it."""
    at_once = 2 if (os.cpu_count() or 1) > 1 else 1
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(boot.run, report_job) for boot in boots]
        try:
            for future in futures:
                future.result()
        except BaseException:
            # An interrupted run leaves no machine behind, nor does a failed one.
            for future in futures:
                future.cancel()
            for boot in boots:
                boot.stopped = True
            raise


def print_results(results):
    print("TAP version 13")
    for number, r in enumerate(results, 1):
        line = "%s %d - %s/%s %s" % ("not ok" if r.status == FAIL else "ok", number,
                                     r.variant, r.state, r.name.replace("#", "\\#"))
        if r.status == SKIP:
            line += " # SKIP " + r.reason
        print(line)
        if r.status == FAIL:
            print("# " + r.reason)
    print("1..%d" % len(results))


def print_retries(boots):
    """What had to be tried again, which the cases do not show: a machine that hung before
    anything ran in it, and what a program says in lines "# retry: " with the reason."""
    counts = {}
    for boot in boots:
        if boot.hung:
            counts["%s/%s start of the kernel" % (boot.variant, boot.state)] = boot.hung
        for number, outcome in boot.outcomes.items():
            tries = sum(line.startswith("# retry: ") for line in outcome.lines)
            if tries:
                counts["%s/%s %s" % (boot.variant, boot.state, boot.jobs[number].name)] = tries
    print("# retries: %d%s" % (sum(counts.values()), " (%s)" % ", ".join(
        "%s: %d" % count for count in counts.items()) if counts else ""))


def git(*words, there=TOP):
    return subprocess.run(["git", "-C", there, *words], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


def first_splat(text):
    """The first line of a console in which the kernel says that something is wrong."""
    return next((line for line in text.splitlines() if SPLAT.search(line)), None)


def host_source():
    """The source of the host kernel in the cache, with changes that are not committed:
    what says which it is, and words for the reader."""
    linux = CACHE / "linux"
    try:
        tree = git("rev-parse", "HEAD^{tree}", there=linux)
        changes = git("diff", "HEAD", there=linux)
        base = git("log", "-1", "--format=%s", "base", there=linux).decode().strip()
        patches = git("rev-list", "--count", "base..HEAD", there=linux).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return b"", "none yet"
    return tree + changes, "%s, %s patches, tree %s%s" % (
        base, patches, tree.decode()[:12], " with changes" if changes else "")


def tree_of_today(host=True):
    """What a run is about: a hash of all files of the checkout as they are, committed
    or not, less those that no result depends on, and of the host kernel's source, and
    the commit for the reader. Empty where the checkout is not git's."""
    try:
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
        commit = git("describe", "--always", "--dirty", "--abbrev=12").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return {"hash": "", "commit": ""}
    digest = hashlib.sha256()
    for name in sorted(filter(None, names)):
        path = TOP / os.fsdecode(name)
        if name.startswith(b"Documentation/") or name.endswith(b".md") or not path.is_file():
            continue
        digest.update(b"%s\0%d\0" % (name, path.stat().st_mode & 0o111))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if host:
        digest.update(host_source()[0])
    return {"hash": digest.hexdigest(), "commit": commit}


def load_last(path=RESULTS / "last.json"):
    """What save() has written: a list of groups, empty where there is none. Older
    versions of this script wrote rows that do not say what they are about."""
    try:
        groups = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [group for group in groups if "results" in group]


def save(results, tree, path=RESULTS / "last.json"):
    """results/last.json: the last outcome of each group in each boot, so that a
    run of one group does not hide what the others were, and the tree it is of."""
    fresh = {}
    for r in results:
        group = fresh.setdefault((r.variant, r.state, r.group), {
            "variant": r.variant, "state": r.state, "group": r.group, "tree": tree,
            "results": []})
        group["results"].append({"name": r.name, "status": r.status, "reason": r.reason})
    # The group "kernel" is there only where there is something to complain about.
    boots = {(r.variant, r.state) for r in results}
    kept = [g for g in load_last(path) if (g["variant"], g["state"], g["group"]) not in fresh
            and not (g["group"] == "kernel" and (g["variant"], g["state"]) in boots)]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(kept + list(fresh.values()), indent=1))
    new.replace(path)


def drop_old_runs(results):
    """All but the last runs go; one that is under way, as its folder's name tells, stays."""
    runs = sorted(p for p in results.iterdir() if p.is_dir())
    for old in runs[:-KEEP_RUNS]:
        if pathlib.Path("/proc", old.name.rpartition("-")[2]).exists():
            continue
        for path in sorted(old.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        old.rmdir()


def arguments():
    parser = argparse.ArgumentParser(description="Run the tests in QEMU.")
    parser.add_argument("--variant", default="", help="release or debug (default: both)")
    parser.add_argument("--tests", default="", help="group,group (default: all)")
    parser.add_argument("--control", action="store_true",
                        help="our own tests without the module: each must fail or skip")
    parser.add_argument("--module-dir", type=pathlib.Path,
                        help="take kvm_memattr.ko from there, and build none")
    parser.add_argument("--program", default="",
                        help="one of our own programs, or kunit, instead of groups")
    parser.add_argument("--first-failure", action="store_true",
                        help="stop a machine when a program in it has failed")
    parser.add_argument("--make-pid", type=int, help="the make that runs this")
    parser.add_argument("--make-prints", action="store_true",
                        help="it will print a line of its own even after a success")
    return parser.parse_args()


def choose(value, known, what):
    if not value:
        return list(known)
    chosen = [word for word in re.split(r"[,\s]+", value) if word]
    for word in chosen:
        if word not in known:
            raise Problem("unknown %s '%s' (there are: %s)" % (what, word, ", ".join(known)))
    return list(dict.fromkeys(chosen))


def only(program, jobs):
    """The jobs of one program, and its group; the KUnit suites are no job."""
    if program == "kunit":
        return [], program
    jobs = [job for job in jobs if job.own and job.program == program]
    if not jobs:
        raise Problem("there is no test '%s' of ours" % program)
    return jobs, jobs[0].group


def run(args):
    global CONTROL
    CONTROL = args.control
    jobs = mainline_jobs() + own_jobs()
    variants = choose(args.variant, VARIANTS, "variant")
    if args.program:
        jobs, args.tests = only(args.program, jobs)
    else:
        # What a run of groups is about is this tree's own.
        for other in ("MODULE_DIR", "KVM_DIR"):
            os.environ.pop(other, None)
    groups = choose(args.tests, groups_of(jobs), "test group")
    checkout = tree_of_today(host=False)
    prepare(variants, args.module_dir)
    tree = tree_of_today()

    results_folder = PROGRAM_RESULTS if args.program else RESULTS
    folder = results_folder / time.strftime("%Y%m%d-%H%M%S-{}".format(os.getpid()))
    # The debug kernel's boots are the longest: the others fill up what they leave.
    plans = {variant: plan(jobs, variant, groups, args.control) for variant in sorted(variants)}
    if len(plans) == 1 and not args.program:
        plans = {variant: side_by_side(boots) for variant, boots in plans.items()}
    boots = [Boot(variant, *boot, folder, args.module_dir, args.first_failure)
             for variant, planned in plans.items() for boot in planned]
    run_boots(boots)

    results, failed = [], []
    for boot in boots:
        found = Judge(boot).all()
        if args.control:
            judge_control(found)
        else:
            judge_skips(found)
        results += found
        if any(result.status == FAIL for result in found):
            failed.append(boot)
    print_results(results)
    for boot in failed:
        print("# %s, %s: console %s, output %s" % (boot.variant, boot.state,
                                                   boot.folder / "console.log",
                                                   boot.folder / "output.log"))
    print_retries(boots)
    print("# host kernel: " + host_source()[1])
    if not args.control and not args.module_dir and not args.program:
        if checkout != tree_of_today(host=False) or tree != tree_of_today():
            note("the tree has changed while the tests ran: the results are kept as of none")
            tree = {"hash": "changed", "commit": "a tree that changed meanwhile"}
        save(results, tree)
    drop_old_runs(results_folder)
    return results


def repeat_after(pid, line):
    """Print line again when that process has ended. GNU make says "Leaving directory"
    (with -C) and "Error 1" after its recipes, and cannot be told not to."""
    try:
        ended = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    sys.stdout.flush()
    if os.fork() == 0:
        os.setsid()
        select.select([ended], [], [])
        os.write(1, line.encode())
        os._exit(0)


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    could_run = True
    try:
        results = run(args)
    except (Problem, OSError, subprocess.CalledProcessError) as error:
        print("not ok 1 - %s" % error)
        results = [Result("", "", "", "", FAIL)]
        could_run = False
    counts = {status: sum(r.status == status for r in results) for status in (PASS, FAIL, SKIP)}
    if not any(result.ended for result in results):
        print("# no case ran")
        could_run = False
    summary = "%d passed, %d failed, %d skipped\n" % (counts[PASS], counts[FAIL], counts[SKIP])
    print(summary, end="", flush=True)
    status = 0 if counts[FAIL] == 0 and counts[PASS] > 0 else 1
    if not could_run:
        status = 2
    if args.make_pid and (status or args.make_prints):
        repeat_after(args.make_pid, summary)
    return status


if __name__ == "__main__":
    sys.exit(main())
