// For tests against a hostile registry: one with a good image, another server beside it, and a machine that
// knows a password for the first. As with pull-case.ts the importing file sees the values of the test that runs.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { ensureRepository } from "../../shared/store/repository.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { openRegistrySource } from "../../updater/image/registry-source.ts";
import type { RegistryLimits } from "../../updater/registry/limits.ts";
import {
  type HostileRegistry,
  type MemoryImage,
  OCI_MANIFEST,
  startHostileRegistry,
} from "./hostile-registry.ts";
import { authFile, insecureConf, makeAccess } from "./registry-access.ts";
import { streamNames } from "./repository-listing.ts";
import { TAR_END, tarMember } from "./tar-builder.ts";

export const PASSWORD = "correct-horse";
export const ARCHITECTURE = process.arch === "x64" ? "amd64" : process.arch;
export const MANIFEST = /\/manifests\//;
export const BLOB = /\/blobs\//;

export let root: string;
export let registry: HostileRegistry;
/** Somebody else's server: a place that is redirected to, or a realm. */
export let other: HostileRegistry;
/** "x/y:v1", one layer */
export let image: MemoryImage;
export const layer = Buffer.concat([
  tarMember({ name: "usr/", type: "5" }),
  tarMember({ name: "usr/file", content: Buffer.alloc(200_000, "content ") }),
  TAR_END,
]);

/** To be called once, at the top of the test file. */
export function useHostileRegistry(): void {
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "hostile-"));
    registry = await startHostileRegistry();
    other = await startHostileRegistry();
    image = registry.putImage([layer], "v1");
  });
  afterEach(async () => {
    await registry[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    rmSync(root, { recursive: true, force: true });
  });
}

export function access(limits: Partial<RegistryLimits> = {}) {
  return makeAccess(root, {
    files: {
      "etc/containers/registries.conf": insecureConf(registry.host),
      "etc/ostree/auth.json": authFile(registry.host, "user", PASSWORD),
    },
    limits,
  });
}

export const source = (name = "x/y:v1", limits?: Partial<RegistryLimits>) =>
  openRegistrySource(`${registry.host}/${name}`, ARCHITECTURE, () => access(limits));

export async function resolve(name?: string, limits?: Partial<RegistryLimits>) {
  const opened = source(name, limits);
  try {
    return await opened.resolve();
  } finally {
    await opened[Symbol.asyncDispose]?.();
  }
}

/** The error of a pull into an empty repository, which has nothing in it afterwards. */
export async function refusePull(name?: string, limits?: Partial<RegistryLimits>): Promise<Error> {
  const path = join(root, "repo");
  using repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
  const opened = source(name, limits);
  try {
    await pullImage(repo, opened, { patience: 0 });
  } catch (error) {
    expect(streamNames(repo)).toEqual([]);
    return error as Error;
  } finally {
    await opened[Symbol.asyncDispose]?.();
  }
  throw new Error("the pull succeeded");
}

export async function refuse(name?: string, limits?: Partial<RegistryLimits>): Promise<Error> {
  const failed = await resolve(name, limits).then(
    () => null,
    (error: Error) => error,
  );
  if (failed === null) throw new Error("the image was accepted");
  return failed;
}

export function putJson(value: unknown, mediaType: string, ...tags: string[]) {
  return registry.put(Buffer.from(JSON.stringify(value)), mediaType, ...tags);
}

export const manifestOf = (change: object) => ({
  ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, config: image.config, layers: image.layers },
  ...change,
});

export async function readAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}
