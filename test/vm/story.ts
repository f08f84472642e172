// A machine's life: boot, local changes, switch from a USB stick, roll back, tampering.
// Each chapter acts through the machine's own commands and checks what it finds; the demo prints it,
// story.test.ts runs it as a test. A chapter that finds something wrong throws.

import assert from "node:assert/strict";
import { narrate } from "./installed-disk.ts";
import type { Machine } from "./machine.ts";
import type { Narrator } from "./narrator.ts";

export interface Story {
  readonly machine: Machine;
  readonly narrator: Narrator;
}

const slowMs = 600_000;

const run = (story: Story, command: string, timeoutMs?: number): Promise<string> =>
  narrate(story.machine, story.narrator, command, timeoutMs);

/** The first boot reached userspace: composefs root, version 1, nothing failed. */
export async function checkFirstBoot(story: Story): Promise<void> {
  await checkVersion(story, "1");
  const journal = await run(
    story,
    "journalctl -b -o cat -t prepare-root -u prepare-root.service | grep 'prepare-root:'",
  );
  assert.match(journal, /mounted composefs:/);
  await run(
    story,
    "findmnt -n -o TARGET,SOURCE,FSTYPE,OPTIONS / /sysroot /etc /var || findmnt -n -t overlay,ext4",
  );
}

/** The system runs `version`, is whole, and its root cannot be written. */
export async function checkVersion(story: Story, version: string): Promise<void> {
  const state = await run(
    story,
    "systemctl is-system-running --wait; systemctl --failed --no-legend",
    slowMs,
  );
  assert.equal(state, "running");
  await checkBlessed(story);
  const status = await run(story, "bootc status --format humanreadable");
  assert.match(status, new RegExp(`● Booted image: [\\s\\S]*?Version: ${version} `));
  const source = await story.machine.must("findmnt -n -o SOURCE /");
  assert.match(source, /^composefs:[0-9a-f]{128}$/);
  const cmdline = await run(story, "cat /proc/cmdline");
  assert.match(cmdline, new RegExp(`(^| )demo\\.version=${version}( |$)`));
  assert.ok(cmdline.includes(`composefs=${source.slice("composefs:".length)}`));
  assert.equal(await run(story, "cat /usr/lib/bootc-demo/version"), version);
  const write = await story.machine.run("touch /usr/new");
  assert.notEqual(write.code, 0);
  assert.match(write.output, /Read-only file system/);
  const packages = await story.machine.must(
    "dpkg-query -W hello figlet 2>/dev/null | cut -f 1; true",
  );
  assert.equal(packages.trim(), version === "2" ? "figlet" : "hello");
}

/** A complete start is a good one: no entry of the menu is counted any more, and nothing is on trial. */
async function checkBlessed({ machine }: Story): Promise<void> {
  const entries = await machine.must(
    // Not read-only: systemd may have mounted it on /boot, and one file system is one or the other.
    "mkdir -p /run/esp && mount /dev/disk/by-partlabel/esp /run/esp && ls /run/esp/loader/entries && umount /run/esp",
  );
  assert.match(entries, /^bootc_\S+\.conf$/m);
  assert.doesNotMatch(entries, /\+/);
  await machine.must("test ! -e /sysroot/state/bootc/boot-trial.json");
}

/** A local edit in /etc and data in /var, which every later chapter must find again. */
export async function makeLocalChanges(story: Story): Promise<void> {
  await run(story, "echo 'a local line' >> /etc/hosts");
  await run(story, "rm /etc/issue.net && ln -s /var/lib/demo /etc/demo-link");
  await run(story, "mkdir -p /var/lib/demo && echo 'precious data' > /var/lib/demo/file");
}

export async function checkLocalChanges(story: Story, version: string): Promise<void> {
  assert.match(await run(story, "tail -n 1 /etc/hosts"), /a local line/);
  assert.equal(
    await run(story, "readlink /etc/demo-link; ls /etc/issue.net 2>&1 || true").then(
      (t) => t.split("\n")[0],
    ),
    "/var/lib/demo",
  );
  assert.notEqual((await story.machine.run("test -e /etc/issue.net")).code, 0);
  assert.equal(await run(story, "cat /var/lib/demo/file"), "precious data");
  assert.match(
    await run(story, "cat /etc/bootc-demo.conf"),
    new RegExp(`hello from version ${version}`),
  );
}

/** Where the product images' references say they came from. */
async function mountStick(story: Story, stick: string): Promise<void> {
  const device = `/dev/disk/by-id/virtio-${stick}`;
  await run(story, `mkdir -p /var/mnt/usb && mount -o ro ${device} /var/mnt/usb`);
}

/** Mounts the stick and stages what is on it. */
export async function switchFromStick(story: Story, stick: string): Promise<void> {
  await mountStick(story, stick);
  await run(story, "bootc switch --transport oci /var/mnt/usb/os.oci", slowMs);
  const status = await run(story, "bootc status --format humanreadable");
  assert.match(status, /Staged image/);
  await run(story, "umount /var/mnt/usb");
}

