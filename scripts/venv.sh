#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# venv.sh NAME PACKAGE==VERSION...: a virtual environment of Python in the cache
# with these packages; prints its folder. For tools that few targets need.
. "$(dirname "$0")/lib.sh"

name=$1
shift
folder=$TOOLS/venv-$name

make_venv()
{
	! up_to_date "$folder/.packages" "$*" || return 0
	rm -rf "$folder"
	say "getting $name with pip"
	quiet "$CACHE/log/venv-$name.log" "python3 -m venv" python3 -m venv "$folder"
	quiet "$CACHE/log/venv-$name.log" "pip install $*" \
		"$folder/bin/pip" install --disable-pip-version-check "$@"
	printf '%s\n' "$*" | write_file "$folder/.packages"
}

locked "venv-$name" make_venv "$@" >&2
printf '%s\n' "$folder"
