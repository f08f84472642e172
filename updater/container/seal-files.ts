// The files that sealing makes: the unified kernel, the addons, and the listing of what the image has in it. They lie
// in a directory for the time of the command; what is signed outside takes the place of what is not.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { FormatError, UsageError } from "../../shared/error.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { byteStringToBytes } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import type { ImageFile } from "../image/boot-kernel.ts";
import { openFileContent } from "../image/file-content.ts";
import { lookupFile } from "../image/tree-lookup.ts";
import { makeKeyArchive } from "./ephemeral-key.ts";
import { readFileChunks } from "./file-chunks.ts";
import { scanInitramfs } from "./initramfs-scan.ts";
import { packRuntime, RUNTIME_DIRECTORY, RUNTIME_PREFIX } from "./runtime-addon.ts";
import { extractKernel, type KernelParts } from "./seal-kernel.ts";
import { GLOBAL_ADDONS, KERNELS, type PlacedFile } from "./seal-layer.ts";
import type { SealPlan } from "./seal-plan.ts";
import { hasSignature, isSignedBy, type SecureBootKey, signProgram } from "./secure-boot.ts";
import { runUkify, ukifyArguments } from "./ukify.ts";

const ADDON_SUFFIX = ".addon.efi";

export interface SealFilesRequest {
  /** Of addons for this kernel. */
  readonly addons: readonly string[];
  readonly sharedRuntime: boolean;
  /** PEM of a key for this image only. */
  readonly publicKey: string | null;
  /** Null: nothing is signed here. */
  readonly signer: SecureBootKey | null;
}

export interface SealFiles {
  readonly files: readonly PlacedFile[];
  /** EFI programs that were made here: the kernel first. */
  readonly programs: readonly string[];
}

interface Workshop {
  readonly repo: Repository;
  readonly plan: SealPlan;
  readonly request: SealFilesRequest;
  /** Empty. */
  readonly directory: string;
}

/** Errors of the programs that make and sign them. */
export async function makeSealFiles(shop: Workshop): Promise<SealFiles> {
  const { repo, plan, request, directory } = shop;
  const parts = extractKernel(repo, plan.kernel, directory);
  const name = `${plan.kernel.version}.efi`;
  const uki = sign(shop, makeUki(shop, parts), name);
  const dump = join(directory, "dump");
  const lines = formatDump(plan.bootTree, { dialect: "rust" });
  writeChunksAtomic(null, dump, toBytes(lines), { mode: 0o600, sync: false });
  const addons = listAddons(shop, name).map((addon) => signAddon(shop, addon));
  const runtime = request.sharedRuntime ? await makeRuntimeAddon(shop, parts, addons) : null;
  return {
    files: [
      { path: `${KERNELS}/${name}`, file: uki },
      { path: `${KERNELS}/${name}.dump`, file: dump },
      ...addons,
      ...(runtime === null ? [] : [runtime]),
    ],
    programs: [uki, ...(runtime === null ? [] : [runtime.file])],
  };
}

function* toBytes(lines: Iterable<string>): Generator<Uint8Array> {
  for (const line of lines) yield byteStringToBytes(line);
}

function makeUki(shop: Workshop, parts: KernelParts): string {
  const { plan, request, directory } = shop;
  const output = join(directory, "unsigned.efi");
  const initrds = [parts.initrd];
  const more = ["--output", output, ...stubArguments(shop, "linux")];
  if (request.publicKey !== null) {
    const key = join(directory, "ephemeral.pub");
    const archive = join(directory, "ephemeral.cpio");
    writeFileSync(key, request.publicKey);
    writeFileSync(archive, makeKeyArchive(request.publicKey));
    initrds.push(archive);
    more.push("--section", `.bkeys:@${key}`);
  }
  const { linux } = parts;
  const cmdline = plan.cmdline === null ? null : `@${join(directory, "cmdline")}`;
  if (plan.cmdline !== null) writeFileSync(join(directory, "cmdline"), plan.cmdline);
  const release = plan.kernel.version;
  const osRelease = extractOsRelease(shop);
  runUkify(ukifyArguments({ linux, initrds, release, cmdline, osRelease, more }));
  return output;
}

