#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# shell.sh [COMMAND]: a shell in the patched host, over this machine's own root file system
# (read-only there, changes are dropped), with the module loaded. From the
# environment, set by the Makefile:
#   SHELL_CMD      run this (as COMMAND) and end with its output and exit status, no
#                  terminal; make itself turns every failure into its own status 2
#   SHELL_DIR      a folder that can be written to there, and where to start
#   SHELL_VARIANT  release or debug
#   SHELL_MODULE   "no": do not load the module
#   SHELL_PARAMS   words NAME=VALUE: parameters of kvm_memattr; with a dot in the
#                  name (kvm_amd.npt=0) of another module, or of the kernel
. "$(dirname "$0")/lib.sh"

VNG=virtme-ng==1.42
variant=${SHELL_VARIANT:-release}
command=${1:-${SHELL_CMD:-}}
check_variant "$variant"
"$TOP/scripts/prepare.sh" modules "$variant" >&2
load_toolchain
venv=$("$TOP/scripts/venv.sh" virtme-ng "$VNG")
export PATH=$venv/bin:$PATH

mkdir -p "$CACHE/shell"
session=$(mktemp -d "$CACHE/shell/session.XXXXXX")
machine=
trap '[ -z "$machine" ] || kill -- "-$machine" 2>/dev/null; rm -rf "$session"' EXIT
trap 'exit 130' INT TERM
stage_modules "$variant" "$session/root"

kernel_params=()
module_params=()
for word in ${SHELL_PARAMS:-}; do
	case "${word%%=*}" in
	*.*) kernel_params+=("--append=$word") ;;
	*) module_params+=("$word") ;;
	esac
done

dir=${SHELL_DIR:-}
[ -z "$dir" ] || dir=$(realpath -e "$dir") || die "DIR=$SHELL_DIR is not there"

# What happens in the guest first, for both kinds of session.
cat > "$session/enter" <<EOF
MODPROBE="-d $session/root"
. $(printf %q "$TOP/scripts/guest/load-module")
taskset -p 6 \$BASHPID >/dev/null || true
mountpoint -q /sys/kernel/debug || mount -t debugfs debug /sys/kernel/debug
# For the tests that unload the module and load it again.
export KVM_MEMATTR_KO=$session/root/lib/modules/\$(uname -r)/updates/kvm_memattr.ko
load_kvm || exit 125
[ "${SHELL_MODULE:-}" = no ] || load_module kvm_memattr ${module_params[*]} || exit 125
unset MODPROBE
cd $(printf %q "${dir:-/}")
EOF

# CPUs and no5lvl: as in boot.sh, which says why.
[ "$variant" != debug ] || kernel_params+=(--append=no5lvl)
vng_args=(--run "$(build_dir "$variant")/arch/x86/boot/bzImage" --disable-kvm --cpus 3
	--memory 4G --user root --qemu-opts='-cpu max,+svm,+npt' --rwdir="$session" "${kernel_params[@]}")
# A folder of the root file system that the guest sees read-only otherwise.
[ -z "$dir" ] || vng_args+=(--rwdir="$dir")

if [ -z "$command" ]; then
	[ -t 0 ] || die "make shell wants a terminal" "without one, give a command: make shell CMD='...'"
	cat > "$session/shell" <<EOF
#!/bin/bash
. $session/enter
exec /bin/bash -i
EOF
	chmod +x "$session/shell"
	vng "${vng_args[@]}" --shell "$session/shell"
	exit
fi

# The command's output and status come back through files: vng's own way is a
# console, which mixes them with the kernel's messages and translates line ends.
printf '%s\n' "$command" > "$session/command"
cat > "$session/main" <<EOF
#!/bin/bash
(
	. $session/enter
	exec /bin/bash $session/command
) >$session/output 2>&1 </dev/null
echo \$? > $session/status
EOF
chmod +x "$session/main"
touch "$session/output"

# A process group of its own, QEMU included, to be ended as a whole.
set -m
vng "${vng_args[@]}" --exec "$session/main" </dev/null >"$session/console.log" 2>&1 &
machine=$!
set +m
tail -f -n +1 --pid=$machine -s 0.1 "$session/output" &
shown=$!
wait $machine || true
wait $shown || true
machine=
if [ ! -s "$session/status" ]; then
	mv "$session/console.log" "$CACHE/shell/console.log"
	die "the machine went down before the command ended" \
		"its console: $CACHE/shell/console.log"
fi
exit "$(cat "$session/status")"
