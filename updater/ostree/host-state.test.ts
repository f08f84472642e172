import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Dictionary, encodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import { encodeCommit } from "../../shared/format/ostree/commit.ts";
import { loosePath } from "../../shared/format/ostree/object.ts";
import { createOstreeRepository, openOstreeRepository } from "../../shared/ostree/repository.ts";
import { addMetadata, beginTransaction, publishObjects } from "../../shared/ostree/transaction.ts";
import type { System } from "../boot/system.ts";
import { formatHostHuman } from "../output/human.ts";
import { makeOstreeHost } from "../spec/make-ostree-host.ts";
import { readOstreeHost } from "./host-state.ts";

const BOOT = "b".repeat(64);
const DIGEST = `sha256:${"d".repeat(64)}`;
const NEWER = `sha256:${"e".repeat(64)}`;
const REFERENCE = "ostree-unverified-registry:quay.io/example/os:latest";
const string = (value: string) => ({ type: "s", value });
const configOf = (version: string) =>
  string(
    JSON.stringify({
      architecture: "amd64",
      created: "2026-01-02T03:04:05Z",
      config: { Labels: { "org.opencontainers.image.version": version } },
      rootfs: { type: "layers", diff_ids: [] },
    }),
  );
const IMAGE: Dictionary = [
  ["ostree.manifest-digest", string(DIGEST)],
  ["ostree.container.image-config", configOf("42.1")],
];

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ostree-host-"));
  mkdirSync(join(root, "ostree"));
  mkdirSync(join(root, "boot/loader.0/entries"), { recursive: true });
  symlinkSync("loader.0", join(root, "boot/loader"));
  mkdirSync(join(root, "run/ostree"), { recursive: true });
  mkdirSync(join(root, "usr/lib/systemd/system"), { recursive: true });
  writeFileSync(join(root, "usr/lib/systemd/system/soft-reboot.target"), "");
  createOstreeRepository(join(root, "ostree/repo"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const system = (): System => ({
  root,
  physicalRoot: root,
  runDirectory: join(root, "run"),
  sysfs: join(root, "sys"),
  devices: join(root, "dev"),
  cmdline: "",
  mounts: [],
  bootPath: null,
});

function addCommit(metadata: Dictionary, subject: string): string {
  const zero = "0".repeat(64);
  using repo = openOstreeRepository(join(root, "ostree/repo"));
  using transaction = beginTransaction(repo);
  const commit = addMetadata(
    transaction,
    "commit",
    encodeCommit({
      metadata,
      parent: null,
      related: [],
      subject,
      body: "",
      timestampSec: 1_700_000_000,
      tree: zero,
      meta: zero,
    }),
  );
  publishObjects(transaction);
  return commit;
}

/** Puts a deployment with an entry of that version on the disk; returns its directory. */
function deploy(
  commit: string,
  options: {
    readonly version: number;
    readonly stateroot?: string;
    readonly origin?: string;
    readonly kargs?: string;
  },
): string {
  const stateroot = options.stateroot ?? "os";
  const path = join(root, "ostree/deploy", stateroot, "deploy", `${commit}.0`);
  mkdirSync(path, { recursive: true });
  if (options.origin !== undefined) writeFileSync(`${path}.origin`, options.origin);
  const link = join(root, "ostree/boot.0", stateroot, BOOT);
  mkdirSync(link, { recursive: true });
  const serial = options.version;
  symlinkSync(`../../../deploy/${stateroot}/deploy/${commit}.0`, join(link, `${serial}`));
  writeFileSync(
    join(root, `boot/loader.0/entries/ostree-${serial}.conf`),
    `title OS\nversion ${serial}\noptions ${options.kargs ?? "quiet"} ostree=/ostree/boot.0/${stateroot}/${BOOT}/${serial}\nlinux /ostree/k\n`,
  );
  return path;
}

function markBooted(path: string, more: Dictionary = []): void {
  const { dev, ino } = statSync(path);
  const record: Dictionary = [
    ["backing-root-device-inode", { type: "(tt)", value: [BigInt(dev), BigInt(ino)] }],
    ["composefs", { type: "b", value: true }],
    ...more,
  ];
  writeFileSync(join(root, "run/ostree-booted"), encodeDictionary(record));
}

const readHost = () =>
  makeOstreeHost(readOstreeHost(system()), { secureBoot: "disabled", tpm: false });

test("an image, the one before it, and one of another stateroot", () => {
  const [current, old] = [addCommit(IMAGE, "new"), addCommit([], "old")];
  const origin = `[origin]\ncontainer-image-reference=${REFERENCE}\n`;
  markBooted(deploy(current, { version: 3, origin }));
  deploy(old, {
    version: 2,
    origin:
      "[origin]\nrefspec=fedora:os\n[packages]\nrequested=vim;\n[libostree-transient]\npinned=true\n",
  });
  deploy(old, { version: 1, stateroot: "other", kargs: "debug" });
  const { spec, status } = readHost();
  expect(spec).toEqual({
    image: { image: "quay.io/example/os:latest", transport: "registry" },
    bootOrder: "default",
  });
  expect(status.problems).toBeUndefined();
  expect(status.type).toBe("bootcHost");
  expect(status.booted).toEqual({
    image: {
      image: { image: "quay.io/example/os:latest", transport: "registry" },
      version: "42.1",
      timestamp: "2026-01-02T03:04:05Z",
      imageDigest: DIGEST,
      architecture: "amd64",
    },
    cachedUpdate: null,
    incompatible: false,
    pinned: false,
    softRebootCapable: false,
    downloadOnly: false,
    store: "ostreeContainer",
    ostree: { stateroot: "os", checksum: current, deploySerial: 0 },
    composefs: null,
    trust: {
      ...{ mode: "unlocked", sealed: false, key: null, version: null, expires: null },
      ...{ verity: "optional", refusal: null },
    },
  });
  expect(status.rollback).toMatchObject({
    image: null,
    incompatible: true,
    pinned: true,
    softRebootCapable: true,
    ostree: { stateroot: "os", checksum: old },
  });
  expect(status.otherDeployments).toMatchObject([
    { ostree: { stateroot: "other" }, softRebootCapable: false },
  ]);
  const text = formatHostHuman(readHost(), { verbose: true });
  expect(text).toContain("● Booted image: quay.io/example/os:latest\n");
  expect(text).toContain("  Rollback ostree\n");
  expect(text).toContain(`Commit: ${old}`);
});

test("a commit that was checked by its signature", () => {
  const signed: Dictionary = [
    ["composefs.signed", string("/etc/ostree/initramfs-root-binding.key")],
    ["composefs.verity", { type: "b", value: true }],
  ];
  markBooted(deploy(addCommit(IMAGE, "one"), { version: 1 }), signed);
  const { status } = readHost();
  expect(status.booted?.trust).toMatchObject({
    mode: "ostree-signed",
    key: { name: "/etc/ostree/initramfs-root-binding.key", fingerprint: null },
    verity: "enforced",
  });
  expect(status.trust).toEqual({
    ...{ secureBoot: "disabled", tpm: false, next: null },
    floor: { version: null, source: "none" },
  });
  expect(formatHostHuman(readHost(), { verbose: false })).toContain(
    "Trust: ostree-signed by /etc/ostree/initramfs-root-binding.key, fs-verity enforced, Secure Boot off\n",
  );
});

test("a commit that was not checked: what the next mode needs", () => {
  markBooted(deploy(addCommit(IMAGE, "one"), { version: 1 }));
  expect(readHost().status.trust?.next).toMatchObject({ mode: "ostree-signed" });
});

test("a rollback that boots next", () => {
  const [current, old] = [addCommit([], "new"), addCommit([], "old")];
  deploy(old, { version: 2 });
  markBooted(deploy(current, { version: 1 }));
  const { spec, status } = readHost();
  expect([spec.bootOrder, status.rollbackQueued]).toEqual(["rollback", true]);
  expect(status.rollback?.ostree?.checksum).toBe(old);
  expect([spec.image, status.type]).toEqual([null, null]);
});

test("what is staged, and the update that the last check found", () => {
  const [current, next] = [addCommit(IMAGE, "new"), addCommit(IMAGE, "next")];
  const origin = `[origin]\ncontainer-image-reference=${REFERENCE}\n`;
  markBooted(deploy(current, { version: 1, origin }));
  writeFileSync(
    join(root, "ostree/repo/objects", loosePath(current, "commitmeta").replace(/^objects\//, "")),
    encodeDictionary([
      ["ostree-ext.cached.manifest-digest", string(NEWER)],
      ["ostree-ext.cached.config", configOf("42.2")],
    ]),
  );
  const target = {
    type: "a{sv}",
    value: [
      ["name", string(`${next}.0`)],
      ["osname", string("os")],
    ],
  };
  writeFileSync(
    join(root, "run/ostree/staged-deployment"),
    encodeDictionary([
      ["target", target as never],
      ["locked", { type: "b", value: true }],
    ]),
  );
  const { status } = readHost();
  expect(status.booted?.cachedUpdate).toMatchObject({ imageDigest: NEWER, version: "42.2" });
  expect(status.staged).toMatchObject({ downloadOnly: true, ostree: { checksum: next } });
  expect(status.rollback).toBeNull();
});

test.each([
  ["unlocked-development", { accessMode: "readWrite", persistence: "transient" }],
  ["unlocked-transient", { accessMode: "readOnly", persistence: "transient" }],
])("/usr is %s", (name, expected) => {
  const commit = addCommit([], "one");
  markBooted(deploy(commit, { version: 1 }));
  const directory = join(root, `run/ostree/deployment-state/${commit}.0`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, name), "");
  expect(readHost().status.usrOverlay).toEqual(expected);
});

describe("damage is reported, and the rest is still told:", () => {
  const origin = `[origin]\ncontainer-image-reference=${REFERENCE}\n`;
  const cases: readonly (readonly [string, () => void, RegExp])[] = [
    [
      "a commit that is gone",
      () => markBooted(deploy("c".repeat(64), { version: 1, origin })),
      /Deployment cccccccccccc\.0: /,
    ],
    [
      "a reference that is none",
      () =>
        markBooted(
          deploy(addCommit(IMAGE, "x"), {
            version: 1,
            origin: "[origin]\ncontainer-image-reference=nonsense\n",
          }),
        ),
      /"nonsense" is not an image reference/,
    ],
    [
      "a commit that names no image",
      () => markBooted(deploy(addCommit([], "x"), { version: 1, origin })),
      /does not say which image it is/,
    ],
    [
      "a manifest digest that is none",
      () =>
        markBooted(
          deploy(addCommit([["ostree.manifest-digest", string("sha256:12")]], "x"), {
            version: 1,
            origin,
          }),
        ),
      /"sha256:12", no digest/,
    ],
    [
      "a boot entry that leads nowhere",
      () => {
        markBooted(deploy(addCommit([], "x"), { version: 1 }));
        writeFileSync(join(root, "boot/loader.0/entries/ostree-9.conf"), "version 9\n");
      },
      /Boot entry "ostree-9\.conf"/,
    ],
    [
      "a record of the start that is not one",
      () => {
        deploy(addCommit([], "x"), { version: 1 });
        writeFileSync(join(root, "run/ostree-booted"), "garbage");
      },
      /What was booted is unknown/,
    ],
  ];
  test.each(cases)("%s", (_name, damage, expected) => {
    damage();
    const { status } = readHost();
    expect(status.problems?.join("\n")).toMatch(expected);
  });
});
