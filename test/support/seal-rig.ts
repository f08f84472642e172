// What the tests of `bootc container seal` and `verify` share: the program with real tools in its PATH, an image layout that
// images are sealed in, and looking into what came out.

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { makePrograms } from "./doc-commands.ts";
import { blobFile, type TestImage, writeLayout } from "./oci-builder.ts";
import { run } from "./run.ts";
import { ROOT } from "./source-tree.ts";

/** Arguments of the sealable image. */
export const SEALABLE_KARGS = "console=ttyS0 quiet";
export const SEALED_KERNEL = "boot/EFI/Linux/6.12.efi";

/** What `verify --format json` prints. */
export interface SealReport {
  readonly mode: string;
  readonly id: string;
  readonly cmdline: string | null;
  readonly verity: string;
  readonly programs: readonly { readonly path: string; readonly signature: string }[];
  readonly statement: { readonly version: number; readonly key: { readonly name: string } } | null;
  readonly findings: readonly string[];
  readonly warnings: readonly string[];
}

export interface SealedManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly mediaType: string }[];
}

export type SealRig = Awaited<ReturnType<typeof makeSealRig>>;

const TAG = "org.opencontainers.image.ref.name";
const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));

/** A directory with the images in "images", and Secure Boot keys "db" and "other". */
export async function makeSealRig(images: readonly TestImage[]) {
  const scratch = mkdtempSync(join(tmpdir(), "container-seal-"));
  const at = (name: string) => join(scratch, name);
  const layout = (name: string) => `oci:${at("images")}:${name}`;
  const programs = await makePrograms(at("programs"), {
    tools: { ukify: [], sbsign: [], sbverify: [], openssl: [] },
    image: {},
  });
  const bootc = [join(ROOT, "node_modules/.bin/bun"), join(ROOT, "main.ts")];
  const env = { PATH: `${programs}:${process.env["PATH"]}`, TMPDIR: scratch };
  const call = async (...words: readonly string[]) =>
    await run([...bootc, ...words], { env, cwd: scratch });
  const tool = async (...words: readonly string[]) =>
    await run([join(programs, words[0]!), ...words.slice(1)], { cwd: scratch });
  for (const name of ["db", "other"]) {
    const files = ["-keyout", at(`${name}.key`), "-out", at(`${name}.crt`)];
    const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${name}/`];
    await tool("openssl", ...words, ...files);
  }
  writeLayout(at("images"), images);
  return {
    scratch,
    at,
    layout,
    call,
    tool,
    seal: (...words: readonly string[]) => call("container", "seal", ...words),
    secureBoot: ["--secureboot-key", at("db.key"), "--secureboot-certificate", at("db.crt")],
    /** Also when there are findings, which make it fail. */
    verify: async (name: string, ...words: readonly string[]): Promise<SealReport> => {
      const command = [...bootc, "container", "verify", "--format", "json", ...words, layout(name)];
      const script = '"$@" >"$0" || true';
      await run(["sh", "-c", script, at("report"), ...command], { env, cwd: scratch });
      return readJson(at("report"));
    },
    readManifest: (name: string) => readManifest(at("images"), name),
    readConfig: ({ config }: SealedManifest) => readJson(blobFile(at("images"), config.digest)),
    readTop: (name: string) => readTop(at("images"), name),
    readTags: (): string[] =>
      readJson(at("images/index.json")).manifests.map(
        (each: { annotations: Record<string, string> }) => each.annotations[TAG],
      ),
    derive: (name: string, tag: string, layers: TestImage["layers"]) =>
      deriveImage(scratch, name, tag, layers),
    remove: () => rmSync(scratch, { recursive: true, force: true }),
  };
}

function readManifest(images: string, name: string): SealedManifest {
  const { manifests } = readJson(join(images, "index.json"));
  const entry = manifests.find(
    (each: { annotations?: Record<string, string> }) => each.annotations?.[TAG] === name,
  );
  return { ...readJson(blobFile(images, entry.digest)), digest: entry.digest };
}

/** Paths of the last layer, and the contents of its files. */
function readTop(images: string, name: string): ReadonlyMap<string, Buffer> {
  const { digest } = readManifest(images, name).layers.at(-1)!;
  const tar = gunzipSync(readFileSync(blobFile(images, digest)));
  const members = new Map<string, Buffer>();
  for (let offset = 0; tar[offset] !== 0; ) {
    const text = (from: number, length: number) =>
      tar.toString("latin1", offset + from, offset + from + length).replace(/\0.*$/s, "");
    const size = Number.parseInt(text(124, 12), 8);
    const isPax = tar[offset + 156] === 0x78;
    if (!isPax) members.set(text(0, 100), tar.subarray(offset + 512, offset + 512 + size));
    offset += 512 + Math.ceil(size / 512) * 512;
  }
  return members;
}

/** `name` with more layers, as a build that starts from it makes it. */
function deriveImage(
  scratch: string,
  name: string,
  tag: string,
  layers: TestImage["layers"],
): void {
  const [images, derived] = [join(scratch, "images"), join(scratch, "derived")];
  const [image] = writeLayout(derived, [{ tag, layers }]);
  const manifest = readManifest(images, name);
  const config = readJson(blobFile(images, manifest.config.digest));
  for (const { digest } of image!.layers) {
    writeFileSync(blobFile(images, digest), readFileSync(blobFile(derived, digest)));
  }
  const put = (value: object) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    writeFileSync(blobFile(images, digest), bytes);
    return { digest, size: bytes.length };
  };
  const added = image!.layers.map(({ diffId: _, ...descriptor }) => descriptor);
  const diffIds = [...config.rootfs.diff_ids, ...image!.layers.map(({ diffId }) => diffId)];
  const next = {
    ...config,
    rootfs: { type: "layers", diff_ids: diffIds },
    history: [...(config.history ?? []), ...added.map(() => ({ created_by: "RUN change" }))],
  };
  const { digest: _, ...rest } = manifest;
  const changed = {
    ...rest,
    config: { ...manifest.config, ...put(next) },
    layers: [...manifest.layers, ...added],
  };
  const entry = { mediaType: manifest.mediaType, ...put(changed), annotations: { [TAG]: tag } };
  const index = readJson(join(images, "index.json"));
  index.manifests = [...index.manifests, entry];
  writeFileSync(join(images, "index.json"), JSON.stringify(index));
}
