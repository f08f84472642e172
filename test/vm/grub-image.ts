// Debian's GRUB as an EFI program that reads its script from a file system labelled BOOT: the one of trixie
// (2.12, without `blscfg`) and the newest (2.14).
// Invariants: made with the packages' own grub-mkimage; what the menu needs is in the program itself, so
// nothing is installed and no module is loaded from a disk.

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { openDebianArchive } from "./debian-packages.ts";
import { runTool } from "./tools-root.ts";

export type GrubRelease = "trixie" | "forky";

const PACKAGES = ["grub-efi-amd64-bin", "grub-efi-amd64-unsigned", "grub-common", "grub2-common"];
/** What grub-mkimage needs that the tools root lacks. */
const LIBRARIES = ["libdevmapper1.02.1"];

const MODULES: Readonly<Record<GrubRelease, readonly string[]>> = {
  trixie: [],
  forky: ["blsuki"],
};
const COMMON_MODULES = [
  ["part_gpt", "ext2", "fat", "search", "search_label", "normal", "configfile", "linux"],
  ["loadenv", "test", "echo", "reboot", "serial", "terminal", "minicmd", "sleep", "bli"],
].flat();

const EARLY_SCRIPT = `search --label --set=root BOOT
set prefix=($root)/grub
configfile $prefix/grub.cfg
`;

/** Path of the EFI program. */
export async function ensureGrubImage(release: GrubRelease, onLine?: Progress): Promise<string> {
  const modules = [...COMMON_MODULES, ...MODULES[release]];
  const key = cacheKey("grub 1", release, PACKAGES, LIBRARIES, modules, EARLY_SCRIPT);
  const dir = await cachedDir(join(cacheDir, "vm", `grub-${release}-${key}`), async (path) => {
    const tree = join(path, "tree");
    const scratch = join(path, "apt");
    await mkdir(tree);
    await unpack(scratch, release, PACKAGES, tree, onLine);
    await unpack(scratch, "trixie", LIBRARIES, tree, onLine);
    await rm(scratch, { recursive: true });
    const script = join(path, "early.cfg");
    await writeFile(script, EARLY_SCRIPT);
    await runTool(
      [
        "env",
        `LD_LIBRARY_PATH=${join(tree, "usr/lib/x86_64-linux-gnu")}`,
        join(tree, "usr/bin/grub-mkimage"),
        ...["-O", "x86_64-efi", "-d", join(tree, "usr/lib/grub/x86_64-efi")],
        ...["-c", script, "-p", "/grub", "-o", join(path, "grubx64.efi"), ...modules],
      ],
      { onLine },
    );
    await rm(tree, { recursive: true });
  });
  return join(dir, "grubx64.efi");
}

/** Packages that the release does not have are left out: they are called differently in some. */
async function unpack(
  scratch: string,
  release: string,
  names: readonly string[],
  tree: string,
  onLine?: Progress,
): Promise<void> {
  const archive = await openDebianArchive(join(scratch, release), [release], onLine);
  const found = await Promise.all(names.map((name) => archive.find(name)));
  const packages = found.filter((each) => each !== undefined);
  if (packages.length === 0) throw new Error(`The mirror has none of ${names.join(", ")}`);
  await archive.unpack(packages, tree);
}
