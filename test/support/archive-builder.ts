// Archives of images, member by member: what `skopeo copy` and `docker save` write, and what they would not.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { TAR_END, type TarMember, tarMember } from "./tar-builder.ts";

export function packMembers(members: readonly TarMember[]): Buffer {
  return Buffer.concat([...members.map(tarMember), TAR_END]);
}

/** All files below a directory, with their names there. */
export function listMembers(directory: string): TarMember[] {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  return names
    .filter((name) => statSync(join(directory, name)).isFile())
    .map((name) => ({ name, content: readFileSync(join(directory, name)) }));
}

export interface DockerImage {
  readonly tags?: readonly string[] | null;
  readonly tars: readonly Buffer[];
  /** Instead of the tar, by its position. */
  readonly blobs?: Readonly<Record<number, Buffer>>;
  readonly architecture?: string;
}

/** As `docker save` up to version 24: "<hex>.json", "<hex>/layer.tar", manifest.json last. */
export function dockerMembers(images: readonly DockerImage[]): TarMember[] {
  const members = new Map<string, TarMember>();
  const manifest = images.map(({ tags = null, tars, blobs = {}, architecture = "amd64" }) => {
    const diffIds = tars.map((tar) => computeDigest(tar));
    const rootfs = { type: "layers", diff_ids: diffIds };
    const config = Buffer.from(JSON.stringify({ architecture, os: "linux", rootfs }));
    const name = `${computeDigest(config).slice(7)}.json`;
    members.set(name, { name, content: config });
    const layers = diffIds.map((digest) => `${digest.slice(7)}/layer.tar`);
    for (const [i, layer] of layers.entries())
      members.set(layer, { name: layer, content: blobs[i] ?? tars[i]! });
    return { Config: name, RepoTags: tags, Layers: layers };
  });
  return [...members.values(), { name: "manifest.json", content: JSON.stringify(manifest) }];
}
