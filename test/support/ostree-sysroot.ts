// A disk that the real `ostree admin deploy` has put a deployment on, and both prepare-roots run on it.
//
// Each run has a mount namespace of its own, in which a Debian tree with ostree plays the initramfs:
// written to through an overlay, so that nothing stays. Both programs get the same bytes on the same
// loop device, one after the other, so that device and inode numbers in their results are the same.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { bundle } from "../../scripts/build/bundle.ts";
import { ensureOstreeRoot } from "../vm/ostree-root.ts";
import { projectDir } from "./cache.ts";
import { runInMountNamespace } from "./mount-namespace.ts";

export interface OstreeDisk {
  /** A directory for everything; the disk is "pristine.img" in it. */
  readonly scratch: string;
  readonly commit: string;
  /** `ostree=/ostree/boot.1/…`, as the boot entry has it. */
  readonly karg: string;
  /** Of the deployment, below the disk's root. */
  readonly deployment: string;
}

const IMAGE_BYTES = 32 << 20;

/** Puts the Debian tree on $GUEST/root, and what the tests bring along below its /opt. */
const GUEST_SCRIPT = `
mount -t tmpfs guest "$GUEST"
mkdir "$GUEST/upper" "$GUEST/work" "$GUEST/root"
mount -t overlay guest -o "lowerdir=$OSTREE_ROOT,upperdir=$GUEST/upper,workdir=$GUEST/work" "$GUEST/root"
root=$GUEST/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mkdir -p "$root/sysroot" "$root/etc/ostree" "$root/opt/ours" "$root/opt/project"
mount --bind "$PROJECT" "$root/opt/project"
touch "$root/opt/ours/bun"
mount --bind "$BUN" "$root/opt/ours/bun"
cp "$SCRATCH/programs/"* "$root/opt/ours/"
`;

/** A small system with a kernel; the programs of a bigger one are mounted over its /usr when needed. */
const TREE_SCRIPT = `
set -eu
cd /tmp
mkdir -p tree/usr/bin tree/usr/sbin tree/usr/lib/modules/6.12.0 tree/usr/lib/ostree tree/usr/etc/conf.d
mkdir tree/boot tree/var tree/sysroot tree/proc tree/sys tree/dev tree/run tree/tmp
for name in bin sbin lib lib64; do ln -s "usr/$name" "tree/$name"; done
ln -s lib tree/usr/lib64
ln -s sysroot/ostree tree/ostree
echo hello >tree/usr/bin/hello
head -c 100000 /dev/zero | tr '\\0' x >tree/usr/share.bin
echo kernel >tree/usr/lib/modules/6.12.0/vmlinuz
echo initramfs >tree/usr/lib/modules/6.12.0/initramfs.img
printf 'ID=labos\\nPRETTY_NAME="Lab OS"\\n' >tree/usr/lib/os-release
printf '[composefs]\\nenabled=yes\\n' >tree/usr/lib/ostree/prepare-root.conf
echo 127.0.0.1 >tree/usr/etc/hosts
. ./extra.sh
find tree -exec touch -h -d @1600000000 {} +
ostree --repo=repo init --mode=bare
ostree --repo=repo commit -b labos --tree=dir=tree --timestamp=@1700000000 --owner-uid=0 --owner-gid=0 \\
  --generate-composefs-metadata --add-metadata-string=version=1.0
ostree admin init-fs --epoch=1 /mnt
ostree admin --sysroot=/mnt os-init labos
ostree --repo=/mnt/ostree/repo pull-local repo labos >&2
ostree admin --sysroot=/mnt deploy --os=labos --karg=root=/dev/vda2 labos >&2
`;

/** For `extra`: a shell with its libraries, so that an init can be a script. */
export const ADD_SHELL = `
for file in /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*'); do
  mkdir -p "tree\${file%/*}"
  cp -L "$file" "tree$file"
done
`;

/** The disk of the test file that called `useOstreeDisk`. */
export let disk: OstreeDisk;

/** Makes a disk for all tests of a file, and removes it after them. */
export function useOstreeDisk(): void {
  const scratch = mkdtempSync(join(tmpdir(), "ostree-disk-"));
  beforeAll(async () => {
    disk = await makeOstreeDisk(scratch);
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));
}

