#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel-config.sh VARIANT: configure the host kernel from tinyconfig and the
# fragments in scripts/config, and fail when an option did not stick.
. "$(dirname "$0")/lib.sh"
load_toolchain

variant=$1
check_variant "$variant"
build=$(build_dir "$variant")
fragments=("$TOP/scripts/config/base.config" "$TOP/scripts/config/$variant.config")
# What the configuration depends on: the fragments, the compilers, and any Kconfig
# of the tree.
stamp=$( (grep -h '^CONFIG_' "${fragments[@]}"; echo "$TOOLS_ARE ${KMAKE_TOOLS[*]}") | sha256sum)$(git -C "$LINUX" ls-files -s '*Kconfig*' | sha256sum)

if [ -r "$build/.config" ] && [ "$(cat "$build/.fragments" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

say "configuring the $variant kernel"
mkdir -p "$build"
quiet "$build/config.log" "tinyconfig" kmake "$variant" tinyconfig
cat "${fragments[@]}" >> "$build/.config"
quiet "$build/config.log" "olddefconfig" kmake "$variant" olddefconfig

lost=
while IFS='=' read -r option value; do
	case "$option" in CONFIG_*) ;; *) continue ;; esac
	if [ "$value" = n ]; then
		grep -q "^$option=" "$build/.config" && lost+=" $option=n"
	else
		grep -qxF "$option=$value" "$build/.config" || lost+=" $option=$value"
	fi
done < <(cat "${fragments[@]}")
[ -z "$lost" ] || die "options that did not stick in the $variant kernel:$lost" \
	"a dependency is missing from scripts/config, or the option is gone from this kernel"

printf '%s\n' "$stamp" > "$build/.fragments"
