#!/bin/sh
# ExecStopPost= of prepare-root.service: after a refusal the machine starts again, so that boot
# counting or a person far away can choose another entry (docs/decisions/0002-refusal-reboots.md).
#
#   rd.shell, rd.break=…   no restart: dracut's emergency shell comes, as after other failures
#   rd.emergency=poweroff  (or halt) instead of a restart
#
# Arguments, for tests only: another /proc/cmdline, another console, another systemctl, the delay, another
# prepare-root, another kernel log.

[ "${SERVICE_RESULT:-success}" = success ] && exit 0

cmdline=${1:-/proc/cmdline}
console=${2:-/dev/console}
systemctl=${3:-systemctl}
delay=${4:-5}
program=${5:-/usr/lib/bootc/prepare-root}
log=${6:-/dev/kmsg}

shell=no
action=reboot
break=no
set -f
# shellcheck disable=SC2013 # words are what is wanted
for word in $(cat "$cmdline"); do
    case $word in
        rd.shell | rd.shell=1 | rd.shell=y* | rd.shell=t* | rd.shell=on) shell=yes ;;
        rd.shell=*) shell=no ;;
        rd.break | rd.break=*) break=yes ;;
        rd.emergency=reboot | rd.emergency=poweroff | rd.emergency=halt) action=${word#*=} ;;
    esac
done

say() {
    printf '\n*** %s ***\n\n' "$1" > "$console"
}

# It may come with a UKI addon (bootc_program=addon, module-setup.sh), and then say nothing when that is missing.
if [ ! -e "$program" ]; then
    echo "<2>prepare-root: refused: the program is not in this initramfs ($program -> $(readlink "$program")): the UKI addon that brings it is missing, not signed, or for another version; choose another boot entry" > "$log"
fi
# What could not even be started has said nothing that anybody hears: 126 and 127 are a loader's, 203 is systemd's.
case ${EXIT_CODE-}-${EXIT_STATUS-} in
    exited-126 | exited-127 | exited-203)
        [ ! -e "$program" ] || echo "<2>prepare-root: refused: the program cannot run in this initramfs (status $EXIT_STATUS): it is damaged, or a library is missing; choose another boot entry" > "$log"
        ;;
esac
if [ "$shell" = yes ] || [ "$break" = yes ]; then
    say "This deployment cannot be started (see above). An emergency shell was asked for"
    exit 0
fi
say "This deployment cannot be started (see above). In $delay seconds: $action. For a shell start with rd.shell"
sleep "$delay"
# --force: units are not stopped one by one, but the disks are unmounted. Twice: at once.
"$systemctl" --force "$action" || "$systemctl" --force --force "$action"
