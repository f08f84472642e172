// Debian packages of any release, found and fetched with an apt of our own.
// Invariants: sources, lists and downloads lie in a directory of the caller; nothing of the machine's
// own apt is read but its mirror and settings, and nothing is installed.

import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findAptMirror } from "../support/apt-mirror.ts";
import { type Progress, run } from "../support/run.ts";
import { DEBIAN_KEYRING, ensureHostPackages } from "./debootstrap.ts";

export type DebianPackage = {
  readonly name: string;
  readonly version: string;
  /** Names of packages it needs, alternatives included. */
  readonly depends: readonly string[];
};

export type DebianArchive = {
  /** Suites that the mirror really has. */
  readonly suites: readonly string[];
  /** The newest version that the suites have of a package; undefined when they have none. */
  find(name: string): Promise<DebianPackage | undefined>;
  /** Unpacks packages into `root`. */
  unpack(packages: readonly DebianPackage[], root: string): Promise<void>;
};

/** Reads the package lists of `suites` into `dir`; suites that the mirror lacks are left out. */
export async function openDebianArchive(
  dir: string,
  suites: readonly string[],
  onLine?: Progress,
): Promise<DebianArchive> {
  await ensureHostPackages(onLine);
  const mirror = await findAptMirror();
  const found: string[] = [];
  for (const suite of suites) {
    const base = suite.endsWith("-security") ? mirror.security : mirror.main;
    if (base === undefined) continue;
    const source = `deb [arch=amd64 signed-by=${DEBIAN_KEYRING}] ${base} ${suite} main\n`;
    if (await readLists(join(dir, suite), source, mirror.options)) found.push(suite);
    else onLine?.(`packages: the mirror has no suite "${suite}"`);
  }
  const open = found.map((suite) => aptOptions(join(dir, suite), mirror.options));
  return {
    suites: found,
    find: async (name) => (await findIn(open, name))?.found,
    async unpack(packages, root) {
      for (const { name } of packages) await unpackFrom(open, name, dir, root);
    },
  };
}

/** False when the mirror has no such suite; every other failure is an error. */
async function readLists(dir: string, source: string, settings: readonly string[]) {
  await mkdir(join(dir, "lists/partial"), { recursive: true });
  await mkdir(join(dir, "archives/partial"), { recursive: true });
  await writeFile(join(dir, "status"), "");
  await writeFile(join(dir, "sources.list"), source);
  try {
    await run(["apt-get", ...aptOptions(dir, settings), "-q", "update"]);
    return true;
  } catch (error) {
    if (/does not have a Release file|404/.test(String(error))) return false;
    throw error;
  }
}

function aptOptions(dir: string, settings: readonly string[]): string[] {
  const own = {
    "Dir::State": dir,
    "Dir::State::lists": join(dir, "lists"),
    "Dir::State::status": join(dir, "status"),
    "Dir::Cache": dir,
    "Dir::Etc::sourcelist": join(dir, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::Etc::preferences": "-",
    "Dir::Etc::preferencesparts": "-",
    "APT::Architecture": "amd64",
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    // Or a mirror that is down for a moment would look like one without the suite.
    "APT::Update::Error-Mode": "any",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
  };
  const words = Object.entries(own).map(([key, value]) => `${key}=${value}`);
  const machine = settings.map((line) => line.replace(/^(\S+) "(.*)";$/, "$1=$2"));
  return [...words, ...machine].flatMap((word) => ["-o", word]);
}

type Origin = { readonly found: DebianPackage; readonly apt: readonly string[] };

async function findIn(archives: readonly string[][], name: string): Promise<Origin | undefined> {
  let best: Origin | undefined;
  for (const apt of archives) {
    const text = await run(["apt-cache", ...apt, "show", "--no-all-versions", name]).catch(
      // apt's answer to a name that is in none of the lists.
      () => "",
    );
    const found = parsePackage(text);
    if (found === undefined) continue;
    if (best === undefined || (await isNewer(found.version, best.found.version))) {
      best = { found, apt };
    }
  }
  return best;
}

function parsePackage(text: string): DebianPackage | undefined {
  const field = (key: string) => new RegExp(`^${key}: (.*)$`, "m").exec(text)?.[1];
  const name = field("Package");
  const version = field("Version");
  if (name === undefined || version === undefined) return undefined;
  const names = (field("Depends") ?? "")
    .split(/[,|]/)
    .map((word) => word.trim().split(/[\s:]/)[0]!);
  return { name, version, depends: names.filter(Boolean) };
}

async function isNewer(version: string, than: string): Promise<boolean> {
  return run(["dpkg", "--compare-versions", version, "gt", than]).then(
    () => true,
    () => false,
  );
}

async function unpackFrom(
  archives: readonly string[][],
  name: string,
  dir: string,
  root: string,
): Promise<void> {
  const origin = await findIn(archives, name);
  if (origin === undefined) throw new Error(`Debian has no package "${name}" any more`);
  const place = join(dir, "debs", name);
  await mkdir(place, { recursive: true });
  await mkdir(root, { recursive: true });
  await run(["apt-get", ...origin.apt, "-q", "download", name], { cwd: place });
  for (const file of await readdir(place)) await run(["dpkg-deb", "-x", join(place, file), root]);
}
