#!/bin/sh
# A systemd.generator(7). Health checks, and with them boot-complete.target, come after the default target here. A unit
# that the default target wants and that comes after boot-complete.target would have the default target wait for
# itself: a target waits for what it wants, unless that says that it comes after the target. This says so for every
# such unit, and for those ordered after them. It is what their order amounts to anyway, so nothing else changes.
#
# What is read: "After=" in unit files and their drop-ins. Never fails: without it one job is dropped, as ever.

out=${1:-/run/systemd/generator}
tab=$(printf '\t')
settings=$(grep -RHsZ -D skip -e '^[[:space:]]*After[[:space:]]*=' /etc/systemd/system /run/systemd/system \
  /usr/local/lib/systemd/system /usr/lib/systemd/system | tr '\0' '\t')

# Names of the units that come after $1.
units_after() {
  printf '%s\n' "$settings" | while IFS="$tab" read -r file setting; do
    case " ${setting#*=} " in *" $1 "*) ;; *) continue ;; esac
    case $file in */*.d/*.conf) file=${file%.d/*} ;; esac
    name=${file##*/}
    case $name in
      multi-user.target | graphical.target) ;; # nothing helps these
      *.*) printf '%s\n' "$name" ;;            # a drop-in for all of a type has no dot
    esac
  done
}

seen=" "
queue=boot-complete.target
while [ -n "$queue" ]; do
  found=
  for unit in $queue; do found="$found $(units_after "$unit")"; done
  queue=
  for unit in $found; do
    case $seen in *" $unit "*) continue ;; esac
    seen="$seen$unit "
    queue="$queue $unit"
  done
done

for unit in $seen; do
  mkdir -p "$out/$unit.d" &&
    printf '[Unit]\nAfter=multi-user.target graphical.target\n' >"$out/$unit.d/10-bootc-boot-order.conf"
done
exit 0
