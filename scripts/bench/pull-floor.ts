// What no program can do without, with standard programs and one thing at a time: unpacking the layers,
// hashing the tars, and writing them to the disk.

import { createReadStream, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { runImageTool } from "../../test/support/image-tools.ts";

export interface Floor {
  readonly unpackMs: number;
  readonly hashMs: number;
  readonly writeMs: number;
}

/** `scratch` is for compressed layers and tars, `disk` for what is measured. */
export async function measureFloor(image: string, scratch: string, disk: string): Promise<Floor> {
  const layout = join(scratch, "floor");
  const copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"];
  await runImageTool([...copy, image, `oci:${layout}:floor`]);
  const floor = { unpackMs: 0, hashMs: 0, writeMs: 0 };
  const blobs = join(layout, "blobs/sha256");
  for (const name of readdirSync(blobs)) {
    const blob = join(blobs, name);
    const program = await chooseProgram(blob);
    if (program === null) continue;
    const tar = join(scratch, "floor.tar");
    // Unpacked once more for the file: writing it is not part of unpacking.
    floor.unpackMs += time(`${program} -dc "$1" >/dev/null`, blob);
    time(`${program} -dc "$1" >"$2"`, blob, tar);
    floor.hashMs += time('sha256sum "$1" >/dev/null', tar);
    const target = join(disk, "floor");
    floor.writeMs += time('dd if="$1" of="$2" bs=1M conv=fsync status=none', tar, target);
    rmSync(tar);
    rmSync(target);
  }
  rmSync(layout, { recursive: true });
  return floor;
}

/** Null for documents. */
async function chooseProgram(blob: string): Promise<"gzip" | "zstd" | null> {
  if (statSync(blob).size < 4) return null;
  for await (const head of createReadStream(blob, { start: 0, end: 3 })) {
    const hex = (head as Buffer).toString("hex");
    return hex.startsWith("1f8b") ? "gzip" : hex === "28b52ffd" ? "zstd" : null;
  }
  return null;
}

function time(script: string, ...args: readonly string[]): number {
  const started = performance.now();
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-ec", script, "sh", ...args]);
  if (exitCode !== 0) throw new Error(`${script} failed: ${stderr}`);
  return performance.now() - started;
}
