// A disk on which the real ostree has committed and deployed the Debian tree, with fs-verity.
// Invariants: nothing of this project is in the deployment, whose own initramfs is the peer's; the
// commit is signed with the public test key below. The build machine's kernel may lack fs-verity, so it
// is switched on for the deployed files in a guest, as `ostree admin post-copy` would.

import { createPrivateKey, sign } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { encodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, run } from "../support/run.ts";
import { createSparse } from "./disks.ts";
import { kernelVersion } from "./os-base.ts";
import { holdInitramfs, release, startHeld } from "./ostree-hold.ts";
import { ensureOstreeRoot } from "./ostree-root.ts";
import { ensureOstreeTree, ensurePeerInitramfs } from "./ostree-tree.ts";

export type OstreeGuest = {
  readonly disk: string;
  readonly kernel: string;
  /** The deployment's own. */
  readonly initrd: string;
  /** The options of the boot entry, with the console for the rig. */
  readonly append: string;
  readonly commit: string;
  /** Of the deployment, below the disk's root. */
  readonly deployment: string;
};

type Facts = Pick<OstreeGuest, "append" | "commit" | "deployment">;

const MEGABYTES = 2560;

/** Its service is masked in the tree, so it would fail. */
const MASKED = "systemd.mask=systemd-logind-varlink.socket";

/** RFC 8032's way to make a key from 32 bytes; these are 00 to 1f. */
const SECRET_PKCS8 = `302e020100300506032b657004220420${Buffer.from(Array.from({ length: 32 }, (_, index) => index)).toString("hex")}`;

/** What the initramfs has in initramfs-root-binding.key, and what it must not have. */
export const PUBLIC_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
export const OTHER_PUBLIC_KEY = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";

/** As an image builder would: /etc below /usr, nothing in /var, links for what the machine writes. */
const ARRANGE = `
set -eu
cd "$1"
mv etc usr/etc
rm -rf var boot run tmp dev proc sys home root srv opt mnt media usr/local sysroot
mkdir var boot run dev proc sys sysroot
mkdir -m 1777 tmp
for name in home srv opt mnt; do ln -s "var/$name" "$name"; done
ln -s var/roothome root
ln -s run/media media
ln -s sysroot/ostree ostree
ln -s ../var/usrlocal usr/local
printf 'd /var/%s 0755 root root -\\n' home srv opt mnt roothome usrlocal tmp log lib >usr/lib/tmpfiles.d/rig.conf
cp "$2" "usr/lib/modules/$3/initramfs.img"
`;

/** On the build machine, in a mount namespace: $1 ostree root, $2 disk, $3 tree. Says three facts. */
const DEPLOY = `
set -eu
root=$1
mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=1,lazy_journal_init=1 "$2"
mount -o loop "$2" "$root/mnt"
mount --bind "$3" "$root/media"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/tmp"
cat >"$root/tmp/deploy" <<'END'
set -eu
ostree admin init-fs --epoch=1 /mnt
ostree --repo=/mnt/ostree/repo config set core.fsync false
ostree admin --sysroot=/mnt os-init debian >&2
ostree --repo=/mnt/ostree/repo commit --branch=debian --tree=dir=/media --fsync=false \\
  --timestamp=@1700000000 --generate-composefs-metadata --add-metadata-string=version=1
ostree admin --sysroot=/mnt deploy --os=debian --karg=root=/dev/disk/by-id/virtio-disk --karg=rw debian >&2
END
chroot "$root" sh /tmp/deploy
sed -n 's/^options //p' "$root/mnt/boot/loader/entries/ostree-1.conf"
cd "$root/mnt"
echo ostree/deploy/debian/deploy/*.0
`;

/** Puts file $3 onto disk $2 as $4, by way of directory $1. */
const ADD_FILE = 'mount -o loop "$2" "$1" && cp "$3" "$1/$4"';
const GET_FILE = 'mount -o loop "$2" "$1" && cp "$1/$4" "$3"';

/** FS_IOC_ENABLE_VERITY (linux/fsverity.h) with SHA-256 and blocks of 4096 bytes. */
const ENABLE_VERITY = `
use Fcntl;
my $argument = pack("L4 x112", 1, 1, 4096, 0);
my $count = 0;
for my $path ("/.ostree.cfs", glob("/sysroot/ostree/repo/objects/*/*.file")) {
  next if -l $path || !-f $path;
  sysopen(my $file, $path, O_RDONLY) or die "$path: $!";
  ioctl($file, 0x40806685, $argument) or die "$path: $!";
  $count++;
}
print "$count\\n";
`;

