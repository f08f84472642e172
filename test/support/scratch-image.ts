// Small bootable images as OCI layouts, made in a moment: a kernel that is a text, an initramfs that is
// another, an /etc and a /var to carry over.

import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TAR_END, type TarMember, tarMember } from "./tar-builder.ts";

export interface ScratchImage {
  readonly version: string;
  readonly kernel?: string;
  /** Text of one kargs.d file. */
  readonly kargs?: string;
  /** Files below /etc. */
  readonly etc?: Readonly<Record<string, string>>;
  readonly members?: readonly TarMember[];
  /** Of the manifest, beside its version. */
  readonly annotations?: Readonly<Record<string, string>>;
}

const directory = (name: string, mode = 0o755): TarMember => ({ name, type: "5", mode });

function makeMembers(image: ScratchImage): TarMember[] {
  const modules = `usr/lib/modules/6.12-${image.version}`;
  const kargs = image.kargs ?? "";
  return [
    ...["usr/", "usr/lib/", "usr/lib/modules/", `${modules}/`, "boot/", "sysroot/", "run/"].map(
      (name) => directory(name),
    ),
    { name: `${modules}/vmlinuz`, content: `kernel ${image.kernel ?? image.version}`.repeat(40) },
    { name: `${modules}/initramfs.img`, content: `initramfs ${image.kernel ?? ""}`.repeat(50) },
    {
      name: "usr/lib/os-release",
      content: `ID=fedora\nVERSION_ID=${image.version}\nPRETTY_NAME="Fedora ${image.version}"\n`,
    },
    ...(kargs === ""
      ? []
      : [
          directory("usr/lib/bootc/"),
          directory("usr/lib/bootc/kargs.d/"),
          { name: "usr/lib/bootc/kargs.d/10.toml", content: kargs },
        ]),
    directory("etc/"),
    ...Object.entries(image.etc ?? {}).map(([name, content]) => ({ name: `etc/${name}`, content })),
    directory("var/"),
    directory("var/lib/", 0o711),
    { name: "var/lib/seed", content: `from ${image.version}`, uid: 7, gid: 8, mode: 0o600 },
    ...(image.members ?? []),
  ];
}

/** Fills `path` (made when missing, replaced when not); returns the manifest's digest. */
export function writeScratchImage(path: string, image: ScratchImage): string {
  const blobs = join(path, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const layer = Buffer.concat([...makeMembers(image).map(tarMember), TAR_END]);
  const put = (bytes: Buffer, mediaType: string) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const putJson = (value: object, mediaType: string) =>
    put(Buffer.from(JSON.stringify(value)), mediaType);
  const media = "application/vnd.oci.image";
  const layerDescriptor = put(layer, `${media}.layer.v1.tar`);
  const config = putJson(
    {
      created: "2026-01-02T03:04:05Z",
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: { Labels: { "containers.bootc": "1" } },
      rootfs: { type: "layers", diff_ids: [layerDescriptor.digest] },
    },
    `${media}.config.v1+json`,
  );
  const manifest = putJson(
    {
      schemaVersion: 2,
      mediaType: `${media}.manifest.v1+json`,
      config,
      layers: [layerDescriptor],
      annotations: { "org.opencontainers.image.version": image.version, ...image.annotations },
    },
    `${media}.manifest.v1+json`,
  );
  writeFileSync(join(path, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(
    join(path, "index.json"),
    JSON.stringify({ schemaVersion: 2, manifests: [manifest] }),
  );
  return manifest.digest;
}
