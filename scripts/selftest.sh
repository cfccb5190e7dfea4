#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# selftest.sh FILE.c: build any KVM selftest source; its path is all of stdout.
. "$(dirname "$0")/lib.sh"
"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel-source.sh"
"$TOP/scripts/kernel-series.sh" apply
exec "$TOP/scripts/selftests-build.sh" "$1"
