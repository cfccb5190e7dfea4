#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# docs.sh: the documentation as HTML in the cache; a warning of Sphinx is an error.
. "$(dirname "$0")/lib.sh"

"$TOP/scripts/setup.sh"
venv=$("$TOP/scripts/venv.sh" sphinx 'sphinx>=7.2,<10')
out=$CACHE/docs
"$venv/bin/sphinx-build" -q -W --keep-going -n -b html -d "$out/doctrees" \
	"$TOP/Documentation" "$out/html"
say "documentation: $out/html/index.html"
