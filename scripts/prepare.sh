#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# prepare.sh WHAT [VARIANT]: everything up to and with WHAT, each step quick when
# there is nothing to do.
#   source     the kernel source with the series applied
#   kernel     the kernel of that variant
#   modules    this project's modules too
#   selftests  the test programs (no variant)
. "$(dirname "$0")/lib.sh"

step()
{
	"$TOP/scripts/$1.sh" "${@:2}"
}

what=$1
variant=${2:-}
case "$what" in
source|kernel|modules|selftests) ;;
*) die "usage: prepare.sh source|kernel|modules|selftests [VARIANT]" ;;
esac

step setup
step kernel-source
step kernel-series apply
case "$what" in
selftests)
	step selftests-build
	;;
kernel|modules)
	check_variant "$variant"
	step kernel-build "$variant"
	[ "$what" = kernel ] || step module-build "$variant"
	;;
esac
