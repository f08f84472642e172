#!/bin/sh
# /init of an initramfs without systemd: what must be there before a C library and Bun can start,
# then prepare-root as PID 1. Wants mount, modprobe, env (busybox has them) and sh.
#
# Only for kernels whose disk drivers are modules. Where they are built in, the static program
# /usr/lib/bootc/pid1-init does the same without any of these (scripts/build/pid1-program.ts).
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
# The kernel makes environment of words of its command line that it does not know.
exec env -i HOME=/ PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=linux /usr/lib/bootc/prepare-root "$@"