/** The disk and what starts it, made when it is not in the cache yet. */
export async function ensureOstreeGuest(onLine?: Progress): Promise<OstreeGuest> {
  const tree = await ensureOstreeTree(onLine);
  const peer = await ensurePeerInitramfs(tree, onLine);
  const script = [ARRANGE, DEPLOY, ENABLE_VERITY, SECRET_PKCS8];
  const key = cacheKey("ostree guest 1", MEGABYTES, script, peer);
  const kernel = join(tree, "usr/lib/modules", await kernelVersion(tree), "vmlinuz");
  const files = { kernel, initrd: peer };
  const dir = await cachedDir(join(cacheDir, "vm", `ostree-guest-${key}`), async (path) => {
    const disk = join(path, "disk.raw");
    const facts = await deploy(disk, tree, peer, onLine);
    await enableVerity({ ...files, ...facts, disk }, onLine);
    await writeFile(join(path, "facts.json"), JSON.stringify(facts));
  });
  const facts = JSON.parse(await readFile(join(dir, "facts.json"), "utf8")) as Facts;
  const append = `${facts.append} ${MASKED}`;
  return { ...files, ...facts, append, disk: join(dir, "disk.raw") };
}

async function deploy(disk: string, tree: string, peer: string, onLine?: Progress): Promise<Facts> {
  onLine?.("ostree disk: committing and deploying");
  const ostreeRoot = await ensureOstreeRoot(onLine);
  const copy = `${disk}.tree`;
  await createSparse(disk, MEGABYTES);
  await run(["cp", "-al", tree, copy]);
  const version = await kernelVersion(tree);
  await run(["sh", "-c", ARRANGE, "sh", copy, peer, version]);
  const output = await inNamespace(DEPLOY, [ostreeRoot, disk, copy], onLine);
  await run(["rm", "-rf", copy]);
  const [commit = "", options = "", deployment = ""] = output.trim().split("\n");
  if (!/^[0-9a-f]{64}$/.test(commit)) throw new Error(`ostree made no commit:\n${output}`);
  await signCommit(disk, commit);
  // Only now: the build machine's kernel may refuse to write to such a file system.
  await run(["tune2fs", "-O", "verity", disk]);
  const append = `${options} console=ttyS0,115200 no_timer_check panic=5 quiet`;
  return { commit, deployment, append };
}

/** Debian's ostree is built without Ed25519, so its `ostree sign` cannot do this. */
async function signCommit(disk: string, commit: string): Promise<void> {
  const object = `ostree/repo/objects/${commit.slice(0, 2)}/${commit.slice(2)}`;
  const mount = `${disk}.mount`;
  const [signed, meta] = [`${disk}.commit`, `${disk}.commitmeta`];
  await run(["mkdir", mount]);
  await inNamespace(GET_FILE, [mount, disk, signed, `${object}.commit`]);
  const secret = Buffer.from(SECRET_PKCS8, "hex");
  const key = createPrivateKey({ key: secret, format: "der", type: "pkcs8" });
  const signature = sign(null, await readFile(signed), key);
  const value = { type: "aay", value: [signature] };
  await writeFile(meta, encodeDictionary([["ostree.sign.ed25519", value]]));
  await inNamespace(ADD_FILE, [mount, disk, meta, `${object}.commitmeta`]);
  await run(["rm", "-r", mount, signed, meta]);
}

function inNamespace(script: string, words: readonly string[], onLine?: Progress): Promise<string> {
  const namespace = ["unshare", "--mount", "--propagation", "private", "--"];
  return run([...namespace, "sh", "-c", script, "sh", ...words], { onLine });
}

async function enableVerity(guest: OstreeGuest, onLine?: Progress): Promise<void> {
  onLine?.("ostree disk: switching fs-verity on");
  const initrd = await holdInitramfs(guest.initrd);
  await using machine = await startHeld("ostree-verity", { ...guest, initrd }, "write", onLine);
  const root = `/sysroot/${guest.deployment}`;
  await machine.must(`mount -o remount,rw /sysroot
    mount --rbind /dev ${root}/dev; mount --bind /sysroot ${root}/sysroot`);
  const script = ENABLE_VERITY.trim().replaceAll("\n", " ");
  const count = await machine.must(`chroot ${root} perl -e '${script}'`, { timeoutMs: 600_000 });
  onLine?.(`ostree disk: ${count} files have fs-verity`);
  await machine.must(
    `umount ${root}/sysroot; umount -R ${root}/dev; mount -o remount,ro /sysroot; sync`,
  );
  await release(machine, "poweroff");
}
