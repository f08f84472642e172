// ostree's formats on what the real ostree and GLib wrote (README.md).

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodeGVariant } from "../../../shared/format/gvariant/decode.ts";
import {
  decodeDictionary,
  encodeDictionary,
  lookup,
} from "../../../shared/format/gvariant/dictionary.ts";
import { encodeGVariant } from "../../../shared/format/gvariant/encode.ts";
import { printGVariant } from "../../../shared/format/gvariant/print.ts";
import type { GVariant } from "../../../shared/format/gvariant/value.ts";
import { swap64 } from "../../../shared/format/ostree/byte-order.ts";
import {
  computeContentChecksum,
  encodeCommit,
  parseCommit,
} from "../../../shared/format/ostree/commit.ts";
import { parseOstreeEntryName } from "../../../shared/format/ostree/deployment.ts";
import { encodeDirtree, parseDirtree } from "../../../shared/format/ostree/dirtree.ts";
import {
  archiveHeaderBytes,
  parseArchiveHeader,
  startContentChecksum,
} from "../../../shared/format/ostree/file-header.ts";
import { encodeOwnership, parseDirmeta } from "../../../shared/format/ostree/metadata.ts";
import { parseOstreeOrigin } from "../../../shared/format/ostree/origin.ts";
import { parseStagedDeployment } from "../../../shared/format/ostree/record.ts";
import {
  parsePublicKeys,
  readSignatures,
  verifySignatures,
} from "../../../shared/format/ostree/signature.ts";
import { parseSummary } from "../../../shared/format/ostree/summary.ts";
import { encodeArchived, sha256 } from "../../support/ostree-archive.ts";

const read = (...path: string[]) => readFileSync(join(import.meta.dirname, ...path));
const index = JSON.parse(read("index.json").toString());
const [C1, C2]: string[] = [index.C1.commit, index.C2.commit];
const KERNEL = index.bootcsum;
const objects = readdirSync(join(import.meta.dirname, "objects"));
const objectsOf = (type: string) => objects.filter((name) => name.endsWith(`.${type}`));
const readObject = (name: string) => read("objects", name);

interface Encoded {
  readonly type: string;
  readonly text: string;
  readonly hex: string;
}

describe("GLib's encodings", () => {
  test.each(JSON.parse(read("gvariant.json").toString()) as Encoded[])(
    "$type",
    ({ type, text, hex }) => {
      const value = decodeGVariant(type, Buffer.from(hex, "hex"));
      expect(printGVariant(type, value)).toBe(text);
      expect(Buffer.from(encodeGVariant(type, value)).toString("hex")).toBe(hex);
    },
  );
});

describe("objects", () => {
  test("are all there", () => {
    const counts = ["commit", "commitmeta", "dirtree", "dirmeta", "filez"].map(
      (type) => objectsOf(type).length,
    );
    expect(counts).toEqual([2, 2, 17, 3, 4]);
  });

  test.each([
    ...objectsOf("commit").map(
      (name) => [name, (b: Buffer) => encodeCommit(parseCommit(b))] as const,
    ),
    ...objectsOf("dirtree").map(
      (name) => [name, (b: Buffer) => encodeDirtree(parseDirtree(b))] as const,
    ),
    ...objectsOf("dirmeta").map(
      (name) => [name, (b: Buffer) => encodeOwnership(parseDirmeta(b))] as const,
    ),
  ])("%s is the same after a round trip", (name, again) => {
    const bytes = readObject(name);
    expect(sha256(bytes)).toBe(name.split(".")[0]);
    expect(Buffer.from(again(bytes)).toString("hex")).toBe(bytes.toString("hex"));
  });

  test.each(objectsOf("filez"))("%s has its checksum", (name) => {
    const bytes = readObject(name);
    const { header, sizeBytes } = parseArchiveHeader(bytes);
    const start = archiveHeaderBytes(bytes);
    const isFile = header.target === null;
    const content = isFile ? inflateRawSync(bytes.subarray(start)) : Buffer.alloc(0);
    expect(content.length).toBe(sizeBytes);
    const checksum = startContentChecksum(header).update(content).digest("hex");
    expect(`${checksum}.filez`).toBe(name);
    const again = encodeArchived(header, content);
    expect(again.subarray(0, start)).toEqual(bytes.subarray(0, start));
  });

  test("the first commit prints as ostree shows it", () => {
    const value = decodeGVariant("(a{sv}aya(say)sstayay)", readObject(`${C1}.commit`));
    const fields = [...(value as readonly GVariant[])];
    fields[5] = swap64(fields[5] as bigint);
    const text = printGVariant("(a{sv}aya(say)sstayay)", fields);
    const [, shown] = read("show-raw-C1.txt").toString().split("\n");
    expect(text).toBe(shown);
  });

  test("commits have their fields", () => {
    const first = parseCommit(readObject(`${C1}.commit`));
    const second = parseCommit(readObject(`${C2}.commit`));
    expect(first).toMatchObject({ subject: "lab commit 1", body: "body text", parent: null });
    expect(first.timestampSec).toBe(index.C1.timestamp);
    expect(second).toMatchObject({ subject: "lab commit 2", body: "", parent: C1 });
    expect(first.metadata.map(([key]) => key)).toEqual([
      ...["ostree.linux", "version", "ostree.bootable", "ostree.ref-binding"],
      "ostree.composefs.digest.v0",
    ]);
    expect(computeContentChecksum(first)).not.toBe(computeContentChecksum(second));
  });
});

