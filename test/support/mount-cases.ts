// What test/vm/kernels.test.ts does with mounts, as a program in the guest:
//
//   bun mount-cases.js IDS              prepares the disk "store" and runs every case; prints the
//                                       results as one line of JSON
//   bun mount-cases.js as-5.15 COMMAND  runs a program without the system calls that came after 5.15
//   bun mount-cases.js new-call         makes such a call and says what came of it
//
// Each case is the real executable under the name an administrator uses, then a look at what came of
// it: the mount table, and what reading each file gives.

import { spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import { MNT, O } from "../../shared/sys/constants.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { openat, writeAll } from "../../shared/sys/file.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { enableVerity } from "../../shared/sys/verity.ts";
import * as contents from "./mount-contents.ts";
import { execWithoutNewCalls, tryNewCall } from "./old-system-calls.ts";
import { sign, trustKey } from "./trust-place.ts";

const { CONTENTS } = contents;
const PROGRAM = "/program/bootc";
const DISK = "/run/disk/store";
const STORE = "/run/store";
const OBJECTS = `${STORE}/composefs/objects`;
const TARGET = "/run/target";
const IN_MEMORY = '[root]\ntransient = true\n[etc]\nmount = "overlay"\n[var]\ntransient = true\n';

const at = (name: string) => join(STORE, name);
const imageOf = (id: string) => at(`composefs/images/${id}`);
const objectOf = (content: string) =>
  objectPath(computeVerityDigest(Buffer.from(content), "sha512"));

/** Protects, forges and damages what mount-contents.ts says. */
function prepare(ids: contents.DiskIds): void {
  for (const path of [STORE, TARGET, "/run/bin"]) mkdirSync(path);
  for (const name of ["mount.composefs", "prepare-root"]) symlinkSync(PROGRAM, `/run/bin/${name}`);
  writeFileSync("/run/memory.conf", IN_MEMORY);
  mount(DISK, STORE, "ext4", 0, null);
  copyFileSync(imageOf(ids.main), at("bare.image"));
  symlinkSync(ids.main, imageOf(ids.wrong));
  writeFileSync(join(OBJECTS, objectOf(CONTENTS.replaced)), contents.FORGED);
  protectObjects();
  linkObjects("first", [CONTENTS.big]);
  linkObjects("second", [CONTENTS.other, CONTENTS.unprotected]);
  linkObjects("odd, na=me\\", [CONTENTS.big, CONTENTS.other]);
  for (const name of ["upper", "work"]) mkdirSync(at(name));
  umount2(STORE, 0);
  damage([contents.TAMPER_MARK, contents.DAMAGE_MARK]);
  writeFileSync("/proc/sys/vm/drop_caches", "3");
  mount(DISK, STORE, "ext4", 0, null);
}

/** All but two; and meta.json, which makes the repository a secure one. */
function protectObjects(): void {
  using metadata = openat(null, at("composefs/meta.json"), O.RDONLY);
  enableVerity(metadata, "sha512");
  const bare = [CONTENTS.replaced, CONTENTS.unprotected].map(objectOf);
  for (const name of readdirSync(OBJECTS, { recursive: true }).map(String)) {
    if (!name.includes("/") || bare.includes(name)) continue;
    using fd = openat(null, join(OBJECTS, name), O.RDONLY);
    enableVerity(fd, "sha512");
  }
}

/** A further object directory, with some of the objects. */
function linkObjects(directory: string, objects: readonly string[]): void {
  for (const content of objects) {
    const path = join(STORE, directory, objectOf(content));
    mkdirSync(dirname(path), { recursive: true });
    linkSync(join(OBJECTS, objectOf(content)), path);
  }
}

/** Changes the first byte of each mark, behind the file system's back. */
function damage(marks: readonly string[]): void {
  const bytes = readFileSync(DISK);
  const device = openSync(DISK, "rs+");
  for (const mark of marks) {
    const offset = bytes.indexOf(mark);
    if (offset < 0 || bytes.indexOf(mark, offset + 1) >= 0) throw new Error(`"${mark}": not once`);
    writeSync(device, "X", offset);
  }
}

export interface CaseResult {
  readonly code: number | null;
  readonly output: string;
  /** Loop devices that were attached. */
  readonly loops: number;
  /** The rest only when something was mounted. */
  readonly mounts?: readonly MountTableLine[];
  /** What is in the root. */
  readonly names?: readonly string[];
  /** "right", "forged", "other" or an error's code. */
  readonly reads?: Readonly<Record<string, string>>;
  /** Whether prepare-root left its scratch directory. */
  readonly left?: boolean;
}

interface MountTableLine {
  readonly target: string;
  readonly options: string;
  readonly type: string;
  readonly source: string;
  readonly details: string;
}

function mountTable(): MountTableLine[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const [before = "", after = ""] = line.split(" - ");
      const [type = "", source = "", details = ""] = after.split(" ");
      const fields = before.split(" ");
      return { target: fields[4]!, options: fields[5]!, type, source, details };
    })
    .filter(({ target }) => target === TARGET || target.startsWith(`${TARGET}/`));
}

