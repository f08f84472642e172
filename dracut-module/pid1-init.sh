#!/bin/sh
# /init of an initramfs without systemd: what must be there before a C library and Bun can start,
# then prepare-root as PID 1. Wants mount and modprobe (busybox has both) and sh.
#
# etc/prepare-root.modules lists drivers, one a line, in the order they are loaded: nothing waits for
# the disk afterwards.

mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
if [ -r /etc/prepare-root.modules ]; then
    while read -r module; do
        modprobe "$module"
    done < /etc/prepare-root.modules
fi
exec /usr/lib/bootc/prepare-root "$@"
