// What prepare-root refuses on ostree deployments, beside the real one (ostree 2026.4): both exit with
// code 1, but ours says one line and leaves nothing behind; and where the real one aborts by mistake
// (docs/decisions/0008-ostree-prepare-root.md), ours does not.

import { createPrivateKey, sign } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { encodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import {
  disk,
  type OstreeCase,
  type OstreeRun,
  runOnOstreeDisk,
  useOstreeDisk,
} from "../support/ostree-sysroot.ts";

useOstreeDisk();

const YES = "[composefs]\nenabled=yes\n";
const SIGNED = "[composefs]\nenabled=signed\n";
const KEY_FILE = "/etc/ostree/initramfs-root-binding.key";
const karg = (value: string) => `ostree.prepare-root.composefs=${value}`;

/** Nothing was mounted, made or moved; and there is one line that begins as all refusals do. */
function expectRefusal(run: OstreeRun, message: string | RegExp): void {
  expect(run.code, run.output).toBe(1);
  expect(run.output.split("\n")).toHaveLength(1);
  expect(run.output).toMatch(/^prepare-root: refused: /);
  expect(run.output).toMatch(message);
  expect(run.mounts).toEqual(["7:* / /sysroot rw,relatime - ext4 /dev/loop* rw"]);
  expect(run.run.map((line) => line.split(" ")[3])).toEqual(["run"]);
  expect(run.booted).toBeNull();
}

const REFUSED: readonly (readonly [name: string, message: string | RegExp, each: OstreeCase])[] = [
  ["no ostree=", "No ostree= on the kernel command line", { cmdline: "quiet ostree" }],
  ["an empty ostree=", "No ostree= on the kernel command line", { cmdline: "ostree= quiet" }],
  ["a key that only ends so", "No ostree= on", { cmdline: "my.ostree=/ostree/boot.1/x" }],
  ["an unknown slot", 'slot_suffix=_c" is malformed', { cmdline: "androidboot.slot_suffix=_c" }],
  [
    "a slot without deployment",
    '"/ostree/root.a", which the kernel command line names, is not there',
    { cmdline: "androidboot.mode=normal ostree=/ostree/boot.1/x" },
  ],
  [
    "an unknown deployment",
    "is not there on the root disk",
    { cmdline: "ostree=/ostree/boot.1/x" },
  ],
  ["what is no symlink", "is no symlink to a deployment", { cmdline: "ostree=/ostree/deploy" }],
  [
    "a symlink that leads nowhere",
    "is a symlink to a deployment that is gone",
    { setup: "ln -s nowhere ostree/x", cmdline: "ostree=/ostree/x" },
  ],
  [
    "a symlink to a file",
    "leads to no deployment",
    { setup: "ln -s repo/config ostree/x", cmdline: "ostree=/ostree/x" },
  ],
  [
    "an unknown state of composefs",
    'enabled is "on", expected',
    { config: "[composefs]\nenabled=on\n" },
  ],
  ["an unknown state in the karg", '=on" is malformed', { config: YES, extra: karg("on") }],
  ["an empty karg", '=" is malformed: expected yes', { config: YES, extra: karg("") }],
  [
    "a bad file although the karg overrides it",
    'enabled is ""',
    {
      config: "[composefs]\nenabled=\n",
      extra: karg("yes"),
    },
  ],
  [
    "another word for true",
    '[root] transient is "yes"',
    { config: `${YES}[root]\ntransient=yes\n` },
  ],
  ["no keyfile", "is neither a group nor a key", { config: "[composefs\n" }],
  ["a key before any group", "a key before the first group", { config: "enabled=yes\n" }],
  [
    "no keyfile, although the other one is good",
    'prepare-root.conf" line 1',
    {
      libConfig: "x\n",
      config: YES,
    },
  ],
  [
    "no UTF-8",
    "is not UTF-8 text",
    { config: Buffer.from("[composefs]\nkeypath=\xff\n", "latin1") },
  ],
  [
    "both kinds of transient root",
    "exclude each other",
    {
      config: `${YES}[root]\ntransient=true\ntransient-ro=true\n`,
    },
  ],
  ["a transient root without composefs", "needs composefs", { config: "[root]\ntransient=true\n" }],
  [
    "a transient root with maybe and no image",
    "needs composefs",
    {
      config: "[composefs]\nenabled=maybe\n[root]\ntransient=true\n",
      setup: 'chattr -i "$D"; rm "$D/.ostree.cfs"',
    },
  ],
  [
    "a deployment without its image",
    'has no ".ostree.cfs"',
    {
      config: YES,
      setup: 'chattr -i "$D"; rm "$D/.ostree.cfs"',
    },
  ],
  [
    "an image that is none",
    'image ".ostree.cfs" is damaged',
    {
      config: YES,
      setup: 'echo nothing >"$D/.ostree.cfs"',
    },
  ],
  [
    "maybe with an image that is none",
    'image ".ostree.cfs" is damaged',
    {
      config: "[composefs]\nenabled=maybe\n",
      setup: 'echo nothing >"$D/.ostree.cfs"',
    },
  ],
  [
    "a deployment without /etc",
    'Cannot mount "/etc" of deployment',
    {
      config: YES,
      setup: 'chattr -i "$D"; rm -r "$D/etc"',
    },
  ],
  [
    "a hotfix without its upper directory",
    'Cannot mount "/usr" of deployment',
    {
      config: YES,
      setup: 'chattr -i "$D"; mkdir "$D/.usr-ovl-work"',
    },
  ],
  [
    "a stateroot without /var",
    'Cannot mount "/sysroot/ostree/deploy/labos/var"',
    {
      config: YES,
      setup: "rm -r ostree/deploy/labos/var",
    },
  ],
  ["no key file", `the initramfs has no "${KEY_FILE}"`, { config: SIGNED }],
  [
    "no key file where the config says",
    'has no "/etc/other.key"',
    {
      config: `${SIGNED}keypath=/etc/other.key\n`,
    },
  ],
  [
    "a key file without keys",
    "there is no key in it",
    {
      config: SIGNED,
      before: `echo >.${KEY_FILE}`,
    },
  ],
  [
    "a key that is too short",
    "line 2 is not an Ed25519 key",
    {
      config: SIGNED,
      before: `printf '\\nYWJj\\n' >.${KEY_FILE}`,
    },
  ],
];

describe.each(REFUSED)("%s", (_, message, each) => {
  test("is refused by both", async () => {
    const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
    expect(theirs.code).toBe(1);
    expectRefusal(ours, message);
  });
});

test("a root disk that is not mounted is refused by both", async () => {
  const each = { config: YES, before: "umount sysroot" };
  const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
  expect([theirs.code, ours.code]).toEqual([1, 1]);
  expect(ours.output).toContain('The root disk is not mounted on "/sysroot": check root=');
});

describe("where the real one aborts by mistake", () => {
  test("verity is understood on the command line, as its manual says", async () => {
    const names = ["theirs", "ours"] as const;
    const each = { extra: karg("verity") };
    const { ours, theirs } = await runOnOstreeDisk(disk, each, names);
    const inFile = await runOnOstreeDisk(disk, { config: "[composefs]\nenabled=verity\n" }, names);
    expect(theirs.code).toBe(1);
    expect(ours.code, ours.output).toBe(0);
    expect(ours.mounts).toEqual(inFile.theirs.mounts);
    expect(ours.booted).toEqual(inFile.theirs.booted);
  });

  test("/run/ostree may be there: it is how an initramfs asks for /var", async () => {
    const each = { config: YES, before: "mkdir run/ostree; touch run/ostree/initramfs-mount-var" };
    const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
    expect(theirs.code).toBe(1);
    expect(theirs.output).toContain("File exists");
    expect(ours.code, ours.output).toBe(0);
    // As the real one does when it is made to think that it has made the directory.
    const stateroot = "/ostree/deploy/labos/var";
    expect(ours.mounts.slice(-2)).toEqual([
      `7:* ${stateroot} /sysroot/sysroot${stateroot} rw,relatime - ext4 /dev/loop* rw`,
      `7:* ${stateroot} /sysroot/var rw,relatime shared:* - ext4 /dev/loop* rw`,
    ]);
    expect(ours.run).toContainEqual(expect.stringContaining("run/ostree/initramfs-mount-var"));
  });

  test("an absolute symlink starts at the disk's root", async () => {
    const each = { setup: 'ln -s "/$D" ostree/x', cmdline: "ostree=/ostree/x" };
    const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
    expect(theirs.code).toBe(1);
    expect(ours.code, ours.output).toBe(0);
    expect(ours.mounts[0]).toContain(`/${disk.deployment} /sysroot `);
  });

  test("a second try after a refusal works", async () => {
    const [program] = ["/opt/ours/bun /opt/ours/runOstreePrepareRoot.js"];
    const each = {
      config: YES,
      cmdline: "ostree=/ostree/nowhere",
      after: `chroot . ${program} /sysroot "$(cat "$SCRATCH/good-cmdline")"; findmnt -no FSTYPE "$PWD/sysroot"`,
    };
    writeFileSync(join(disk.scratch, "good-cmdline"), disk.karg);
    const { ours } = await runOnOstreeDisk(disk, each, ["ours"]);
    expectRefusal(ours, "is not there");
    expect(ours.after).toMatch(/^prepare-root: mounted ostree:.*\noverlay$/);
  });
});

describe("signatures", () => {
  const SEED = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
  const PUBLIC = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
  const WRONG = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";
  const PKCS8 = "302e020100300506032b657004220420";

  /** Puts a commitmeta with `signature` (made from the commit's bytes) on the disk. */
  async function runSigned(options: {
    readonly key?: string;
    readonly signature?: (good: Buffer) => readonly Uint8Array[];
    readonly setup?: string;
    readonly extra?: string;
    readonly config?: string;
  }): Promise<{ ours: OstreeRun; theirs: OstreeRun }> {
    const { commit } = disk;
    const object = `ostree/repo/objects/${commit.slice(0, 2)}/${commit.slice(2)}`;
    await runOnOstreeDisk(disk, { setup: `cp ${object}.commit "$SCRATCH/commit"` }, []);
    const der = Buffer.from(PKCS8 + SEED, "hex");
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const good = sign(null, readFileSync(join(disk.scratch, "commit")), privateKey);
    const signatures = options.signature?.(good);
    const meta =
      signatures === undefined
        ? null
        : encodeDictionary([["ostree.sign.ed25519", { type: "aay", value: [...signatures] }]]);
    if (meta !== null) writeFileSync(join(disk.scratch, "commitmeta"), meta);
    const each = {
      config: options.config ?? SIGNED,
      ...(options.extra === undefined ? {} : { extra: options.extra }),
      setup: `${meta === null ? "" : `cp "$SCRATCH/commitmeta" ${object}.commitmeta;`} ${(options.setup ?? "").replaceAll("OBJECT", object)}`,
      before: `echo '${options.key ?? PUBLIC}' >.${KEY_FILE}`,
    };
    return runOnOstreeDisk(disk, each, ["theirs", "ours"]);
  }

  // This kernel has no fs-verity, so a good signature gets as far as the image; test/vm goes on.
  const GOOD = "The image is not protected by fs-verity, which a signature needs";

  test("a good one is accepted; then the image must be protected", async () => {
    const { ours } = await runSigned({ signature: (good) => [good] });
    expectRefusal(ours, GOOD);
  });

  test("one of several keys and signatures is enough, and lengths that are wrong are passed over", async () => {
    const signature = (good: Buffer) => [new Uint8Array(3), new Uint8Array(64), good];
    const { ours } = await runSigned({ key: `${WRONG}\n\n${PUBLIC}`, signature });
    expectRefusal(ours, GOOD);
  });

  test("the karg asks for a signature as the file does (the real one gets SIGABRT)", async () => {
    const options = { config: YES, extra: karg("signed"), signature: (good: Buffer) => [good] };
    const { ours, theirs } = await runSigned(options);
    expect(theirs.code).toBeGreaterThan(1);
    expectRefusal(ours, GOOD);
    const { ours: wrong } = await runSigned({ ...options, key: WRONG });
    expectRefusal(wrong, "is signed by no key of this initramfs");
  });

  test.each([
    ["no commitmeta", {}, "is not signed, and prepare-root.conf wants"],
    ["no signature in it", { signature: () => [] }, "is signed by no key"],
    ["another key", { key: WRONG, signature: (good: Buffer) => [good] }, "is signed by no key"],
    ["another signature", { signature: () => [new Uint8Array(64)] }, "is signed by no key"],
    [
      "a changed commit",
      {
        signature: (good: Buffer) => [good],
        setup: "chattr -i OBJECT.commit 2>/dev/null || true; sed -i s/1.0/1.1/ OBJECT.commit",
      },
      "is signed by no key of this initramfs, or was changed",
    ],
    [
      "a commitmeta that is garbage",
      { signature: (good: Buffer) => [good], setup: "echo xxx >OBJECT.commitmeta" },
      "GVariant",
    ],
    [
      "a commit that is gone",
      { signature: (good: Buffer) => [good], setup: "rm -f OBJECT.commit" },
      "whose signature is to be checked, is not in the repository",
    ],
  ] as const)("%s is refused", async (_, options, message) => {
    const { ours, theirs } = await runSigned(options);
    expect(theirs.code).not.toBe(0);
    expectRefusal(ours, message);
  });
});

test("the journal hears which deployment was started", async () => {
  const listen = `use Socket;
    socket(S, AF_UNIX, SOCK_DGRAM, 0) or die;
    bind(S, sockaddr_un($ARGV[0])) or die;
    open(O, ">", $ARGV[1]); print O "ready\\n"; close O;
    open(O, ">", $ARGV[2]);
    while (defined recv(S, $m, 65536, 0)) { last if $m eq "end"; print O "$m---\\n"; }
    close O;`;
  const end = `use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die;
    send(S, "end", 0, sockaddr_un($ARGV[0])) or die;`;
  writeFileSync(join(disk.scratch, "listen.pl"), listen);
  writeFileSync(join(disk.scratch, "end.pl"), end);
  const each = {
    config: YES,
    before: `mkdir -p run/systemd/journal; mkfifo "$out/ready"
      perl "$SCRATCH/listen.pl" run/systemd/journal/socket "$out/ready" "$out/records" & listener=$!
      read -r _ <"$out/ready"`,
    after:
      'perl "$SCRATCH/end.pl" run/systemd/journal/socket; wait "$listener"; cat "$out/records"',
  };
  const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
  const fields = (run: OstreeRun) =>
    new Set(run.after.match(/^(?:MESSAGE_ID|DEPLOYMENT_\w+|SYSLOG_IDENTIFIER)=.*$/gm));
  expect(ours.code, ours.output).toBe(0);
  expect(fields(ours)).toEqual(fields(theirs));
  expect(ours.after).toContain("MESSAGE_ID=7170336a73ba4601bad31af888aa0df7");
  expect(fields(ours).size).toBe(5);
  expect(ours.after.match(/^MESSAGE_ID=/gm)).toHaveLength(1);
});