/** Makes the disk in `scratch`, an empty directory. `extra` are shell commands that add to "tree". */
export async function makeOstreeDisk(scratch: string, extra = ""): Promise<OstreeDisk> {
  const ostreeRoot = await ensureOstreeRoot();
  mkdirSync(join(scratch, "guest"));
  mkdirSync(join(scratch, "programs"));
  writeFileSync(join(scratch, "programs/initrd.js"), (await bundle("initrd")).code);
  for (const name of ["runPrepareRoot", "runOstreePrepareRoot"]) {
    const start = `import { ${name} } from "./initrd.js"; process.exitCode = ${name}`;
    writeFileSync(join(scratch, `programs/${name}.js`), `${start}(process.argv.slice(2));\n`);
  }
  writeFileSync(join(scratch, "make-tree.sh"), TREE_SCRIPT);
  writeFileSync(join(scratch, "extra.sh"), extra);
  const steps = runInMountNamespace(
    `${GUEST_SCRIPT}
     truncate -s ${IMAGE_BYTES} "$SCRATCH/pristine.img"
     mkfs.ext4 -q -b 4096 "$SCRATCH/pristine.img"
     mount -o loop "$SCRATCH/pristine.img" "$root/mnt"
     cp "$SCRATCH/make-tree.sh" "$SCRATCH/extra.sh" "$root/tmp/"
     step commit sh -c 'chroot "$0" sh /tmp/make-tree.sh 2>"$SCRATCH/log" || cat "$SCRATCH/log"' "$root"
     step karg sed -n 's/.*\\(ostree=[^ ]*\\).*/\\1/p' "$root/mnt/boot/loader/entries/ostree-1.conf"
     step deployment sh -c 'cd "$0" && echo ostree/deploy/labos/deploy/*.0' "$root/mnt"`,
    environment(scratch, ostreeRoot),
  );
  const [commit = ""] = /^[0-9a-f]{64}$/m.exec(steps.get("commit")!.output) ?? [];
  if (commit === "") throw new Error(`ostree made no deployment:\n${steps.get("commit")!.output}`);
  const { output: karg } = steps.get("karg")!;
  return { scratch, commit, karg, deployment: steps.get("deployment")!.output };
}

function environment(scratch: string, ostreeRoot: string): Record<string, string> {
  return {
    SCRATCH: scratch,
    GUEST: join(scratch, "guest"),
    OSTREE_ROOT: ostreeRoot,
    BUN: process.execPath,
    PROJECT: projectDir,
  };
}

export interface OstreeCase {
  /** /etc/ostree/prepare-root.conf and /usr/lib/ostree/prepare-root.conf. */
  readonly config?: string | Uint8Array;
  readonly libConfig?: string;
  /** Words after `ostree=…`. */
  readonly extra?: string;
  /** The whole command line; null: none is given, and /proc/cmdline says the same. */
  readonly cmdline?: string | null;
  /** Shell commands on the disk, which is the working directory; $D is the deployment, $BASE its name. */
  readonly setup?: string;
  /** Shell commands in the initramfs's root, before and after the program. */
  readonly before?: string;
  readonly after?: string;
  readonly mountOptions?: string;
}

export interface OstreeRun {
  readonly code: number;
  readonly output: string;
  /** The mount table below /sysroot, without numbers that say nothing; /run and the like left out. */
  readonly mounts: readonly string[];
  /** What is in /run: type, mode, size, path and target. */
  readonly run: readonly string[];
  readonly booted: Buffer | null;
  /** What `after` has printed. */
  readonly after: string;
}

const PROGRAMS = {
  theirs: "/usr/lib/ostree/ostree-prepare-root",
  ours: "/opt/ours/bun /opt/ours/runOstreePrepareRoot.js",
  /** Under its other name it finds out by itself, from /proc/cmdline, what to start. */
  prepareRoot: "/opt/ours/bun /opt/ours/runPrepareRoot.js",
  /** The same, but it can be told what the kernel can do. */
  withKernel: "/opt/ours/bun /opt/project/test/support/prepare-root.ts",
} as const;
export type ProgramName = keyof typeof PROGRAMS;

const RUN_SCRIPT = `
set -eu
${GUEST_SCRIPT}
mount -o "$MOUNT_OPTIONS" "$DEVICE" "$root/sysroot"
[ ! -e "$SCRATCH/config" ] || cp "$SCRATCH/config" "$root/etc/ostree/prepare-root.conf"
[ ! -e "$SCRATCH/lib-config" ] || cp "$SCRATCH/lib-config" "$root/usr/lib/ostree/prepare-root.conf"
out=$SCRATCH/$NAME
cd "$root"
eval "$BEFORE"
code=0
if [ -e "$SCRATCH/cmdline" ]; then
  chroot "$root" $PROGRAM /sysroot "$(cat "$SCRATCH/cmdline")" >"$out/output" 2>&1 || code=$?
else
  cp "$SCRATCH/proc-cmdline" "$root/tmp/cmdline"
  mount --bind "$root/tmp/cmdline" "$root/proc/cmdline"
  chroot "$root" $PROGRAM /sysroot >"$out/output" 2>&1 || code=$?
fi
echo "$code" >"$out/code"
cat /proc/self/mountinfo >"$out/mountinfo"
find run sysroot.tmp -printf '%y %m %s %p %l\\n' 2>/dev/null | sort -k4 >"$out/run" || true
[ ! -e run/ostree-booted ] || cp run/ostree-booted "$out/booted"
eval "$AFTER" >"$out/after" 2>&1
`;

