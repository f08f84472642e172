import { expect, test } from "vitest";
import { parseLegacyReadOnly, parseOstreeConfig } from "./config.ts";

const parse = (text: string, karg: string | null = null) =>
  parseOstreeConfig([{ path: "conf", text }], karg);

const DEFAULTS = {
  composefs: "no",
  requireVerity: false,
  signed: false,
  keyFile: "/etc/ostree/initramfs-root-binding.key",
  rootTransient: "no",
  etcTransient: false,
  sysrootReadOnly: null,
};

test("without files everything has its default", () => {
  expect(parseOstreeConfig([], null)).toEqual(DEFAULTS);
});

const VERITY = { composefs: "yes", requireVerity: true, signed: false };
const SIGNED = { ...VERITY, signed: true };
const plain = (composefs: string) => ({ composefs, requireVerity: false, signed: false });

test.each([
  ["yes", null, plain("yes")],
  ["true", null, plain("yes")],
  ["1", null, plain("yes")],
  ["no", null, plain("no")],
  ["false", null, plain("no")],
  ["0", null, plain("no")],
  ["maybe", null, plain("maybe")],
  ["verity", null, VERITY],
  ["signed", null, SIGNED],
  ["no", "yes", plain("yes")],
  ["yes", "0", plain("no")],
  ["no", "signed", SIGNED],
  ["no", "verity", VERITY],
  // A demanded fs-verity stays, a demanded signature does not.
  ["verity", "1", VERITY],
  ["signed", "yes", VERITY],
  ["signed", "maybe", { ...VERITY, composefs: "maybe" }],
  ["verity", "signed", SIGNED],
])("composefs.enabled=%s with karg %j", (word, karg, expected) => {
  expect(parse(`[composefs]\nenabled=${word}\n`, karg)).toMatchObject(expected);
});

test.each([
  ["[root]\ntransient=true\n", { rootTransient: "writable" }],
  ["[root]\ntransient-ro=1\n", { rootTransient: "read-only" }],
  ["[root]\ntransient=0\ntransient-ro=true\n", { rootTransient: "read-only" }],
  ["[etc]\ntransient=true\n", { etcTransient: true }],
  ["[sysroot]\nreadonly=true\n", { sysrootReadOnly: true }],
  ["[sysroot]\nreadonly=false\n", { sysrootReadOnly: false }],
  ["[composefs]\nkeypath=/k\n", { keyFile: "/k" }],
  ["# c\n[sysroot]\n readonly = 1 \n[new]\nkey=x\n", { sysrootReadOnly: true }],
])("%j", (text, expected) => {
  expect(parse(text)).toEqual({ ...DEFAULTS, ...expected });
});

test("the last file counts as a whole, and all must be well-formed", () => {
  const files = (first: string) => [
    { path: "lib", text: first },
    { path: "etc", text: "[etc]\ntransient=true\n" },
  ];
  const config = parseOstreeConfig(files("[composefs]\nenabled=yes\n"), null);
  expect(config).toEqual({ ...DEFAULTS, etcTransient: true });
  expect(() => parseOstreeConfig(files("[composefs"), null)).toThrow('"lib" line 1');
});

test.each([
  ["[composefs]\nenabled=Yes\n", null, '"conf": [composefs] enabled is "Yes", expected yes, no,'],
  ["[composefs]\nenabled=\n", "yes", '"conf": [composefs] enabled is ""'],
  ["", "on", '"ostree.prepare-root.composefs=on" is malformed'],
  ["", "", '"ostree.prepare-root.composefs=" is malformed'],
  ["[root]\ntransient=yes\n", null, '"conf": [root] transient is "yes", expected true, false'],
  ["[etc]\ntransient=\n", null, '"conf": [etc] transient is ""'],
  ["[root]\ntransient=1\ntransient-ro=1\n", null, '"conf": [root] transient and transient-ro'],
])("%j with karg %j is refused", (text, karg, message) => {
  expect(() => parse(text, karg)).toThrow(message);
});

test.each([
  ["[core]\nmode=bare\n", false],
  ["[sysroot]\nreadonly=true\n", true],
  ["[sysroot]\nreadonly=false\n", false],
])("parseLegacyReadOnly(%j) is %j", (text, expected) => {
  expect(parseLegacyReadOnly({ path: "config", text })).toBe(expected);
});
