#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel-source.sh: have the pristine kernel source as a git tree in the cache,
# tag "base". From KERNEL_SRC= (a folder or a tarball) where given, else Debian's
# source package through the mirror that apt is set up with.
. "$(dirname "$0")/lib.sh"

PACKAGE=linux-source-$KERNEL_WANT
# Suites that have it, in this order; "base" needs the sources only, whatever
# release the machine itself runs.
SUITES=(trixie-backports forky sid)
ORIGIN=$CACHE/linux.origin

# version_of FOLDER
version_of()
{
	[ -r "$1/Makefile" ] || return 1
	awk '$1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { p = $3 } $1 == "SUBLEVEL" { s = $3 }
	     END { if (v == "") exit 1; print v "." p "." s }' "$1/Makefile"
}

check_version()
{
	local version
	version=$(version_of "$1") || die "$2 is not a kernel source tree"
	case "$version" in
	$KERNEL_WANT.*) ;;
	*)
		die "$2 is Linux $version, and the series is for $KERNEL_WANT" \
		    "give a tree of $KERNEL_WANT with KERNEL_SRC=, or see Documentation/ on porting the series"
		;;
	esac
}

# The main archive of this distribution, among all that apt knows: not the
# security archive, whose suites are others, and nobody else's.
debian_mirror()
{
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(CREATED_BY)|$(REPO_URI)' |
		awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" && $4 == "Packages" { print $5; exit }'
}

# A private apt root: its own source list, lists and caches. The system's own
# stay as they were, and nothing is installed.
private_apt()
{
	local root=$CACHE/download/apt
	apt-get -o Dir::Etc::SourceList="$root/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$root/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root "$@"
}

find_downloaded()
{
	compgen -G "$CACHE/download/${PACKAGE}_*_all.deb" | sort -V | tail -n 1
}

