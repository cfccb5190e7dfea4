#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel-series.sh apply|work|regen|check: the patches of patches/linux-7.3 as
# commits on the branch "series" of the cached kernel tree, and back.
. "$(dirname "$0")/lib.sh"

# What the series may add to the kernel, in lines of .c and .h.
LINE_LIMIT=1200
COVER=0000-cover-letter.patch
# What the branch was last made from: the key of the patches, and the commit.
STATE=$CACHE/linux.series

kgit()
{
	git -C "$LINUX" "$@"
}

[ -r "$SERIES/series" ] || die "there is no $SERIES/series"

patch_list()
{
	grep -v -e '^#' -e '^[[:space:]]*$' "$SERIES/series"
}

patch_paths()
{
	local name
	while IFS= read -r name; do
		[ -r "$SERIES/$name" ] || die "$SERIES/series names $name, which is not there"
		printf '%s\n' "$SERIES/$name"
	done < <(patch_list)
}

# What decides the commits: the base and the patches in their order.
patches_key()
{
	{
		kgit rev-parse 'base^{tree}'
		patch_paths | xargs -d '\n' cat
	} | sha256sum | cut -d' ' -f1
}

# make_commits: the patches as commits on top of base; prints the last one. Done
# in an index of its own, so that no file of the tree is touched, and with the
# author's name and date for both, so that the same patches are the same commits.
make_commits()
{
	local parent tree path tmp
	tmp=$(mktemp -d "$CACHE/series.XXXXXX")
	export GIT_INDEX_FILE=$tmp/index
	parent=$(kgit rev-parse base)
	kgit read-tree base
	while IFS= read -r path; do
		kgit mailinfo "$tmp/body" "$tmp/diff" < "$path" > "$tmp/info"
		if ! kgit apply --cached --whitespace=nowarn "$path" 2> "$tmp/err"; then
			cat "$tmp/err" >&2
			rm -rf "$tmp"
			die "$(basename "$path") does not apply to $(kgit log -1 --format=%s base)" \
			    "another point release may need the series ported: see Documentation/"
		fi
		tree=$(kgit write-tree)
		{
			sed -n 's/^Subject: //p' "$tmp/info"
			echo
			cat "$tmp/body"
		} > "$tmp/message"
		GIT_AUTHOR_NAME=$(sed -n 's/^Author: //p' "$tmp/info")
		GIT_AUTHOR_EMAIL=$(sed -n 's/^Email: //p' "$tmp/info")
		GIT_AUTHOR_DATE=$(sed -n 's/^Date: //p' "$tmp/info")
		parent=$(GIT_AUTHOR_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME \
			GIT_AUTHOR_EMAIL=$GIT_AUTHOR_EMAIL GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL \
			GIT_AUTHOR_DATE=$GIT_AUTHOR_DATE GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE \
			git -C "$LINUX" commit-tree "$tree" -p "$parent" -F "$tmp/message")
	done < <(patch_paths)
	unset GIT_INDEX_FILE
	rm -rf "$tmp"
	printf '%s\n' "$parent"
}

# The state of the branch: "current" (made from these patches, nothing added),
# "work" (somebody has committed on it since), "stale" (the patches are others),
# "both", or "none".
branch_state()
{
	local key=$1 made_key= made_tip= tip
	tip=$(kgit rev-parse -q --verify refs/heads/series) || { echo none; return; }
	[ ! -r "$STATE" ] || read -r made_key made_tip < "$STATE"
	if [ "$made_tip" = "$tip" ]; then
		[ "$made_key" = "$key" ] && echo current || echo stale
	else
		[ "$made_key" = "$key" ] && echo work || echo both
	fi
}

apply_series()
{
	local key tip
	key=$(patches_key)
	case "$(branch_state "$key")" in
	current)
		on_branch || switch_to series
		return
		;;
	work)
		say "the branch series in $LINUX has commits that patches/ does not have:" \
		    "building those (make series-regen writes them out)"
		on_branch || switch_to series
		return
		;;
	both)
		tip=$(make_commits)
		# The same content by another way needs nothing but a note of that.
		if [ "$(kgit rev-parse "$tip^{tree}")" = "$(kgit rev-parse 'series^{tree}')" ]; then
			tip=$(kgit rev-parse series)
		else
			die "the branch series in $LINUX has commits that patches/ does not have, and patches/ has changed too" \
			    "keep the commits:  make series-regen" \
			    "keep the patches:  git -C $LINUX branch -m series series-old, then the same command again"
		fi
		;;
	*)
		tip=$(make_commits)
		;;
	esac
	if on_branch || [ "$(kgit rev-parse -q --verify refs/heads/series)" != "$tip" ]; then
		[ -n "$(kernel_source_key)" ] ||
			die "$LINUX has changes that are not committed, and patches/ has changed" \
			    "commit them there and run make series-regen, or drop them"
	fi
	# Only files that differ are touched, so that little is built again.
	on_branch && [ "$(kgit rev-parse HEAD)" = "$tip" ] || kgit checkout -q -B series "$tip"
	printf '%s %s\n' "$key" "$tip" | write_file "$STATE"
	say "applied $(patch_list | wc -l) patches to $(kgit log -1 --format=%s base)"
}