/** What reading a file gives: which content, or which error. */
function judge(name: string, right: string): string {
  try {
    const found = readFileSync(join(TARGET, name), "utf8");
    if (found === right) return "right";
    return found === contents.FORGED ? "forged" : "other";
  } catch (error) {
    return (error as { code?: string }).code ?? "no code";
  }
}

const countLoops = () =>
  readdirSync("/sys/block").filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`))
    .length;

/** Runs a program; when it mounted something, tells what, and lets `look` say more. */
function attempt(argv: readonly string[], look: () => object = () => ({})): CaseResult {
  const [program = "", ...args] = argv;
  const { status, stderr, stdout } = spawnSync(program, args, { encoding: "utf8" });
  const result = { code: status, output: `${stdout}${stderr}`.trim() };
  const mounts = mountTable();
  if (mounts.length === 0) return { ...result, loops: countLoops() };
  try {
    const files = Object.entries(CONTENTS).map(([name, content]) => [
      name,
      judge(`usr/share/${name}`, content),
    ]);
    const small = judge("etc/small", contents.SMALL);
    const reads = { ...Object.fromEntries(files), small };
    const names = readdirSync(TARGET).sort();
    return { ...result, mounts, loops: countLoops(), names, reads, ...look() };
  } finally {
    for (const { target } of mounts.toReversed()) umount2(target, MNT.DETACH);
  }
}

const composefs = (image: string, options: string, look?: () => object, wrapper = [] as string[]) =>
  attempt([...wrapper, "/run/bin/mount.composefs", image, TARGET, "-o", options], look);

/** Writing, and that the writes went where they should. */
function write(): object {
  appendFileSync(join(TARGET, "usr/share/big"), "more");
  writeFileSync(join(TARGET, "new"), "new");
  const text = (path: string) => readFileSync(path, "utf8");
  return {
    copiedUp: text(at("upper/usr/share/big")) === `${CONTENTS.big}more`,
    created: text(at("upper/new")),
    untouched: text(join(OBJECTS, objectOf(CONTENTS.big))) === CONTENTS.big,
  };
}

async function mapOwners(image: string): Promise<CaseResult> {
  const script = ["-U", "sh", "-c", "echo ready; read line"];
  const child = spawn("unshare", script, { stdio: ["pipe", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  // Of the shell; unshare execs it.
  const namespace = `/proc/${child.pid}`;
  for (const map of ["uid_map", "gid_map"]) {
    writeFileSync(`${namespace}/${map}`, "0 100000 1000\n");
  }
  const options = `basedir=${OBJECTS},idmap=${namespace}/ns/user`;
  const result = composefs(image, options, () => ({
    owner: statSync(join(TARGET, "usr/share/big")).uid,
  }));
  child.stdin.end();
  return result;
}

function composefsCases(ids: contents.DiskIds): Record<string, CaseResult> {
  const main = imageOf(ids.main);
  const objects = `basedir=${OBJECTS}`;
  return {
    plain: composefs(main, objects),
    verity: composefs(main, `${objects},verity`),
    tryverity: composefs(main, `${objects},tryverity`),
    digest: composefs(main, `${objects},digest=${ids.main}`),
    "wrong digest": composefs(main, `${objects},digest=${ids.wrong}`),
    "bare image": composefs(at("bare.image"), objects),
    "digest of a bare image": composefs(at("bare.image"), `${objects},digest=${ids.main}`),
    "damaged image": composefs(imageOf(ids.damaged), objects, () => ({
      mark: judge("usr/share/mark", contents.DAMAGE_MARK),
    })),
    writable: composefs(main, `${objects},upperdir=${at("upper")},workdir=${at("work")}`, write),
    "two directories": composefs(main, `basedir=${at("first")}:${at("second")}`),
    "secure repository": cfs([], ids.main),
    "insecure repository": cfs(["--insecure"], ids.main),
    "odd name": composefs(main, `basedir=${at("odd\\, na\\=me\\\\")}`),
  };
}

const cfs = (options: readonly string[], id: string) =>
  attempt([
    PROGRAM,
    "internals",
    "cfs",
    "--repo",
    at("composefs"),
    ...options,
    "mount",
    id,
    TARGET,
  ]);

function prepareRoot(cmdline: string, config = "", wrapper: readonly string[] = []): CaseResult {
  const places = ["--sysroot", STORE, "--target", TARGET, "--run", "/run"];
  const argv = ["/run/bin/prepare-root", ...places, "--config", config, "--cmdline", cmdline];
  return attempt([...wrapper, ...argv], () => ({ left: existsSync("/run/prepare-root") }));
}

/** As in an initramfs with a key, which has signed the image; the "?" does not count then. */
function signedRoot({ main: id }: contents.DiskIds): CaseResult {
  const trust = "/run/trust";
  const key = trustKey("vendor");
  mkdirSync(join(trust, "keys.d"), { recursive: true });
  writeFileSync(join(trust, "keys.d/vendor.pub"), key.pub);
  writeFileSync(at(`state/deploy/${id}/${id}.statement`), sign(id, [key]));
  const places = ["--sysroot", STORE, "--target", TARGET, "--run", "/run", "--config", ""];
  const words = ["--trust", trust, "--tpm", "/dev/no-tpm", "--cmdline", `composefs=?${id}`];
  return attempt(["/run/bin/prepare-root", ...places, ...words]);
}

function bootCases(ids: contents.DiskIds): Record<string, CaseResult> {
  const old = ["/program/bun", process.argv[1]!, "as-5.15"];
  return {
    required: prepareRoot(`composefs=${ids.main}`),
    allowed: prepareRoot(`composefs=?${ids.main}`),
    "version 2": prepareRoot(`composefs=?${ids.v2}`),
    "in memory": prepareRoot(`composefs=?${ids.main}`, "/run/memory.conf"),
    "wrong root": prepareRoot(`composefs=?${ids.wrong}`),
    "damaged root": prepareRoot(`composefs=?${ids.damaged}`),
    "signed root": signedRoot(ids),
    "root with old calls": prepareRoot(`composefs=?${ids.main}`, "", old),
    "mount with old calls": composefs(imageOf(ids.main), `basedir=${OBJECTS}`, undefined, old),
    "new call": attempt([...old, process.execPath, process.argv[1]!, "new-call"]),
  };
}

async function main([first = "", ...rest]: readonly string[]): Promise<string> {
  if (first === "as-5.15") return execWithoutNewCalls(rest);
  if (first === "new-call") return tryNewCall();
  const ids = JSON.parse(first) as contents.DiskIds;
  prepare(ids);
  const idmap = await mapOwners(imageOf(ids.main));
  const results = { ...composefsCases(ids), idmap, ...bootCases(ids) };
  return JSON.stringify({ results, loopsAtEnd: countLoops() });
}

// Only the types are imported elsewhere.
if (import.meta.main) {
  const text = await main(process.argv.slice(2));
  writeAll(new Fd(1), Buffer.from(`${text}\n`));
}
