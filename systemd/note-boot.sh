#!/bin/sh
# Writes "<deployment> <seconds since 1970>" to state/bootc/boot-reached on the root disk (bootc-boot-note.service,
# in mounts of its own). docs/boot-assessment.md says who reads it.
#
# Arguments, for tests only: another /proc/cmdline, another /sysroot.

cmdline=${1:-/proc/cmdline}
sysroot=${2:-/sysroot}

id=
set -f
# shellcheck disable=SC2013 # words are what is wanted
for word in $(cat "$cmdline"); do
    case $word in
        composefs=*) id=${word#composefs=} ;;
        composefs.digest=*) [ -n "$id" ] || id=${word##*:} ;;
    esac
done
id=${id#\?}
[ -n "$id" ] || exit 0

[ -w "$sysroot/state" ] || mount -o remount,bind,rw "$sysroot" || exit 1
directory=$sysroot/state/bootc
mkdir -p "$directory" || exit 1
printf '%s %s\n' "$id" "$(date +%s)" > "$directory/.boot-reached.new" || exit 1
mv -f "$directory/.boot-reached.new" "$directory/boot-reached" || exit 1
sync "$directory/boot-reached" "$directory"
