#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# plot.sh FOLDER: draw FOLDER/bench.csv as SVG files beside it.
. "$(dirname "$0")/lib.sh"

venv=$("$TOP/scripts/venv.sh" matplotlib 'matplotlib>=3.8,<4')
# Its cache of fonts, which would be in the home folder.
export MPLCONFIGDIR=$venv/config
exec "$venv/bin/python" "$TOP/scripts/plot.py" "$1"
