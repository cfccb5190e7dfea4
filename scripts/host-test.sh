#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# host-test.sh: the unit tests of the sources that use only core, on this machine
# and without a kernel. The same files and tests as in kvm_memattr_kunit.ko.
. "$(dirname "$0")/lib.sh"
load_toolchain

out=$CACHE/host-test
mkdir -p "$out"
cat > "$out/main.rs" <<RS
#![allow(dead_code)]
#[path = "$TOP/rust/gfn.rs"]
mod gfn;
mod host {
    pub(crate) use crate::gfn;
}
$(for file in attrs plan policy range request runs scope word; do
	printf '#[path = "%s/src/%s.rs"]\nmod %s;\n' "$TOP" "$file" "$file"
done)
RS
"$RUSTC" --test --edition 2021 --check-cfg 'cfg(KMA_KUNIT, test)' -o "$out/main" "$out/main.rs"
"$out/main" "$@"
