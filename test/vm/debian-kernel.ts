// Debian kernels of other releases: vmlinuz and modules, taken from the packages.
// Invariants: a kernel is looked up when it is fetched, and then stays in the cache; which one is the
// newest is read from the mirror's lists and not written here; depmod has run over the modules.

import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { type DebianArchive, type DebianPackage, openDebianArchive } from "./debian-packages.ts";
import { runTool } from "./tools-root.ts";

export type KernelChoice = "bookworm" | "trixie" | "newest";

export type DebianKernel = {
  /** As `uname -r` says it. */
  readonly release: string;
  /** Debian's version of the package, and the suites that were looked at. */
  readonly version: string;
  readonly suites: readonly string[];
  readonly vmlinuz: string;
  /** Has usr/lib/modules/RELEASE. */
  readonly tree: string;
};

/** In order of preference: the first group that the mirror has. */
const SUITES: Readonly<Record<KernelChoice, readonly (readonly string[])[]>> = {
  bookworm: [["bookworm", "bookworm-security"]],
  trixie: [["trixie", "trixie-security"]],
  newest: [["bookworm-backports", "trixie-backports"], ["forky"], ["sid"]],
};

/** Small and made for virtual machines. */
const META_PACKAGE = "linux-image-cloud-amd64";

/** Newer releases split the kernel into several packages. */
const PARTS = /^linux-(?:image|binary|modules|base)-\d.*-cloud-amd64$/;

type Facts = Pick<DebianKernel, "release" | "version" | "suites">;

/** The kernel, fetched when it is not in the cache yet. */
export async function ensureDebianKernel(
  choice: KernelChoice,
  onLine?: Progress,
): Promise<DebianKernel> {
  const key = cacheKey("kernel 1", META_PACKAGE, SUITES[choice]);
  const dir = await cachedDir(join(cacheDir, "vm", `kernel-${choice}-${key}`), async (path) => {
    const facts = await fetchKernel(choice, path, onLine);
    await writeFile(join(path, "kernel.json"), JSON.stringify(facts));
  });
  const facts = JSON.parse(await readFile(join(dir, "kernel.json"), "utf8")) as Facts;
  const tree = join(dir, "tree");
  return { ...facts, tree, vmlinuz: join(tree, "usr/lib/modules", facts.release, "vmlinuz") };
}

async function fetchKernel(choice: KernelChoice, path: string, onLine?: Progress): Promise<Facts> {
  const scratch = join(path, "apt");
  for (const suites of SUITES[choice]) {
    const archive = await openDebianArchive(scratch, suites, onLine);
    const meta = await archive.find(META_PACKAGE);
    if (meta === undefined) continue;
    onLine?.(`kernel: ${choice} is ${meta.version} (${archive.suites.join(", ")})`);
    const tree = join(path, "tree");
    await archive.unpack(await kernelParts(archive, meta), tree);
    await rm(scratch, { recursive: true });
    const release = await arrange(tree);
    return { release, version: meta.version, suites: archive.suites };
  }
  throw new Error(`The mirror has no "${META_PACKAGE}" for "${choice}"`);
}

/** What the meta package leads to: vmlinuz and modules, in one package or several. */
async function kernelParts(archive: DebianArchive, meta: DebianPackage): Promise<DebianPackage[]> {
  const parts = new Map<string, DebianPackage>();
  const waiting = [meta];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const name of next.depends) {
      if (!PARTS.test(name) || parts.has(name)) continue;
      const part = await archive.find(name);
      if (part === undefined) throw new Error(`${next.name} needs "${name}", which is missing`);
      parts.set(name, part);
      waiting.push(part);
    }
  }
  return [...parts.values()];
}

/** The same places for all releases; returns the kernel's release. */
async function arrange(tree: string): Promise<string> {
  const modules = join(tree, "usr/lib/modules");
  if (existsSync(join(tree, "lib"))) {
    await mkdir(join(tree, "usr/lib"), { recursive: true });
    await rename(join(tree, "lib/modules"), modules);
    await rm(join(tree, "lib"), { recursive: true });
  }
  await symlink("usr/lib", join(tree, "lib"));
  const [release, ...others] = await readdir(modules);
  if (release === undefined || others.length > 0) throw new Error(`${modules}: not one kernel`);
  const kernel = join(modules, release, "vmlinuz");
  if (!existsSync(kernel)) await rename(join(tree, `boot/vmlinuz-${release}`), kernel);
  await runTool(["depmod", "-b", tree, release]);
  return release;
}
