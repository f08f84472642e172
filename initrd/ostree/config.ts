// prepare-root.conf and the kernel argument that overrides it (ostree.md 1.2).
//
// Both files lie in the initramfs, so they are as trusted as the kernel; a malformed one is refused,
// because it could say "signed". The later file takes the place of the earlier as a whole: that is what
// upstream does, although it reads both (docs/decisions/0008-ostree-prepare-root.md).

import { FormatError } from "../../shared/error.ts";
import { type Ini, parseIni } from "../../shared/format/keyfile/ini.ts";

/** In the initramfs; the last that exists counts. */
export const OSTREE_CONFIG_FILES = [
  "/usr/lib/ostree/prepare-root.conf",
  "/etc/ostree/prepare-root.conf",
] as const;
export const COMPOSEFS_KARG = "ostree.prepare-root.composefs";
const DEFAULT_KEY_FILE = "/etc/ostree/initramfs-root-binding.key";

export interface OstreeConfig {
  /** maybe: the image if the deployment has one. */
  readonly composefs: "no" | "maybe" | "yes";
  /** Every file must match the digest that the image has for it. */
  readonly requireVerity: boolean;
  /** The image's own digest must come from a commit signed by one of the keys in `keyFile`. */
  readonly signed: boolean;
  readonly keyFile: string;
  /** no: no writable layer; otherwise one in memory, visible as writable or not. */
  readonly rootTransient: "no" | "writable" | "read-only";
  readonly etcTransient: boolean;
  /** Null: not set, which means yes together with composefs. */
  readonly sysrootReadOnly: boolean | null;
}

export interface ConfigText {
  readonly path: string;
  readonly text: string;
}

const COMPOSEFS_WORDS: ReadonlyMap<string, OstreeConfig["composefs"]> = new Map([
  ["yes", "yes"],
  ["true", "yes"],
  ["1", "yes"],
  ["signed", "yes"],
  ["verity", "yes"],
  ["no", "no"],
  ["false", "no"],
  ["0", "no"],
  ["maybe", "maybe"],
]);
const BOOLEAN_WORDS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["false", false],
  ["0", false],
]);

/** `files` as in OSTREE_CONFIG_FILES, those that exist; `karg` is the value of COMPOSEFS_KARG. */
export function parseOstreeConfig(files: readonly ConfigText[], karg: string | null): OstreeConfig {
  const file = files.map(parseFile).at(-1) ?? NO_FILE;
  const transient = readBoolean(file, "root", "transient") ?? false;
  const transientReadOnly = readBoolean(file, "root", "transient-ro") ?? false;
  if (transient && transientReadOnly) {
    throw wrong(file, "[root] transient and transient-ro exclude each other");
  }
  return {
    ...readComposefs(file, karg),
    keyFile: file.ini.get("composefs")?.get("keypath") ?? DEFAULT_KEY_FILE,
    rootTransient: transientReadOnly ? "read-only" : transient ? "writable" : "no",
    etcTransient: readBoolean(file, "etc", "transient") ?? false,
    sysrootReadOnly: readBoolean(file, "sysroot", "readonly"),
  };
}

/** `[sysroot] readonly` of a repository's config, which counted before prepare-root.conf existed. */
export function parseLegacyReadOnly(config: ConfigText): boolean {
  return readBoolean(parseFile(config), "sysroot", "readonly") ?? false;
}

interface ParsedFile {
  readonly path: string;
  readonly ini: Ini;
}
const NO_FILE: ParsedFile = { path: "", ini: new Map() };

function parseFile({ path, text }: ConfigText): ParsedFile {
  return { path, ini: parseIni(text, path) };
}

/** The argument takes back a demanded signature, but never a demanded fs-verity. */
function readComposefs(
  file: ParsedFile,
  karg: string | null,
): Pick<OstreeConfig, "composefs" | "requireVerity" | "signed"> {
  const expected = "yes, no, maybe, verity or signed";
  const inFile = file.ini.get("composefs")?.get("enabled") ?? "no";
  if (!COMPOSEFS_WORDS.has(inFile)) {
    throw wrong(file, `[composefs] enabled is "${inFile}", expected ${expected}`);
  }
  const word = karg ?? inFile;
  const composefs = COMPOSEFS_WORDS.get(word);
  if (composefs === undefined) {
    throw new FormatError(
      "bad-value",
      `Kernel argument "${COMPOSEFS_KARG}=${word}" is malformed: expected ${expected}`,
      { format: "cmdline" },
    );
  }
  const requireVerity = [inFile, word].some((each) => each === "verity" || each === "signed");
  return { composefs, requireVerity, signed: word === "signed" };
}

function readBoolean(file: ParsedFile, group: string, key: string): boolean | null {
  const text = file.ini.get(group)?.get(key);
  if (text === undefined) return null;
  const value = BOOLEAN_WORDS.get(text);
  if (value !== undefined) return value;
  throw wrong(file, `[${group}] ${key} is "${text}", expected true, false, 1 or 0`);
}

function wrong({ path }: ParsedFile, problem: string): FormatError {
  return new FormatError("bad-value", `"${path}": ${problem}`, { format: "ini", path });
}
