import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FormatError } from "../../shared/error.ts";
import { formatOrigin, parseOrigin } from "./origin.ts";
import { formatStagedFile, parseStagedFile } from "./staged-file.ts";
import { readStates, statePaths, VAR_DIRECTORY } from "./state-directory.ts";

const [a, b] = ["a".repeat(128), "b".repeat(64)];
const origin = {
  imageReference: "ostree-unverified-image:docker://quay.io/x/y:tag",
  bootType: "bls",
  bootDigest: "aa",
  manifestDigest: "sha256:bb",
} as const;
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "state-"));
});
afterEach(() => rmSync(root, { recursive: true }));

test("origins: full, old ones without image or boot digest, unknown groups", () => {
  expect(parseOrigin(formatOrigin(origin), "x")).toEqual(origin);
  const old = { ...origin, bootDigest: null, manifestDigest: null };
  expect(parseOrigin(formatOrigin(old), "x")).toEqual(old);
  expect(formatOrigin(old)).not.toContain("[image]");
  expect(parseOrigin("[rpmostree]\nx=1\n", "x")).toEqual({
    imageReference: null,
    bootType: "bls",
    bootDigest: null,
    manifestDigest: null,
  });
  expect(() => parseOrigin("[boot]\nboot_type=usb\n", "x")).toThrow('boot_type is "usb"');
});

test.each([
  [`{"depl_id":"${a}","finalization_locked":true}`, { id: a, locked: true }],
  [`{"depl_id":"${b}"}`, { id: b, locked: false }],
])("staged file %s", (text, staged) => {
  expect(parseStagedFile(text, "x")).toEqual(staged);
});

test("the staged file is canonical JSON", () => {
  expect(formatStagedFile({ id: a, locked: false })).toBe(
    `{"depl_id":"${a}","finalization_locked":false}`,
  );
});

test.each([
  "",
  "{",
  "null",
  "[]",
  '{"depl_id":1}',
  '{"depl_id":"../../etc"}',
  `{"depl_id":"${a}","finalization_locked":"no"}`,
])("refuses the staged file %j", (text) =>
  expect(() => parseStagedFile(text, "x")).toThrow(FormatError),
);

test("states: complete, half-written, without origin, interrupted, foreign", () => {
  const [full, bare] = [statePaths(root, a), statePaths(root, b)];
  mkdirSync(full.etc, { recursive: true });
  mkdirSync(join(root, VAR_DIRECTORY), { recursive: true });
  symlinkSync(full.varTarget, full.var);
  writeFileSync(full.origin, formatOrigin(origin));
  mkdirSync(bare.directory);
  mkdirSync(full.partial);
  mkdirSync(join(full.deploy, "mine"));
  const { states, leftovers, problems } = readStates(root);
  expect(states).toEqual([
    { id: a, origin, complete: true },
    { id: b, origin: null, complete: false },
  ]);
  expect(leftovers).toEqual([`.partial-${a}`]);
  expect(problems).toHaveLength(3);
  expect(problems.join()).toMatch(/no usable origin.*no etc or var.*mine/s);
  expect(readStates(join(root, "none"))).toEqual({ states: [], leftovers: [], problems: [] });
});

describe("one file of a deployment is damaged", () => {
  const paths = () => statePaths(root, a);
  beforeEach(() => {
    mkdirSync(paths().etc, { recursive: true });
    mkdirSync(join(root, VAR_DIRECTORY), { recursive: true });
    symlinkSync(paths().varTarget, paths().var);
    writeFileSync(paths().origin, formatOrigin(origin));
  });
  const loop = (path: string) => symlinkSync(path, path);
  const put = (bytes: string | Buffer) => (path: string) => writeFileSync(path, bytes);

  test.each<[string, (path: string) => void, RegExp]>([
    ["missing", () => {}, /is missing/],
    ["a directory", (path) => mkdirSync(path), /not a regular file/],
    ["a link to itself", loop, /Too many levels/],
    ["a link to nothing", (path) => symlinkSync("nothing", path), /is missing/],
    ["a device", (path) => symlinkSync("/dev/zero", path), /not a regular file/],
    ["large", put(Buffer.alloc(10 << 20, "#")), /is larger than/],
    ["not UTF-8", put(Buffer.from([0x5b, 0xff, 0xfe])), /is not UTF-8/],
    ["full of NUL bytes", put(Buffer.alloc(200)), /NUL/],
    ["cut off", put("[origin]\ncontainer-im"), /neither a group nor a key/],
    ["of another kind", put("[boot]\nboot_type=usb\n"), /boot_type/],
  ])("its origin is %s", (_, damage, message) => {
    rmSync(paths().origin);
    damage(paths().origin);
    const { states, problems } = readStates(root);
    expect(states).toEqual([{ id: a, origin: null, complete: true }]);
    expect(problems).toEqual([expect.stringMatching(message)]);
  });

  test("the origin has unknown groups, and a digest that is none", () => {
    put("[x]\ny=1\n[image]\nmanifest_digest=../../x\n")(paths().origin);
    expect(readStates(root).states[0]?.origin).toMatchObject({ manifestDigest: null });
  });

  const replaceEtc = () => {
    rmSync(paths().etc, { recursive: true });
    put("")(paths().etc);
  };
  const loopVar = () => {
    rmSync(paths().var);
    loop(paths().var);
  };
  test.each<[string, () => void]>([
    ["etc is a file", replaceEtc],
    ["var leads nowhere", () => rmSync(join(root, VAR_DIRECTORY), { recursive: true })],
    ["var is a loop", loopVar],
  ])("%s", (_, damage) => {
    damage();
    const { states, problems } = readStates(root);
    expect(states).toEqual([{ id: a, origin, complete: false }]);
    expect(problems).toEqual([expect.stringMatching(/has no (etc|var) in its state/)]);
  });

  test("a state that is a file, a policy record that is none, a pin that is anything", () => {
    put("")(join(paths().deploy, b));
    put("{")(paths().policy);
    mkdirSync(paths().pin);
    const { states, problems } = readStates(root);
    expect(states).toEqual([
      { id: a, origin, complete: true, isPinned: true },
      { id: b, origin: null, complete: false },
    ]);
    expect(problems.join()).toMatch(/has a file that is ignored.*not JSON/);
  });

  test("the old record says what the origin does not", () => {
    const manifest = { schemaVersion: 2, config: { digest: "sha256:cc", size: 1 }, layers: [] };
    const text = JSON.stringify(manifest);
    put(formatOrigin({ ...origin, manifestDigest: null }))(paths().origin);
    put(JSON.stringify({ config: {}, manifest }, null, 2))(paths().imageRecord);
    const hex = createHash("sha256").update(text).digest("hex");
    expect(readStates(root)).toMatchObject({
      states: [
        { id: a, origin: { ...origin, manifestDigest: `sha256:${hex}` }, digestUncertain: true },
      ],
      problems: [],
    });
    put("{}")(paths().imageRecord);
    expect(readStates(root).states[0]?.origin?.manifestDigest).toBeNull();
    expect(readStates(root).problems).toEqual([expect.stringContaining("Image record")]);
  });
});
