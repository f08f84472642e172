// Pulls from a server on loopback (range-server.ts): an image whose layers are downloaded in every way, a
// scratch repository, a source, and what is left on the disk. Used by a test file and by pull-child.ts.

import { createHash } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { openRegistrySource } from "../../updater/image/registry-source.ts";
import type { ImageSource } from "../../updater/image/resolved-image.ts";
import type { RegistryLimits } from "../../updater/registry/limits.ts";
import { type BuiltImage, writeLayout } from "./oci-builder.ts";
import { insecureConf, makeAccess } from "./registry-access.ts";
import { makeOs } from "./small-os.ts";
import { TAR_END, tarMember } from "./tar-builder.ts";

/** Small layers in memory, and a large one of `files` files of a megabyte that do not compress. */
export async function writeServedImage(layout: string, files: number): Promise<BuiltImage> {
  const os = await makeOs();
  const members = Array.from({ length: files }, (_, i) =>
    tarMember({ name: `usr/noise${i}`, content: noise(`${i}`, 1_000_000) }),
  );
  const middle = tarMember({ name: "usr/middle", content: noise("middle", 3_000_000) });
  const large = { tar: Buffer.concat([...members, TAR_END]) };
  const zstd = { tar: Buffer.concat([middle, TAR_END]), compression: "zstd" } as const;
  const [built] = writeLayout(layout, [{ layers: [...os.layers, large, zstd] }]);
  return built!;
}

function noise(seed: string, sizeBytes: number): Buffer {
  return createHash("shake256", { outputLength: sizeBytes }).update(seed).digest();
}

/** Of servers without TLS, with a configuration of its own in `root`. */
export function openServed(
  reference: string,
  root: string,
  limits: Partial<RegistryLimits> = {},
): ImageSource & AsyncDisposable {
  const [host = ""] = reference.split("/");
  const files = { "etc/containers/registries.conf": insecureConf(host) };
  const access = () => makeAccess(root, { files, limits });
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const source = openRegistrySource(reference, architecture, access);
  return { ...source, [Symbol.asyncDispose]: async () => await source[Symbol.asyncDispose]?.() };
}

export function openScratchRepository(path: string): Repository {
  return ensureRepository(null, path, { algorithm: "sha512", secure: false });
}

/** Paths of everything in a repository; links with what they lead to. */
export function listRepository(path: string): string[] {
  const names = readdirSync(path, { recursive: true, withFileTypes: true });
  return names
    .map((entry) => {
      const file = join(entry.parentPath, entry.name);
      const target = entry.isSymbolicLink() ? ` -> ${readlinkSync(file)}` : "";
      return `${file.slice(path.length + 1)}${target}`;
    })
    .filter((line) => !/^objects\/..$/.test(line))
    .sort();
}

/** Names in the downloads directory. */
export function listDownloads(repoPath: string): string[] {
  try {
    return readdirSync(join(repoPath, "bootc-downloads")).sort();
  } catch {
    return [];
  }
}
