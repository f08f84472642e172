// Runs dist/bootc as a whole program on a machine that this one only looks like: an install target
// whose boot partition says it is vfat, or a host whose root says it is a composefs image. All of it in
// a mount namespace of its own.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { EXECUTABLE } from "../../scripts/build.ts";
import { runInMountNamespace } from "./mount-namespace.ts";

export interface ProgramOutcome {
  readonly code: number;
  /** Standard output and standard error. */
  readonly output: string;
  /** Files of the disk before and after, one a line with type, mode and size. */
  readonly before: string;
  readonly after: string;
}

const LIST = "list() { find \"$1\" -printf '%P %y %m %s\\n' | sort; }";

/** `sh -c PRETEND program argument…`: $TARGET/boot becomes a vfat in the program's mount table. */
const PRETEND = `sed "s|\\( $TARGET/boot .* - \\)tmpfs|\\1vfat|" /proc/self/mountinfo >"$SCRATCH/mountinfo"
mount --bind "$SCRATCH/mountinfo" "/proc/$$/mountinfo"
exec "$0" "$@"`;

/** Where everybody may execute it, as test/bootc below `run`, a shell word. */
const placeProgram = (run: string) =>
  `mkdir ${run}/test; touch ${run}/test/bootc; mount --bind "$BOOTC" ${run}/test/bootc`;

export interface InstallHost {
  /** Mount options of the disk, a tmpfs, and of its boot partition. */
  readonly disk?: string;
  readonly bootPartition?: string;
  /** Shell commands once both are mounted, $TARGET and $TARGET/boot. */
  readonly prepare?: string;
  /** In front of the program, such as "setpriv …"; a shell word each. */
  readonly wrapper?: string;
  /** The boot partition is a tmpfs and no vfat. */
  readonly honest?: boolean;
}

/** `bootc install to-filesystem $TARGET ARGS` in `scratch`, a directory; ARGS are shell words. */
export function runInstall(scratch: string, args: string, host: InstallHost = {}): ProgramOutcome {
  const target = join(scratch, "target");
  mkdirSync(target, { recursive: true });
  const pretend = host.honest === true ? "" : 'sh -c "$PRETEND"';
  const steps = runInMountNamespace(
    `${LIST}
     mount -t tmpfs run /run
     ${placeProgram("/run")}
     mount -t tmpfs -o ${host.disk ?? "size=64m"} disk "$TARGET"
     mkdir "$TARGET/boot"
     mount -t tmpfs -o ${host.bootPartition ?? "size=16m"} esp "$TARGET/boot"
     cd "$SCRATCH"
     ${host.prepare ?? ""}
     step before list "$TARGET"
     step run ${pretend} ${host.wrapper ?? ""} /run/test/bootc install to-filesystem ${args}
     step after list "$TARGET"`,
    { BOOTC: EXECUTABLE, SCRATCH: scratch, TARGET: target, PRETEND },
  );
  return outcome(steps);
}

export interface BootedHost {
  /** What is mounted as root, e.g. "composefs:<id>"; a word that is no image for an ordinary system. */
  readonly root: string;
  readonly cmdline: string;
  /** Shell commands that mount /sysroot, which is an empty directory. */
  readonly prepare?: string;
  /** In front of the program; a shell word each. */
  readonly wrapper?: string;
}

/** `bootc ARGS` on a host that is no container; ARGS are shell words. */
export function runOnHost(scratch: string, args: string, host: BootedHost): ProgramOutcome {
  const root = join(scratch, "host");
  mkdirSync(root, { recursive: true });
  const steps = runInMountNamespace(
    `mount -t tmpfs host "$ROOT"
     mkdir "$ROOT/upper" "$ROOT/work" "$ROOT/root" "$ROOT/upper/sysroot"
     mknod "$ROOT/upper/.dockerenv" c 0 0
     mount -t overlay "$SOURCE" -o "lowerdir=/,upperdir=$ROOT/upper,workdir=$ROOT/work" "$ROOT/root"
     for name in proc sys dev; do mount --rbind "/$name" "$ROOT/root/$name"; done
     mount -t tmpfs run "$ROOT/root/run"
     ${placeProgram('"$ROOT/root/run"')}
     mkdir -p "$ROOT/root$SCRATCH"
     mount --bind "$SCRATCH" "$ROOT/root$SCRATCH"
     printf '%s\\n' "$CMDLINE" >"$ROOT/cmdline"
     mount --bind "$ROOT/cmdline" "$ROOT/root/proc/cmdline"
     exec chroot "$ROOT/root" sh -euc "$INSIDE"`,
    {
      BOOTC: EXECUTABLE,
      SCRATCH: scratch,
      ROOT: root,
      SOURCE: host.root,
      CMDLINE: host.cmdline,
      INSIDE: `${LIST}
        step() {
          name=$1; shift
          printf '\\n@@begin %s\\n' "$name"
          code=0; "$@" 2>&1 || code=$?
          printf '\\n@@end %s\\n' "$code"
        }
        cd "$SCRATCH"
        ${host.prepare ?? ""}
        step before list /sysroot
        step run ${host.wrapper ?? ""} /run/test/bootc ${args}
        step after list /sysroot`,
    },
  );
  return outcome(steps);
}

function outcome(steps: ReturnType<typeof runInMountNamespace>): ProgramOutcome {
  const { code, output } = steps.get("run")!;
  return { code, output, before: steps.get("before")!.output, after: steps.get("after")!.output };
}
