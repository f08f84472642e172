// What proves that an image is what its maker made: the trust directory in its tree, which its initramfs
// has a copy of, and, of a unified kernel, the command line and the keys in the kernel itself (decision 0022).
//
// The tree is taken for the initramfs, which cannot be looked into: whoever changes the directory builds the
// initramfs anew ("bootc container verify" looks whether that was done).

import { basename, dirname } from "node:path";
import { describeError, FormatError, PolicyError } from "../../shared/error.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import {
  type DirectoryNode,
  fromByteString,
  sortedNames,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { parseTrustAnchors, type TrustAnchors } from "../../shared/format/trust/anchors.ts";
import { parseTrustKeys } from "../../shared/format/trust/key.ts";
import { decodeText } from "../../shared/sys/small-file.ts";
import { TRUST_DIRECTORY, TRUST_FILE_LIMIT_BYTES } from "../../shared/trust/anchors.ts";
import type { FileReader } from "../image/file-content.ts";
import { lookup } from "../image/tree-lookup.ts";

/**
 * "sealed": the command line in its unified kernel names the image. "signed": a key in its trust directory
 * has to have signed it. "ephemeral": a key in its unified kernel has, which is this image's only.
 */
export type TrustForm = "sealed" | "signed" | "ephemeral" | "unlocked";

export interface ImageTrust {
  readonly form: TrustForm;
  /** Kernel, initramfs and command line are one file, which Secure Boot checks as a whole. */
  readonly unified: boolean;
  /** With the key of the unified kernel. */
  readonly anchors: TrustAnchors;
  /** There are keys that other images may be signed by, too. */
  readonly hasLastingKeys: boolean;
}

/** The sections of a unified kernel that are about trust; null when there is no such section. */
export interface UkiTrust {
  /** `.cmdline` */
  readonly cmdline: string | null;
  /** `.bkeys` */
  readonly keys: string | null;
}

/** Name of the key that a unified kernel brings; so its own initramfs has it. */
const EPHEMERAL_KEY = "ephemeral.pub";

export function readUkiTrust(uki: {
  readonly readText: (section: string) => string | null;
}): UkiTrust {
  return { cmdline: uki.readText(".cmdline"), keys: uki.readText(".bkeys") };
}

/** `anchors`: of the trust directory. FormatError when what the kernel says cannot be understood. */
export function combineTrust(anchors: TrustAnchors, uki: UkiTrust | null): ImageTrust {
  const keys = uki?.keys ?? null;
  const own = keys === null ? [] : parseTrustKeys(keys, EPHEMERAL_KEY);
  const known = new Set(anchors.keys.map(({ fingerprint }) => fingerprint));
  const added = own.filter(
    ({ fingerprint }) => !known.has(fingerprint) && !anchors.revokedKeys.has(fingerprint),
  );
  const isSealed = parseComposefsKargs(uki?.cmdline ?? "").length > 0;
  const form = isSealed
    ? "sealed"
    : anchors.signed
      ? "signed"
      : own.length > 0
        ? "ephemeral"
        : "unlocked";
  return {
    form,
    unified: uki !== null,
    anchors: {
      ...anchors,
      keys: [...anchors.keys, ...added],
      signed: anchors.signed || own.length > 0,
    },
    hasLastingKeys: anchors.signed,
  };
}

/** PolicyError for a trust directory that the image's own initramfs could not use. */
export function readImageTrust(
  root: DirectoryNode,
  readFile: FileReader,
  uki: UkiTrust | null,
): ImageTrust {
  try {
    return combineTrust(readTreeAnchors(root, readFile), uki);
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new PolicyError(
      "rejected",
      `The image says what it trusts in a way that its initramfs would refuse (${describeError(cause)}): correct it in the image`,
      {},
      { cause },
    );
  }
}

function readTreeAnchors(root: DirectoryNode, readFile: FileReader): TrustAnchors {
  const directory = childOf(lookup(root, dirname(TRUST_DIRECTORY)), basename(TRUST_DIRECTORY));
  if (directory !== null && directory.kind !== "directory") {
    throw wrong(TRUST_DIRECTORY, "it is not a directory");
  }
  const folder = (name: string) => readFolder(directory, name, readFile);
  const conf = childOf(directory, "trust.conf");
  return parseTrustAnchors({
    keys: folder("keys.d"),
    revoked: folder("revoked.d"),
    conf: conf === null ? null : readText(conf, "trust.conf", readFile),
  });
}

/** Files by name, but hidden ones. */
function readFolder(
  directory: TreeNode | null,
  name: string,
  readFile: FileReader,
): ReadonlyMap<string, string> {
  const folder = childOf(directory, name);
  if (folder === null) return new Map();
  if (folder.kind !== "directory") throw wrong(name, "it is not a directory");
  const shown = sortedNames(folder).filter((each) => !each.startsWith("."));
  return new Map(
    shown.map((each) => {
      const text = fromByteString(each);
      const path = `${name}/${text}`;
      if (text.includes("\ufffd")) throw wrong(path, "its name is not UTF-8");
      return [text, readText(folder.entries.get(each)!, path, readFile)];
    }),
  );
}

function childOf(node: TreeNode | null, name: string): TreeNode | null {
  if (node?.kind !== "directory") return null;
  return node.entries.get(toByteString(name)) ?? null;
}

/** Links count as errors, as in the initramfs: they could lead to what is not the image's. */
function readText(node: TreeNode, name: string, readFile: FileReader): string {
  if (node.kind !== "file") throw wrong(name, "it is not a regular file");
  const bytes = readFile(node);
  if (bytes.length > TRUST_FILE_LIMIT_BYTES) throw wrong(name, "it is larger than 1 MiB");
  return decodeText(bytes, name);
}

function wrong(name: string, problem: string): FormatError {
  return new FormatError("bad-value", `Cannot use "${name}" of the trust directory: ${problem}`, {
    format: "trust",
  });
}
