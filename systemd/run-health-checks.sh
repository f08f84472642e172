#!/bin/sh
# Runs every executable of /usr/lib/bootc/health.d and /etc/bootc/health.d in the order of their names, the one in
# /etc instead of one with the same name in /usr/lib (an empty file or a link to /dev/null: none at all). Each has
# 60 seconds, or as many as /etc/bootc/health-timeout says. Exit 1 when any failed; /run/bootc/health-failed lists them.
#
# Arguments, for tests only: another root directory.

root=${1:-}
limit=60
if [ -r "$root/etc/bootc/health-timeout" ]; then
    read -r limit < "$root/etc/bootc/health-timeout"
fi
results=$root/run/bootc/health-failed
mkdir -p "$root/run/bootc"
rm -f "$results"

list() {
    for file in "$root/usr/lib/bootc/health.d"/* "$root/etc/bootc/health.d"/*; do
        [ -e "$file" ] && printf '%s\n' "${file##*/}"
    done | LC_ALL=C sort -u
}

list | while IFS= read -r name; do
    check=$root/etc/bootc/health.d/$name
    [ -e "$check" ] || check=$root/usr/lib/bootc/health.d/$name
    if [ ! -f "$check" ] || [ ! -x "$check" ]; then continue; fi
    echo "health check $name: begins"
    timeout -k 5 "$limit" "$check" < /dev/null
    code=$?
    case $code in
        0)
            echo "health check $name: good"
            continue
            ;;
        124 | 137) why="took longer than $limit seconds" ;;
        *) why="exit status $code" ;;
    esac
    echo "<3>health check $name: failed ($why)"
    printf '"%s" failed (%s)\n' "$name" "$why" >> "$results"
done
[ ! -e "$results" ]