# Is what the branch says checked out? By its name, or (where another worktree
# has the branch) by its commit.
on_branch()
{
	[ "$(kgit symbolic-ref -q --short HEAD)" = series ] ||
		[ "$(kgit rev-parse HEAD)" = "$(kgit rev-parse -q --verify refs/heads/series)" ]
}

switch_to()
{
	[ -n "$(kernel_source_key)" ] ||
		die "$LINUX has changes that are not committed, and is not on branch $1" \
		    "commit or drop them"
	kgit checkout -q "$1"
}

work()
{
	locked kernel apply_series
	cat <<EOF
The host series is the branch "series" in
    $LINUX
Commit there as usual (git rebase -i base to change a patch). make kernel, make test
build what is in that folder. When done:
    make series-regen
    make check
EOF
}

regen_series()
{
	local tmp count
	on_branch || die "$LINUX is not on branch series" "git -C $LINUX checkout series"
	[ -n "$(kernel_source_key)" ] || die "$LINUX has changes that are not committed"
	count=$(kgit rev-list --count base..series)
	[ "$count" -gt 0 ] || die "the branch series has no commit on top of base"
	tmp=$(mktemp -d "$CACHE/series.XXXXXX")
	# Nothing in the files that differs from one machine to another.
	kgit -c format.signOff=false format-patch -q -o "$tmp" --zero-commit --no-signature \
		--no-attach --no-cover-letter --abbrev=12 --diff-algorithm=myers --subject-prefix=PATCH -n base..series
	mkdir -p "$SERIES"
	find "$SERIES" -name '[0-9]*.patch' ! -name "$COVER" -delete
	mv "$tmp"/*.patch "$SERIES/"
	rmdir "$tmp"
	# The comment on top of the list stays.
	{
		grep -s '^#' "$SERIES/series" || true
		find "$SERIES" -name '[0-9]*.patch' ! -name "$COVER" -printf '%f\n' | LC_ALL=C sort
	} | write_file "$SERIES/series"
	refresh_cover "$count"
	printf '%s %s\n' "$(patches_key)" "$(kgit rev-parse series)" | write_file "$STATE"
	say "wrote $count patches to $SERIES"
}

# The cover letter is written by hand, down to a line of its own that says
# "Patches:"; what comes after it is what git knows: titles and the diffstat.
refresh_cover()
{
	local cover=$SERIES/$COVER
	if [ ! -r "$cover" ]; then
		say "there is no $cover yet: write one that ends with a line Patches:"
		return
	fi
	if ! grep -qx 'Patches:' "$cover"; then
		say "$COVER has no line Patches:, so its list of patches is left as it is"
		return
	fi
	{
		sed -e '/^Patches:$/q' -e "s|^Subject: \[PATCH \(0*\)/[0-9]*\]|Subject: [PATCH \1/$1]|" "$cover"
		echo
		kgit log --reverse --format='  %s' base..series
		echo
		kgit diff --stat=72 --summary base series
	} | write_file "$cover"
}

# The lines that the series adds, later patches to a line counted each time: the
# size of what has to be reviewed.
count_lines()
{
	patch_paths | xargs -d '\n' -n 1 git apply --numstat |
		awk '$3 ~ /\.[ch]$/ { n += $1 } END { print n + 0 }'
}

check()
{
	local path lines bad=0
	while IFS= read -r path; do
		# MAINTAINERS covers new files of KVM by its patterns, which checkpatch
		# cannot tell. Its stderr is a missing Python package of spdxcheck.
		if ! (cd "$LINUX" && perl scripts/checkpatch.pl --strict --quiet --no-summary \
			--show-types --ignore FILE_PATH_CHANGES "$path" 2>/dev/null); then
			printf '!!! checkpatch.pl --strict: %s\n' "$(basename "$path")" >&2
			bad=1
		fi
		if grep -q '^# ' "$path"; then
			printf '!!! what git leaves of a rebase: %s\n' "$(basename "$path")" >&2
			bad=1
		fi
	done < <(patch_paths)
	lines=$(count_lines)
	printf 'series: %d patches, %d added lines in .c and .h (at most %d)\n' \
		"$(patch_list | wc -l)" "$lines" $LINE_LIMIT
	[ "$lines" -le $LINE_LIMIT ] || bad=1
	return $bad
}

case "${1:-}" in
apply)	locked kernel apply_series ;;
work)	work ;;
regen)	locked kernel regen_series ;;
check)	check ;;
*)	die "usage: kernel-series.sh apply|work|regen|check" ;;
esac
