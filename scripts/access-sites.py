#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Hold Documentation/access-sites.csv against a kernel tree: each place in KVM that
reaches guest memory by gfn has a verdict on NR, NW and NX there, and each verdict has
its place. Part of make check.

access-sites.py TREE         compare
access-sites.py TREE list    the sites of the tree, as rows without verdict and reason
access-sites.py              the script's own test
"""

import collections
import csv
import pathlib
import re
import sys
import unittest

TABLE = pathlib.Path(__file__).resolve().parent.parent / "Documentation" / "access-sites.csv"
COLUMNS = ["file", "function", "callee", "count", "verdict", "why"]
VERDICTS = ("central", "exits", "skips", "exempt")
PLACES = ("virt/kvm", "arch/x86/kvm", "include/linux/kvm_host.h")

# Functions, and two ways to get at the page without one of them: the hva that a cache
# keeps, and a cmpxchg on an hva that a page-table walk keeps.
CALLEE = re.compile(r"""
    \bghc->hva\b | \b__try_cmpxchg_user\b
    | (?<!struct\ )\b(?:
            (?:__)? kvm_(?:vcpu_)?(?:read|write|clear)_guest\w*
          | (?:__)? kvm_(?:get|put)_guest
          | (?:__)? kvm_vcpu_map\w*
          | (?:__)? (?:kvm_vcpu_)? gfn_to_hva\w*
          | gfn_to_pfn\w* | (?:__)? hva_to_pfn\w* | kvm_(?:lookup|follow)_pfn
          | (?:__)? kvm_faultin_pfn
          | (?:__)? gfn_to_page\w* | kvm_prefetch_pages
          | (?:__)? kvm_gfn_to_hva_cache_init
          | (?:__)? kvm_gpc_\w+
          | kvm_gmem_(?:get_pfn|populate)
      )\b
    """, re.VERBOSE)
# What is named alike and reaches nothing.
NO_CALLEE = {"kvm_vcpu_mapped", "kvm_gpc_is_valid_len"}
# What may stand before a definition's name, or after its arguments, with parentheses.
NO_NAME = {"__printf", "__acquires", "__releases", "__must_hold", "__attribute__", "__aligned"}


def without_comments(text):
    """The text without comments and the contents of strings, lines kept."""
    def blank(match):
        return re.sub(r"[^\n]", "", match[0]) or " " if match[0][0] == "/" else match[0][0] * 2
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
                  blank, text, flags=re.DOTALL)


def name_of(head):
    """Whose braces follow head: a function, FNAME(function), or a variable."""
    if "=" in head:
        words = re.findall(r"\w+", re.sub(r"\[[^]]*\]", "", head.split("=", 1)[0]))
        return words[-1] if words else ""
    for match in re.finditer(r"(\w+)\s*\(", head):
        if match[1] == "FNAME":
            return "FNAME(%s)" % re.match(r"\w*", head[match.end():])[0]
        if match[1] not in NO_NAME:
            return match[1]
    return ""


def callees(text):
    for match in CALLEE.finditer(text):
        if match[0] not in NO_CALLEE:
            yield match[0]


def sites(text):
    """(enclosing function, callee) of each site in a C source. A name counts as a site
    wherever it stands in a body, so that a pointer to such a function is one as well;
    prototypes and the head of a definition do not count."""
    found, head, name, depth = [], "", "", 0
    lines = iter(without_comments(text).split("\n"))
    for line in lines:
        if line.lstrip().startswith("#"):
            # A macro is a function of its own; other directives say nothing here.
            while line.endswith("\\"):
                line = line[:-1] + " " + next(lines, "")
            macro = re.match(r"\s*#\s*define\s+(\w+)(?:\([^)]*\))?(.*)", line)
            if macro:
                found += [(macro[1], callee) for callee in callees(macro[2])]
            continue
        if line.startswith("}"):
            # Kernel style; also where #ifdef and #else each open the same brace.
            depth = 1
        for piece in re.split(r"([{};])", line):
            if piece == "{":
                if depth == 0:
                    name, head = name_of(head), ""
                depth += 1
            elif piece == "}":
                depth -= 1
            elif depth > 0:
                found += [(name, callee) for callee in callees(piece)]
            elif piece == ";":
                head = ""
            else:
                head += " " + piece
    return found


def tree_sites(tree):
    """{(file, function, callee): count} of a kernel tree."""
    found = collections.Counter()
    for place in PLACES:
        path = tree / place
        if not path.exists():
            raise SystemExit("%s: not in %s" % (place, tree))
        files = [path] if path.is_file() else sorted(path.rglob("*.[ch]"))
        for source in files:
            file = str(source.relative_to(tree))
            found.update((file, *site) for site in sites(source.read_text()))
    return found


def compare(found, rows):
    """What is wrong with the rows of the table, given the sites that there are."""
    wrong, keys = [], []
    for row in rows:
        if len(row) != len(COLUMNS):
            wrong.append("not %d columns: %s" % (len(COLUMNS), ",".join(row)))
            continue
        *key, count, verdict, why = row
        key = tuple(key)
        keys.append(key)
        where = "%s, %s(): %s" % key
        if key not in found:
            wrong.append("a verdict without a site: %s" % where)
        elif count != str(found[key]):
            wrong.append("%d sites, the table says %s: %s" % (found[key], count, where))
        if verdict not in VERDICTS:
            wrong.append("verdict '%s' is none of %s: %s" % (verdict, ", ".join(VERDICTS), where))
        if not why.strip():
            wrong.append("no reason given: %s" % where)
    if keys != sorted(set(keys)):
        wrong.append("the rows are not sorted by file, function and callee, or one is there twice")
    for key in sorted(set(found) - set(keys)):
        wrong.append("no verdict: %s,%s,%s,%d,?,?" % (*key, found[key]))
    return wrong


def main():
    if len(sys.argv) < 2:
        return unittest.main()
    found = tree_sites(pathlib.Path(sys.argv[1]))
    if sys.argv[2:] == ["list"]:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerows([*key, found[key]] for key in sorted(found))
        return 0
    with TABLE.open(newline="") as table:
        header, *rows = csv.reader(table)
    wrong = compare(found, rows)
    if header != COLUMNS:
        wrong.insert(0, "the columns are not %s" % ",".join(COLUMNS))
    # The parser cannot know what it does not see; a tree with few sites is one that
    # it did not understand.
    if sum(found.values()) < 200:
        wrong.insert(0, "only %d sites found in %s" % (sum(found.values()), sys.argv[1]))
    for line in wrong:
        print(line)
    print("access sites: %d in %d rows, %d problems"
          % (sum(found.values()), len(rows), len(wrong)))
    return 1 if wrong else 0


class Parser(unittest.TestCase):
    def test_calls_and_definitions(self):
        self.assertEqual(sites("""
            int kvm_read_guest(struct kvm *kvm, gpa_t gpa);
            static int f(struct kvm *kvm,
                         struct gfn_to_hva_cache *ghc)
            {
                /* kvm_write_guest() */
                pr_err("kvm_write_guest failed: %s {", "x");
                if (kvm_read_guest(kvm, 0)) { kvm_clear_guest(kvm); }
                return kvm_read_guest(kvm, 1) || ghc->hva;
            }
            EXPORT_SYMBOL(kvm_read_guest);
            """), [("f", "kvm_read_guest"), ("f", "kvm_clear_guest"), ("f", "kvm_read_guest"),
                   ("f", "ghc->hva")])

    def test_definition_of_a_callee(self):
        self.assertEqual(sites("int kvm_read_guest(int a)\n{\n"
                               "\treturn kvm_read_guest_page(a);\n}\n"),
                         [("kvm_read_guest", "kvm_read_guest_page")])

    def test_template(self):
        self.assertEqual(sites("static int FNAME(walk)(struct kvm *kvm)\n{\n"
                               "\tgfn_to_hva_memslot_prot(kvm);\n}\n"),
                         [("FNAME(walk)", "gfn_to_hva_memslot_prot")])

    def test_macro(self):
        self.assertEqual(sites("#define __kvm_get_guest(kvm, v)\t\\\n({\t\\\n"
                               "\tgfn_to_hva(kvm, v);\t\\\n})\n"
                               "int f(void)\n{\n\treturn __kvm_get_guest(0, 1);\n}\n"),
                         [("__kvm_get_guest", "gfn_to_hva"), ("f", "__kvm_get_guest")])

    def test_pointers(self):
        self.assertEqual(sites("static struct ops ops[] = {\n\t.read = kvm_vcpu_read_guest,\n};\n"
                               "void f(void)\n{\n\tread = kvm_read_guest;\n}\n"),
                         [("ops", "kvm_vcpu_read_guest"), ("f", "kvm_read_guest")])

    def test_class(self):
        self.assertEqual(sites("int f(int vcpu)\n{\n\tCLASS(kvm_vcpu_map_local, m)(vcpu, 1);\n}\n"),
                         [("f", "kvm_vcpu_map_local")])

    def test_braces_in_branches_of_the_preprocessor(self):
        self.assertEqual(sites("int f(void)\n{\n#ifdef A\n\tif (a) {\n#else\n\tif (b) {\n#endif\n"
                               "\t\tkvm_gpc_check(0);\n\t}\n}\n"
                               "int g(void)\n{\n\tkvm_gpc_refresh(0);\n}\n"),
                         [("f", "kvm_gpc_check"), ("g", "kvm_gpc_refresh")])

    def test_structs_do_not_name_functions(self):
        self.assertEqual(sites("struct a {\n\tint (*kvm_gpc_check)(void);\n};\nint g(void)\n{\n"
                               "\tkvm_gpc_refresh(0);\n}\n"),
                         [("", "kvm_gpc_check"), ("g", "kvm_gpc_refresh")])


class Compare(unittest.TestCase):
    SITES = {("a.c", "f", "kvm_read_guest"): 2}

    def wrong(self, *rows):
        wrong = compare(self.SITES, [row.split(",") for row in rows])
        return [line.split(":")[0] for line in wrong]

    def test_complete(self):
        self.assertEqual(self.wrong("a.c,f,kvm_read_guest,2,skips,why"), [])

    def test_site_without_verdict(self):
        self.assertEqual(self.wrong(), ["no verdict"])

    def test_verdict_without_site(self):
        self.assertEqual(self.wrong("a.c,f,kvm_read_guest,2,skips,why",
                                    "a.c,g,kvm_read_guest,1,skips,why"),
                         ["a verdict without a site"])

    def test_one_more_site_in_the_same_function(self):
        self.assertEqual(self.wrong("a.c,f,kvm_read_guest,1,skips,why"),
                         ["2 sites, the table says 1"])

    def test_no_or_unknown_verdict(self):
        self.assertEqual(self.wrong("a.c,f,kvm_read_guest,2,?,?"), [
            "verdict '?' is none of central, exits, skips, exempt"])
        self.assertEqual(self.wrong("a.c,f,kvm_read_guest,2,skips, "), ["no reason given"])

    def test_twice(self):
        row = "a.c,f,kvm_read_guest,2,skips,why"
        self.assertEqual(len(self.wrong(row, row)), 1)


if __name__ == "__main__":
    sys.exit(main())
