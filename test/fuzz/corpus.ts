// Where inputs are kept: the minimised corpus of the repository (test/vectors/fuzz/NAME.pack, gzip of
// length-prefixed inputs) and the large one that grows in .cache/fuzz/NAME/corpus.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { cacheDir, projectDir } from "../support/cache.ts";
import type { Finding } from "./run.ts";

export function listTargets(): readonly string[] {
  const names = readdirSync(join(projectDir, "test/fuzz/targets"));
  return names.map((name) => name.replace(/\.ts$/, "")).sort();
}

function packPath(name: string): string {
  return join(projectDir, "test/vectors/fuzz", `${name}.pack`);
}

/** The inputs of the repository, in the order they were written. */
export function readPack(name: string): readonly Uint8Array[] {
  if (!existsSync(packPath(name))) return [];
  const bytes = gunzipSync(readFileSync(packPath(name)));
  const inputs: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) throw new Error(`${packPath(name)} is cut off`);
    inputs.push(Uint8Array.from(bytes.subarray(at + 4, end)));
    at = end;
  }
  return inputs;
}

/** Returns the size of the file in bytes. Equal inputs give equal files. */
export function writePack(name: string, inputs: readonly Uint8Array[]): number {
  const pieces = [...inputs].sort(Buffer.compare).flatMap((input) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(input.length);
    return [length, input];
  });
  const packed = gzipSync(Buffer.concat(pieces), { level: 9 });
  writeFileSync(packPath(name), packed);
  return packed.length;
}

const folder = (name: string, kind: string) => join(cacheDir, "fuzz", name, kind);

export function readCache(name: string): readonly Uint8Array[] {
  const path = folder(name, "corpus");
  if (!existsSync(path)) return [];
  return readdirSync(path)
    .sort()
    .map((file) => Uint8Array.from(readFileSync(join(path, file))));
}

export function saveInput(name: string, input: Uint8Array): void {
  const path = folder(name, "corpus");
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, inputName(input)), input);
}

/** Replaces what the cache holds. */
export function replaceCache(name: string, inputs: readonly Uint8Array[]): void {
  rmSync(folder(name, "corpus"), { recursive: true, force: true });
  for (const input of inputs) saveInput(name, input);
}

/** Returns the path of the saved input; what is wrong with it lies beside it. */
export function saveFinding(name: string, input: Uint8Array, finding: Finding): string {
  const path = folder(name, "findings");
  mkdirSync(path, { recursive: true });
  const key = createHash("sha256").update(finding.signature).digest("hex").slice(0, 12);
  const file = join(path, `${finding.kind}-${key}`);
  writeFileSync(file, input);
  writeFileSync(`${file}.txt`, `${finding.signature}\n\n${finding.detail}\n`);
  return file;
}

export function inputName(input: Uint8Array): string {
  return createHash("sha256").update(input).digest("hex").slice(0, 16);
}