describe("signatures", () => {
  const keys = parsePublicKeys(read("initramfs-root-binding.key").toString(), "keys");
  const { wrong_public_b64: wrong } = JSON.parse(read("keys.json").toString());
  const verify = (commit: Uint8Array, id: string, by = keys) =>
    verifySignatures(commit, readSignatures(readObject(`${id}.commitmeta`))!, by);

  test.each([
    ["C1", C1!],
    ["C2", C2!],
  ])("of %s are by the key", (name, id) => {
    const bytes = readObject(`${id}.commit`);
    expect(verify(bytes, id)).toBe(true);
    expect(verify(bytes, id, [...parsePublicKeys(wrong, "wrong"), ...keys])).toBe(true);
    const [signature] = readSignatures(readObject(`${id}.commitmeta`))!;
    expect(Buffer.from(signature!).toString("hex")).toBe(index[name].ed25519_sig);
  });

  test("by another key, for other bytes or of another length are not", () => {
    const bytes = readObject(`${C1}.commit`);
    expect(verify(bytes, C1!, parsePublicKeys(wrong, "wrong"))).toBe(false);
    expect(verify(bytes, C2!)).toBe(false);
    const changed = Buffer.from(bytes);
    changed[20]! ^= 1;
    expect(verify(changed, C1!)).toBe(false);
    const [signature] = readSignatures(readObject(`${C1}.commitmeta`))!;
    expect(verifySignatures(bytes, [signature!.subarray(1)], keys)).toBe(false);
    expect(verifySignatures(bytes, [signature!.subarray(1), signature!], keys)).toBe(true);
    expect(verifySignatures(bytes, [], keys)).toBe(false);
  });
});

describe("other files", () => {
  test("the summary", () => {
    const summary = parseSummary(read("summary.bin"));
    const [only, ...more] = summary.refs;
    expect(more).toEqual([]);
    expect(only).toMatchObject({
      ref: "lab/x86_64/stable",
      checksum: C2,
      commitSizeBytes: 268,
      timestampSec: index.C2.timestamp,
    });
    expect(lookup(summary.metadata, "ostree.summary.mode", "s")).toBe("archive-z2");
    const value = decodeGVariant("(a(s(taya{sv}))a{sv})", read("summary.bin"));
    const raw = read("summary-raw.txt").toString().trim();
    // The tool turns the times round to show them, and those of commits.
    const numbers = (text: string) => text.replaceAll(/uint64 \d+/g, "uint64 N");
    expect(numbers(printGVariant("(a(s(taya{sv}))a{sv})", value))).toBe(numbers(raw));
  });

  test.each([
    ["staged-deployment.bin", false],
    ["staged-deployment-locked.bin", true],
  ])("%s", (name, isLocked) => {
    const bytes = read("staged", name);
    const staged = parseStagedDeployment(bytes);
    expect(staged.isLocked).toBe(isLocked);
    expect(staged.target).toEqual({
      commit: C1,
      serial: 2,
      stateroot: "labos",
      bootChecksum: KERNEL,
    });
    expect(staged.mergeFrom).toMatchObject({ commit: C2, serial: 0 });
    expect(staged.kernelArguments).toContain(`ostree=/ostree/boot.1/labos/${KERNEL}/0`);
    expect(Buffer.from(encodeDictionary(decodeDictionary(bytes))).equals(bytes)).toBe(true);
  });

  test("an origin, and the names of entries", () => {
    const [file] = readdirSync(join(import.meta.dirname, "sysroot/first")).filter((name) =>
      name.endsWith(".origin"),
    );
    expect(file).toBe(`${C1}.0.origin`);
    const origin = parseOstreeOrigin(read("sysroot/first", file!).toString(), file!);
    expect(origin.refspec).toBe("lab:lab/x86_64/stable");
    const names = readdirSync(join(import.meta.dirname, "sysroot/upgrade"));
    expect(names.sort().map((name) => parseOstreeEntryName(name)?.index)).toEqual([1, 2]);
  });
});
