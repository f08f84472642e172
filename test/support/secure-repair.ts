// The case "secureRepair" of kernel-cases.ts: a repository whose objects have fs-verity, with every damage
// that only such a one can have. Needs ext4 with fs-verity on a disk of its own.

import { execFileSync } from "node:child_process";
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { readObject } from "../../shared/store/objects.ts";
import { openRepository, type Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { checkAll, makeScenario, repairScenario } from "./repair-scenario.ts";

export const SECURE_REPAIR_RESULT = {
  secure: true,
  before: [],
  bare: ["object-verity-missing"],
  found: ["layer-check-failed"],
  steps: ["seal-object", "build-image", "fetch-layer", "fetch-layer"],
  remaining: [],
  after: [],
} as const;

export async function secureRepair(path: string): Promise<unknown> {
  const scenario = await makeScenario(path, { secure: true });
  using repo = openRepository(null, join(path, "repo"));
  const kinds = async () => [...new Set((await checkAll(repo)).map(({ kind }) => kind))].sort();
  const before = await kinds();
  const file = (digest: string) => join(repo.path, "objects", objectPath(digest));
  const objects = listLayerObjects(repo, scenario.manifestDigest).sort(
    (a, b) => statSync(file(b)).size - statSync(file(a)).size,
  );
  // The largest loses a block, the second its fs-verity, the boot image both content and fs-verity.
  const [lost, bare] = objects as [string, string];
  const content = readFileSync(file(bare));
  unlinkSync(file(bare));
  writeFileSync(file(bare), content);
  const withoutVerity = await kinds();
  unlinkSync(file(scenario.deploymentId));
  writeFileSync(file(scenario.deploymentId), "no image at all");
  const first = await repairScenario(repo, scenario);
  loseBlock(file(lost));
  const found = await kinds();
  const second = await repairScenario(repo, scenario);
  unlinkSync(file(lost));
  const third = await repairScenario(repo, scenario);
  const results = [first, second, third];
  return {
    secure: repo.secure,
    before,
    bare: withoutVerity.filter((kind) => kind === "object-verity-missing"),
    found,
    steps: results.flatMap(({ steps }) => steps.map(({ step }) => step.kind)),
    remaining: results.flatMap(({ remaining }) => remaining),
    after: await kinds(),
  };
}

function listLayerObjects(repo: Repository, manifestDigest: string): string[] {
  const refs = (digest: string) => readSplitStreamRefs(readObject(repo, digest, 1 << 24));
  const { namedRefs } = refs(streamObject(repo, `oci-manifest-${manifestDigest}`)!);
  const layers = [...namedRefs].filter(([name]) => !name.startsWith("config:"));
  return layers.flatMap(([, digest]) => refs(digest).objectRefs);
}

/** Changes a byte of the file on the disk below the file system, which then refuses to read its block. */
function loseBlock(file: string): void {
  const extents = execFileSync("filefrag", ["-v", "-b4096", file], { encoding: "utf8" });
  const block = /^\s*0:\s*0\.\.\s*\d+:\s*(\d+)\.\./m.exec(extents)?.[1];
  if (block === undefined) throw new Error(`No block of "${file}" found in:\n${extents}`);
  const { dev } = statSync(file);
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
  const disk = openSync(`/dev/block/${major}:${minor}`, "r+");
  const byte = new Uint8Array(1);
  const offset = Number(block) * 4096 + 100;
  readSync(disk, byte, 0, 1, offset);
  byte[0]! ^= 0xff;
  writeSync(disk, byte, 0, 1, offset);
  fsyncSync(disk);
  closeSync(disk);
  writeFileSync("/proc/sys/vm/drop_caches", "3");
}