/** Runs the program on a copy of the disk; both programs after each other see the same device. */
export async function runOnOstreeDisk<Name extends ProgramName>(
  disk: OstreeDisk,
  each: OstreeCase,
  names: readonly Name[],
): Promise<Readonly<Record<Name, OstreeRun>>> {
  const { scratch } = disk;
  const ostreeRoot = await ensureOstreeRoot();
  const cmdline = each.cmdline ?? ["quiet", disk.karg, each.extra ?? ""].join(" ").trim();
  for (const name of ["disk.img", "work.img"]) {
    copyFileSync(join(scratch, "pristine.img"), join(scratch, name));
  }
  putFile(scratch, "config", each.config);
  putFile(scratch, "lib-config", each.libConfig);
  putFile(scratch, "cmdline", each.cmdline === null ? undefined : cmdline);
  putFile(scratch, "proc-cmdline", `${cmdline}\n`);
  writeFileSync(join(scratch, "run.sh"), RUN_SCRIPT);
  for (const name of names) {
    rmSync(join(scratch, name), { recursive: true, force: true });
    mkdirSync(join(scratch, name));
  }
  const runs = names.map(
    (name) =>
      `cp "$SCRATCH/disk.img" "$DEVICE"
       NAME=${name} PROGRAM="${PROGRAMS[name]}" unshare --mount --propagation private sh "$SCRATCH/run.sh"`,
  );
  runInMountNamespace(
    `mount -o loop "$SCRATCH/disk.img" "$GUEST"
     cd "$GUEST"
     D=$DEPLOYMENT
     BASE=$(basename "$D")
     eval "$SETUP"
     cd /
     umount "$GUEST"
     export DEVICE=$(losetup --find --show "$SCRATCH/work.img")
     trap 'losetup --detach "$DEVICE"' EXIT
     ${runs.join("\n")}`,
    {
      ...environment(scratch, ostreeRoot),
      DEPLOYMENT: disk.deployment,
      SETUP: each.setup ?? "",
      BEFORE: each.before ?? "",
      AFTER: each.after ?? "",
      MOUNT_OPTIONS: each.mountOptions ?? "rw",
    },
  );
  const results = names.map((name) => [name, readRun(join(scratch, name), scratch)] as const);
  return Object.fromEntries(results) as Record<Name, OstreeRun>;
}

function putFile(scratch: string, name: string, content: string | Uint8Array | undefined): void {
  const path = join(scratch, name);
  if (content === undefined) rmSync(path, { force: true });
  else writeFileSync(path, content);
}

function readRun(folder: string, scratch: string): OstreeRun {
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  const booted = join(folder, "booted");
  const root = join(scratch, "guest/root");
  return {
    code: Number(read("code")),
    output: read("output").trimEnd(),
    mounts: normalizeMounts(read("mountinfo"), root),
    run: read("run")
      .trimEnd()
      .split("\n")
      .map((line) => hideRandomName(line).trimEnd()),
    booted: existsSync(booted) ? readFileSync(booted) : null,
    after: read("after").trimEnd(),
  };
}

/** mkdtemp's six characters. */
export function hideRandomName(text: string): string {
  return text.replaceAll(/transient-etc\.[A-Za-z0-9]{6}/g, "transient-etc.XXXXXX");
}

/**
 * Mounts on /sysroot and /sysroot.tmp, in the table's order, which is the order of mounting. Numbers that
 * are new each time are left out: of loop devices, file systems without a device, and shared mounts.
 */
function normalizeMounts(mountinfo: string, root: string): string[] {
  return mountinfo
    .trim()
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => fields[4]!.startsWith(`${root}/sysroot`))
    .map(([, , device, source, target, ...rest]) => {
      const number = device!.replace(/^(0|7):\d+$/, "$1:*");
      const line = [number, source, target!.slice(root.length), ...rest].join(" ");
      return hideRandomName(line.replace(/(shared:|master:|\/dev\/loop)\d+/g, "$1*"));
    });
}