/** The stick still holds what is running: an upgrade has nothing to do and changes nothing. */
export async function checkNothingNew(story: Story, stick: string): Promise<void> {
  await mountStick(story, stick);
  assert.match(await run(story, "bootc upgrade", slowMs), /No update available/);
  await run(story, "umount /var/mnt/usb");
}

export async function reboot(story: Story): Promise<void> {
  const started = performance.now();
  story.narrator.command("systemctl reboot");
  await story.machine.reboot(slowMs);
  story.narrator.answer("the machine is up again", performance.now() - started);
}

export async function rollBack(story: Story): Promise<void> {
  assert.match(await run(story, "bootc rollback", slowMs), /rollback/i);
}

/**
 * Changes one byte of the object behind `path` on the disk, under the file system, and shows that
 * reading it is an I/O error.
 */
export async function tamperFile(story: Story, path: string): Promise<string> {
  const { machine } = story;
  const object = await findObject(machine, path);
  story.narrator.say(`${path} is ${object.slice(0, 50)}…`);
  await changeByte(story, object, 0);
  const read = await machine.run(`cat ${path}`);
  story.narrator.command(`cat ${path}`);
  story.narrator.answer(read.output, 0);
  assert.notEqual(read.code, 0);
  assert.match(read.output, /Input\/output error/);
  return object;
}

/**
 * Fetches what was changed again, from the place the other deployment came from. The running root may
 * still hold the old file open; whoever opens the new one, such as the next boot, reads it whole.
 */
export async function repairFromStick(story: Story, stick: string, object: string): Promise<void> {
  await mountStick(story, stick);
  const found = await story.machine.run("bootc internals fsck", { timeoutMs: slowMs });
  assert.equal(found.code, 1);
  assert.ok(found.output.includes(object.slice(-126)), found.output);
  await run(story, "bootc internals fsck --repair", slowMs);
  assert.match(await run(story, `fsverity measure ${object} || lsattr ${object}`), /sha512|V/);
  await run(story, `cat ${object} > /dev/null`);
  await run(story, "umount /var/mnt/usb");
}

/** The object that holds what a file of the root has. */
export async function findObject(machine: Machine, path: string): Promise<string> {
  const object = await machine.must(
    `
    size=$(stat -c %s ${path}); sum=$(sha512sum < ${path})
    find /sysroot/composefs/objects -type f -size -$((size / 512 + 2))b -size +$((size / 512 - 1))b |
    while read -r o; do [ "$(sha512sum < $o)" = "$sum" ] && echo $o && break; done; true`,
    { timeoutMs: slowMs },
  );
  assert.match(object, /^\/sysroot\/composefs\/objects\/[0-9a-f]{2}\/[0-9a-f]{126}$/);
  return object;
}

/** Changes one byte in the middle of the booted deployment's EROFS image. */
export async function tamperImage(story: Story): Promise<void> {
  const { machine } = story;
  const id = (await machine.must("findmnt -n -o SOURCE /")).slice("composefs:".length);
  const image = await machine.must(`readlink -f /sysroot/composefs/images/${id}`);
  await changeByte(story, image, 8192);
}

async function changeByte(story: Story, file: string, offset: number): Promise<void> {
  const { machine, narrator } = story;
  const extents = await machine.must(`filefrag -e -b4096 ${file}`);
  const block = Math.floor(offset / 4096);
  const physical = physicalBlock(extents, block);
  const device = "/dev/disk/by-partlabel/root";
  const at = physical * 4096 + (offset % 4096);
  const old = await machine.must(
    `dd if=${device} bs=1 skip=${at} count=1 status=none | od -An -tu1`,
  );
  const fresh = (Number(old) ^ 0xff).toString(8);
  const write = `printf '\\${fresh}' | dd of=${device} bs=1 seek=${at} conv=notrunc,fsync status=none`;
  narrator.command(write);
  await machine.must(write);
  await machine.must("echo 3 > /proc/sys/vm/drop_caches");
}

/** The disk block of a file's logical block, from `filefrag -e` (4096-byte units). */
function physicalBlock(extents: string, logical: number): number {
  for (const line of extents.split("\n")) {
    const match = /^\s*\d+:\s+(\d+)\.\.\s*(\d+):\s+(\d+)\.\./.exec(line);
    if (!match) continue;
    const [first, last, start] = match.slice(1).map(Number) as [number, number, number];
    if (logical >= first && logical <= last) return start + logical - first;
  }
  throw new Error(`no extent holds block ${logical}:\n${extents}`);
}

/** The tampered deployment is refused with one line, and the other entry of the menu boots. */
export async function bootOtherEntry(story: Story): Promise<void> {
  const { machine, narrator } = story;
  narrator.command("systemctl reboot");
  const refused = machine.waitForConsole(
    /prepare-root: [^\n]*(refus|cannot|Cannot)[^\n]*/i,
    slowMs,
  );
  await machine.run("systemctl reboot").catch(() => {});
  narrator.answer((await refused)[0], 0);
  const menu = await machine.waitForConsole(/Boot in \d+ s/i, slowMs);
  narrator.say(`boot menu: ${menu[0]}; choosing the second entry`);
  machine.sendConsole("\u001b[B\r");
  await machine.waitReady(slowMs);
}
