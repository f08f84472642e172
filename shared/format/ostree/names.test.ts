// Names and small texts: refs, deployments, boot links and entries, origins, keys, settings.

import { expect, test } from "vitest";
import { encodeDictionary } from "../gvariant/dictionary.ts";
import { formatRepositoryConfig, parseRepositoryConfig } from "./config.ts";
import {
  parseBootLink,
  parseBootPath,
  parseDeploymentName,
  parseLoaderLink,
  parseOstreeEntryName,
} from "./deployment.ts";
import { parseOstreeOrigin } from "./origin.ts";
import { parseStagedDeployment } from "./record.ts";
import { isRefName, parseRefFile, parseRefspec } from "./ref.ts";
import { parsePublicKeys } from "./signature.ts";

const SUM = "0a".repeat(32);

test.each([
  ["a", true],
  ["fedora/x86_64/coreos/stable", true],
  ["ostree/0/1/0", true],
  ["_a/b-c.d_e", true],
  ["", false],
  ["/a", false],
  ["a/", false],
  ["a//b", false],
  [".a", false],
  ["a/..", false],
  ["-a", false],
  ["a b", false],
  ["ü", false],
])("a ref's name: %j %s", (text, expected) => {
  expect(isRefName(text)).toBe(expected);
});

test("refspecs", () => {
  expect(parseRefspec("a/b")).toEqual({ remote: null, ref: "a/b" });
  expect(parseRefspec("origin:a/b")).toEqual({ remote: "origin", ref: "a/b" });
  for (const text of [":a", "a:", "a/b:c", "a:b:c", ""]) {
    expect(() => parseRefspec(text)).toThrow("neither a checksum nor the name of a ref");
  }
  expect(parseRefFile(`${SUM}\n`)).toBe(SUM);
  expect(parseRefFile("x\n")).toBe(null);
});

test("deployments and what leads to them", () => {
  expect(parseDeploymentName(`${SUM}.12`)).toEqual({ commit: SUM, serial: 12 });
  for (const name of [SUM, `${SUM}.`, `${SUM}.x`, "1234.0", `${SUM}.0.origin`, `${SUM}.-1`]) {
    expect(parseDeploymentName(name)).toBe(null);
  }
  expect(parseBootPath(`/ostree/boot.1/os/${SUM}/0`)).toEqual({
    ...{ bootVersion: 1, stateroot: "os", bootChecksum: SUM, serial: 0 },
  });
  for (const path of [
    ...[`/ostree/boot.2/os/${SUM}/0`, `/ostree/boot.0/os/${SUM}/0/`, `/ostree/boot.0.1/os/x/0`],
    ...["ostree/boot.0/os/x/0", "/ostree/boot.0/os/x/", "/boot/ostree.0"],
  ]) {
    expect(parseBootPath(path)).toBe(null);
  }
  expect(parseBootLink(`../../../deploy/os/deploy/${SUM}.3`)).toEqual({
    ...{ stateroot: "os", commit: SUM, serial: 3 },
  });
  expect(parseBootLink(`../../deploy/os/deploy/${SUM}.3`)).toBe(null);
  expect(["loader.0", "loader.1", "loader.2", "loader"].map(parseLoaderLink)).toEqual([
    ...[0, 1, null, null],
  ]);
});

test.each([
  ["ostree-1.conf", { index: 1, stateroot: null, counter: null }],
  ["ostree-12-fedora-coreos.conf", { index: 12, stateroot: "fedora-coreos", counter: null }],
  ["ostree-2+3.conf", { index: 2, stateroot: null, counter: { left: 3, done: 0 } }],
  ["ostree-1-os+2-1.conf", { index: 1, stateroot: "os", counter: { left: 2, done: 1 } }],
  ["ostree-zz.conf", { index: null, stateroot: null, counter: null }],
  ["ostree-1.conf.bak", null],
  ["bootc_os-1-1.conf", null],
])("entry %s", (name, expected) => {
  expect(parseOstreeEntryName(name)).toEqual(expected);
});

test("origins", () => {
  const text =
    "[origin]\ncontainer-image-reference=ostree-unverified-registry:q.io/a\nunlocked=hotfix\n[libostree-transient]\npinned=true\n[packages]\nrequested=vim;\n";
  expect(parseOstreeOrigin(text, "x")).toMatchObject({
    ...{ refspec: null, containerImageReference: "ostree-unverified-registry:q.io/a" },
    ...{ overrideCommit: null, unconfiguredState: null, isUnlocked: true, isPinned: true },
  });
  expect(parseOstreeOrigin(text, "x").keyfile.get("packages")?.get("requested")).toBe("vim;");
  expect(parseOstreeOrigin("", "x")).toMatchObject({ refspec: null, isPinned: false });
});

test("records of staged deployments that are none", () => {
  const parse = (...target: Parameters<typeof encodeDictionary>[0][number][1][]) =>
    parseStagedDeployment(encodeDictionary(target.map((value) => ["target", value] as const)));
  expect(() => parse()).toThrow('has no "target"');
  expect(() => parse({ type: "s", value: "x" })).toThrow('has no "target"');
  const nameless = [["osname", { type: "s", value: "os" }]];
  expect(() => parse({ type: "a{sv}", value: nameless as never })).toThrow("without name");
});

test("public keys", () => {
  const key = Buffer.alloc(32, 5).toString("base64");
  expect(parsePublicKeys(`\n${key}\n  ${key}  \n\n`, "f")).toHaveLength(2);
  for (const text of ["", "\n\n", "x", `${key}x`, Buffer.alloc(31).toString("base64"), "# c"]) {
    expect(() => parsePublicKeys(text, "f")).toThrow('Cannot read the public keys in "f"');
  }
});

test.each(["bare", "bare-user", "bare-user-only", "bare-split-xattrs", "archive"] as const)(
  "settings of mode %s",
  (mode) => {
    const config = parseRepositoryConfig(formatRepositoryConfig(mode), "config");
    expect(config).toEqual({ mode, parent: null, collectionId: null, requiresVerity: false });
  },
);

test("settings with more", () => {
  const text = '[core]\nrepo_version=1\ncollection-id=org.x\nparent=/p\n[remote "a"]\nurl=x\n';
  expect(parseRepositoryConfig(text, "config")).toEqual({
    ...{ mode: "bare", parent: "/p", collectionId: "org.x", requiresVerity: false },
  });
  const requires = (more: string) => parseRepositoryConfig(`${text}${more}`, "c").requiresVerity;
  expect(requires("[ex-integrity]\nfsverity=yes\n")).toBe(true);
  expect(requires("[ex-fsverity]\nrequired=true\n")).toBe(true);
  expect(requires("[ex-integrity]\nfsverity=maybe\ncomposefs=true\n")).toBe(false);
});
