// The disk of the mount cases, and the run of all of them on one kernel.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN, EXECUTABLE } from "../../scripts/build.ts";
import { formatMetadata } from "../../shared/store/metadata.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import { makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import type { CaseResult } from "../support/mount-cases.ts";
import { CONTENTS, DAMAGE_MARK, type DiskIds, SMALL } from "../support/mount-contents.ts";
import { type Progress, run } from "../support/run.ts";
import { startCaseMachine } from "./case-machine.ts";
import type { DebianKernel } from "./debian-kernel.ts";
import { ext4FromDir } from "./disks.ts";

const megabytes = 48;

export type CaseResults = {
  /** As `uname -r` says it. */
  readonly release: string;
  readonly results: Readonly<Record<string, CaseResult>>;
  readonly loopsAtEnd: number;
};

/** Runs test/support/mount-cases.ts in a VM. */
export async function runMountCases(kernel: DebianKernel, onLine?: Progress): Promise<CaseResults> {
  const vmDir = join(cacheDir, "vm");
  mkdirSync(vmDir, { recursive: true });
  const scratch = mkdtempSync(join(vmDir, "mount-cases-"));
  try {
    const script = join(scratch, "mount-cases.js");
    const source = join(projectDir, "test/support/mount-cases.ts");
    await run([BUN, "build", "--target=bun", `--outfile=${script}`, source]);
    const programs = [
      { name: "bun", file: BUN },
      { name: "bootc", file: EXECUTABLE },
      { name: "mount-cases.js", file: script },
    ];
    const { ids, path } = await makeDisk(scratch);
    const disks = [{ id: "store", path, mode: "write" }] as const;
    await using machine = await startCaseMachine(kernel, programs, disks, onLine);
    const release = await machine.must("uname -r");
    // Bun makes the outputs it is given non-blocking, for the rig's shell as well.
    const command = `/program/bun /program/mount-cases.js '${JSON.stringify(ids)}' 2>&1 | cat`;
    const text = await machine.must(command, { timeoutMs: 300_000 });
    const [results = ""] = /^\{.*\}$/m.exec(text) ?? [];
    if (results === "") throw new Error(`The cases on ${release} failed:\n${text}`);
    return { ...JSON.parse(results), release };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function makeDisk(scratch: string): Promise<{ ids: DiskIds; path: string }> {
  const tree = join(scratch, "tree");
  mkdirSync(tree);
  const shared = Object.entries(CONTENTS).map(([name, text]) => [`usr/share/${name}`, text]);
  const files = {
    ...SKELETON,
    ...Object.fromEntries(shared),
    "etc/small": SMALL,
    "sbin/init": "#!/bin/sh\n",
  };
  const main = makeComposefsDisk(tree, files).id;
  const damaged = makeComposefsDisk(tree, { ...files, "usr/share/mark": DAMAGE_MARK }).id;
  const v2 = makeComposefsDisk(tree, files, "sha512", 2).id;
  for (const id of [main, v2]) writeFileSync(join(tree, `state/deploy/${id}/etc/small`), SMALL);
  writeFileSync(join(tree, "composefs/meta.json"), formatMetadata("sha512"));
  const path = await ext4FromDir(join(scratch, "store.raw"), tree, megabytes, "store", "verity");
  return { ids: { main, damaged, v2, wrong: "ab".repeat(64) }, path };
}
