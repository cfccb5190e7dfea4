#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# clean.sh: drop everything in the cache that is built from something else.
. "$(dirname "$0")/lib.sh"
for folder in build module observer bench bench-runs modroot selftests clippy header host-test series-build mutants run shell results cargo docs log; do
	[ ! -d "$CACHE/$folder" ] || rm -rf "${CACHE:?}/$folder"
done
say "dropped what was built in $CACHE; the kernel source, tools and downloads are still there"