download_deb()
{
	local mirror suite root=$CACHE/download/apt
	local log=$CACHE/log/kernel-download.log
	command -v apt-get >/dev/null ||
		die "no apt on this machine to get the source of Linux $KERNEL_WANT from" \
		    "give a tree or a tarball with: make KERNEL_SRC=/path"
	mirror=$(debian_mirror)
	[ -n "$mirror" ] ||
		die "apt has no index of Debian's main archive" \
		    "run apt-get update, or give a tree or a tarball with: make KERNEL_SRC=/path"
	rm -rf "$CACHE/download/new"
	mkdir -p "$root/lists/partial" "$CACHE/download/new" "$(dirname "$log")"
	for suite in "${SUITES[@]}"; do
		printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
			"$mirror" "$suite" > "$root/sources.list"
		say "looking for $PACKAGE in Debian $suite"
		if private_apt update >"$log" 2>&1 &&
		   (cd "$CACHE/download/new" && private_apt download "$PACKAGE") >>"$log" 2>&1; then
			# What is there by its name is there as a whole.
			mv "$CACHE/download/new"/*.deb "$CACHE/download/"
			return
		fi
	done
	tail -n 5 "$log" >&2
	die "$PACKAGE could not be downloaded from any of: ${SUITES[*]}" \
	    "the log: $log" "or give a tree or a tarball with: make KERNEL_SRC=/path"
}

# unpack FROM INTO: a folder, a tarball or a .deb with a tarball in it. Files of
# Debian's tarball belong to another user, and git refuses such a tree.
unpack()
{
	local from=$1 into=$2
	mkdir -p "$into"
	if [ -e "$from/.git" ]; then
		# What is committed there; build results and local changes are not.
		git -C "$from" archive HEAD | tar -x -C "$into"
	elif [ -d "$from" ]; then
		rsync -a --no-owner --no-group --exclude=.git "$from/" "$into/"
		make -s -C "$into" mrproper
	elif [ "${from##*.}" = deb ]; then
		dpkg -x "$from" "$into.deb"
		tar -x --no-same-owner --strip-components=1 -C "$into" \
			-f "$into.deb/usr/src/$PACKAGE.tar.xz"
	else
		tar -x --no-same-owner --strip-components=1 -C "$into" -f "$from"
	fi
}

# record FOLDER ORIGIN: FOLDER's content as a commit, tag "base". The first time
# FOLDER becomes the tree; later only files that differ are touched, so that a
# new base rebuilds what it changed.
record()
{
	local from=$1 origin=$2 commit index
	if [ ! -d "$LINUX/.git" ]; then
		git -C "$from" init -q -b pristine
		mv "$from" "$LINUX"
		from=$LINUX
	fi
	git -C "$LINUX" config user.name kvm-memattr
	git -C "$LINUX" config user.email kvm-memattr@localhost
	git -C "$LINUX" config gc.auto 0
	git -C "$LINUX" config core.fileMode true
	index=$LINUX/.git/index.import
	rm -f "$index" "$index.lock"
	# Debian's .gitignore ends by ignoring everything: force.
	GIT_INDEX_FILE=$index git --git-dir="$LINUX/.git" --work-tree="$from" add -f -A .
	commit=$(GIT_INDEX_FILE=$index git -C "$LINUX" write-tree)
	commit=$(git -C "$LINUX" commit-tree -m "Linux $(version_of "$from")" "$commit")
	git -C "$LINUX" tag -f base "$commit" >/dev/null
	if [ "$from" = "$LINUX" ]; then
		mv "$index" "$LINUX/.git/index"
		git -C "$LINUX" reset -q --soft base
		git -C "$LINUX" checkout -q --detach base
	else
		rm -f "$index"
		git -C "$LINUX" checkout -q -f --detach base
	fi
	printf '%s\n' "$origin" | write_file "$ORIGIN"
}

# state_of_folder FOLDER: its commit, or else something that differs when a file does.
state_of_folder()
{
	if [ -e "$1/.git" ]; then
		git -C "$1" rev-parse HEAD
		git -C "$1" diff --quiet HEAD -- ||
			say "KERNEL_SRC=$KERNEL_SRC: taking what is committed there, without the changes since"
	else
		find "$1" -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum | cut -d' ' -f1
	fi
}

get_source()
{
	local from origin version new=$CACHE/linux.import
	if [ -n "${KERNEL_SRC:-}" ]; then
		[ -e "$KERNEL_SRC" ] || die "KERNEL_SRC=$KERNEL_SRC does not exist"
		from=$(realpath "$KERNEL_SRC")
		origin=$from
		if [ -d "$from" ]; then
			check_version "$from" "KERNEL_SRC=$KERNEL_SRC"
			origin+=" $(state_of_folder "$from")"
		else
			origin+=" $(stat -c '%s %Y' "$from")"
		fi
		! up_to_date "$ORIGIN" "$origin" || return 0
	else
		# Whatever the tree came from serves, as long as it is the right one.
		if version=$(git -C "$LINUX" log -1 --format=%s base 2>/dev/null); then
			case "$version" in
			"Linux $KERNEL_WANT."*) return 0 ;;
			esac
		fi
		[ -n "$(find_downloaded)" ] || download_deb
		from=$(find_downloaded)
		origin=$(basename "$from")
	fi
	# What an import left that was interrupted is no tree yet.
	git -C "$LINUX" rev-parse -q --verify base >/dev/null 2>&1 || rm -rf "$LINUX"
	if [ -d "$LINUX/.git" ] && [ -z "$(kernel_source_key)" ]; then
		die "$LINUX has changes that are not committed, and the source is to be replaced" \
		    "commit them there and run make series-regen, or drop them"
	fi
	rm -rf "$new" "$new.deb"
	quiet "$CACHE/log/kernel-unpack.log" "unpacking $(basename "$from")" unpack "$from" "$new"
	check_version "$new" "$from"
	quiet "$CACHE/log/kernel-record.log" "recording the kernel source in git" record "$new" "$origin"
	rm -rf "$new" "$new.deb"
	say "kernel source: Linux $(version_of "$LINUX") in $LINUX"
}

locked kernel get_source