function extractOsRelease({ repo, plan, directory }: Workshop): string {
  const path = join(directory, "os-release");
  const file =
    lookupFile(plan.tree, "usr/lib/os-release") ?? lookupFile(plan.tree, "etc/os-release");
  if (file === null) {
    throw new FormatError(
      "not-found",
      'The image has no "/usr/lib/os-release", which names it in boot menus',
    );
  }
  writeChunksAtomic(null, path, openFileContent(repo, file), { mode: 0o600, sync: false });
  return path;
}

const EFI_ARCHITECTURES: Readonly<Record<string, string>> = { x64: "x64", arm64: "aa64" };

/** The image's own stub, where it has one: so the result does not depend on where it is made. Else ukify's. */
function stubArguments({ repo, plan, directory }: Workshop, kind: "linux" | "addon"): string[] {
  const architecture = EFI_ARCHITECTURES[process.arch] ?? process.arch;
  const name = `${kind}${architecture}.efi.stub`;
  const file = lookupFile(plan.tree, `usr/lib/systemd/boot/efi/${name}`);
  if (file === null) return [];
  const path = join(directory, name);
  writeChunksAtomic(null, path, openFileContent(repo, file), { mode: 0o600, sync: false });
  return ["--stub", path];
}

/** Null when it is among the addons already. */
async function makeRuntimeAddon(
  shop: Workshop,
  { initrd }: KernelParts,
  addons: readonly PlacedFile[],
): Promise<PlacedFile | null> {
  const { repo, plan, directory } = shop;
  const { compression } = await scanInitramfs(readFileChunks(initrd), RUNTIME_DIRECTORY);
  const { name, path } = await packRuntime(repo, plan.tree, compression, directory);
  const place = `${GLOBAL_ADDONS}/${name}`;
  if (addons.some((each) => each.path === place)) return null;
  const output = join(directory, `unsigned-${name}`);
  const stub = stubArguments(shop, "addon");
  runUkify(["build", ...stub, "--initrd", path, "--output", output]);
  return { path: place, file: sign(shop, output, name) };
}

/** Those that are given, and of the kernel that is replaced those that are not given anew. */
function listAddons(shop: Workshop, kernel: string): readonly PlacedFile[] {
  const { plan, request } = shop;
  const given = request.addons.map((file) => ({ name: basename(file), file }));
  const wrong = given.find(({ name, file }) => !name.endsWith(ADDON_SUFFIX) || !existsSync(file));
  if (wrong !== undefined) {
    throw new UsageError(
      "bad-value",
      `"${wrong.file}" is no addon: there has to be a file whose name ends in "${ADDON_SUFFIX}"`,
    );
  }
  const kept = keptAddons(plan)
    .filter(({ name }) => !given.some((each) => each.name === name))
    .map((addon) => extractAddon(shop, addon));
  const isRuntime = (name: string) => name.startsWith(RUNTIME_PREFIX);
  return [...kept, ...given]
    .map(({ name, file }) => ({
      path: isRuntime(name) ? `${GLOBAL_ADDONS}/${name}` : `${KERNELS}/${kernel}.extra.d/${name}`,
      file,
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** An initramfs that is taken out of a unified kernel may need the program from the addon that came with it. */
function keptAddons({ kernel }: SealPlan): readonly ImageFile[] {
  const { plain, previous } = kernel;
  if (previous === null) return [];
  const runtimes = previous.globalAddons.filter(({ name }) => name.startsWith(RUNTIME_PREFIX));
  return [...previous.addons, ...(plain === null ? runtimes : [])];
}

function extractAddon({ repo, directory }: Workshop, { name, file }: ImageFile) {
  const path = join(directory, `previous-${name}`);
  writeChunksAtomic(null, path, openFileContent(repo, file), { mode: 0o600, sync: false });
  return { name, file: path };
}

/** FormatError when it is no EFI program. */
function signAddon(shop: Workshop, { path, file }: PlacedFile): PlacedFile {
  hasSignature(file);
  return { path, file: sign(shop, file, basename(path)) };
}

/** The signed program, or without a signer and where it is signed already the same. */
function sign({ request, directory }: Workshop, file: string, name: string): string {
  const { signer } = request;
  if (signer === null || isSignedBy(file, [signer.certificate])) return file;
  const output = join(directory, "signed", name);
  mkdirSync(join(directory, "signed"), { recursive: true });
  signProgram(file, output, signer);
  return output;
}
