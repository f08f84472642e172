// Attacks on the root disk of a machine that starts signed images only, on real fs-verity: each row of
// test/support/trust-rows.ts is a disk of its own, put right, attacked, and started by the real executable; one
// VM for all. What must happen in each row stands there and in docs/security.md.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { BUN, buildExecutable, EXECUTABLE } from "../../scripts/build.ts";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import type { Floor } from "../../shared/trust/floor.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import { run } from "../support/run.ts";
import type { EspResult, TrustResult } from "../support/trust-cases.ts";
import { makeTrustPlace, sign, statementPath, trustKey } from "../support/trust-place.ts";
import { TRUST_ROWS } from "../support/trust-rows.ts";
import { startCaseMachine } from "./case-machine.ts";
import { ensureDebianKernel } from "./debian-kernel.ts";
import { ext4FromDir } from "./disks.ts";
import { runTool } from "./tools-root.ts";

const ATTACKS = [
  "a signed image",
  "a byte of an object",
  "an object exchanged for another file",
  "fs-verity taken from an object",
  "fs-verity taken from an object, and a ? on the command line",
  "a byte of the image",
  "fs-verity taken from the image",
  "fs-verity taken from the image, and a ? on the command line",
  "no fs-verity where trust.conf allows it",
  "the image exchanged for another signed one",
  "the origin file",
  "a splitstream",
  "the machine's /etc",
  "settings on the root disk",
  "keys on the root disk",
  "no statement",
  "a byte of the statement",
  "a byte of the signature",
  "a statement that is cut short",
  "a statement with something after it",
  "the statements of two deployments swapped",
  "a statement by another key",
  "a statement by another key that gives itself the trusted one's fingerprint",
  "an expired statement",
  "an expired statement where trust.conf only warns",
  "a link in the place of the statement",
  "a FIFO in the place of the statement",
  "a directory in the place of the statement",
  "a statement of megabytes",
  "a link in the place of the deployment's directory",
  "no keys",
  "a revoked image",
  "a revoked image where there are no keys",
  "an image by a revoked key",
  "every key revoked",
  "signed by old and new key, both trusted",
  "signed by old and new key, only the new one trusted",
  "signed by old and new key, the old one revoked",
  "a public key that is none",
  "a public key of which a byte was changed",
  "a link in the place of a public key",
  "a FIFO in the place of a public key",
  "a list of revocations that is none",
  "a trust.conf that says something unknown",
  "an older signed image, below the floor",
  "an image at the floor",
  "a floor that another key signed",
  "a floor whose version was changed",
  "a floor that is noise",
  "a TPM that trust.conf wants and that is not there",
  "no composefs= on a disk with an ordinary system",
  "ostree= that nobody signed",
  "an unsigned image named before the signed one",
  "an image that is not there named before the signed one",
];

const MEGABYTES = 64;
const ESP_MEGABYTES = 16;
const STORE = "/run/store";
const ROOT = "/run/root";
const PROGRAM = "/run/bin/prepare-root";

interface Results {
  readonly rows: Readonly<Record<string, TrustResult>>;
  readonly esp: Readonly<
    Record<"below" | "inUse" | "again" | "erased" | "unset" | "atFloor" | "belowTpm", EspResult>
  > & { readonly raised: Floor };
}

/** Runs test/support/trust-cases.ts in a VM with Debian's kernel. */
async function runTrustCases(): Promise<Results> {
  await buildExecutable();
  const kernel = await ensureDebianKernel("trixie", console.log);
  const vmDir = join(cacheDir, "vm");
  mkdirSync(vmDir, { recursive: true });
  const scratch = mkdtempSync(join(vmDir, "trust-cases-"));
  try {
    const script = join(scratch, "trust-cases.js");
    const source = join(projectDir, "test/support/trust-cases.ts");
    await run([BUN, "build", "--target=bun", `--outfile=${script}`, source]);
    const programs = [
      { name: "bun", file: BUN },
      { name: "bootc", file: EXECUTABLE },
      { name: "trust-cases.js", file: script },
    ];
    mkdirSync(join(scratch, "tree"));
    const store = join(scratch, "store.raw");
    const path = await ext4FromDir(store, join(scratch, "tree"), MEGABYTES, "store", "verity");
    const disks = [
      { id: "store", path, mode: "write" },
      { id: "machine", path: await makeMachineDisk(scratch), mode: "write" },
    ] as const;
    await using machine = await startCaseMachine(kernel, programs, disks, console.log, {});
    await machine.must(`mkdir ${STORE} ${ROOT} /run/bin && ln -s /program/bootc ${PROGRAM}`);
    const ask = async (words: string) => {
      const command = `/program/bun /program/trust-cases.js ${words} ${PROGRAM}`;
      // Bun makes the outputs it is given non-blocking, for the rig's shell as well.
      const text = await machine.must(`${command} 2>&1 | cat`, { timeoutMs: 600_000 });
      const [found] = /^\{.*\}$/m.exec(text) ?? [];
      if (found === undefined) throw new Error(`The cases failed:\n${text}`);
      return JSON.parse(found);
    };
    return {
      rows: await ask(`verity /run/disk/store ${STORE}`),
      esp: await ask(`esp /run/disk/machine ${ROOT}`),
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** A GPT with an ESP, whose floor is above the image of the root file system, and that. */
async function makeMachineDisk(scratch: string): Promise<string> {
  const place = makeTrustPlace(join(scratch, "machine"), "a machine", {
    conf: [],
    damage: undefined,
  });
  // The one that is found is the one with a statement.
  rmSync(statementPath(place, place.other.id));
  const files = join(scratch, "esp");
  mkdirSync(join(files, ESP_FLOOR_FILE, ".."), { recursive: true });
  writeFileSync(join(files, ESP_FLOOR_FILE), sign(place.id, [trustKey("vendor")], { version: 43 }));
  const root = await ext4FromDir(join(scratch, "root.raw"), place.disk, 40, "root", "verity");
  const script = `set -e; cd "$1"
    truncate -s ${ESP_MEGABYTES}M esp.raw; mkfs.vfat -n ESP esp.raw >/dev/null
    mcopy -s -i esp.raw esp/EFI ::
    truncate -s ${ESP_MEGABYTES + 48}M machine.raw
    printf 'label: gpt\nsize=${ESP_MEGABYTES}MiB,type=uefi\ntype=linux\n' | sfdisk -q machine.raw
    dd if=esp.raw of=machine.raw bs=1M seek=1 conv=notrunc status=none
    dd if="$2" of=machine.raw bs=1M seek=${ESP_MEGABYTES + 1} conv=notrunc,sparse status=none`;
  await runTool(["sh", "-c", script, "sh", scratch, root]);
  return join(scratch, "machine.raw");
}

describe("in signed mode, with fs-verity", () => {
  let results: Results["rows"];
  let esp: Results["esp"];
  beforeAll(async () => {
    ({ rows: results, esp } = await runTrustCases());
  });

  test("every attack there is has a test", () => {
    expect(TRUST_ROWS.map(({ name }) => name)).toEqual(ATTACKS);
  });

  test.each(ATTACKS)("%s", (name) => {
    const { reads = {}, says } = TRUST_ROWS.find((row) => row.name === name)!;
    const { code, output, ...found } = results[name]!;
    expect(output).toMatch(says);
    expect(code).toBe(says.source.includes("refused") ? 1 : 0);
    expect(found).toMatchObject({ reads, mountsLeft: 0 });
  });

  test("the floor on the machine's own ESP, which is found and mounted where nobody sees it", () => {
    const refusal = "has version 42, and this machine starts none below 43";
    expect(esp.below).toMatchObject({ code: 1, mounted: 0 });
    expect(esp.below.output).toContain(refusal);
    expect(esp.again.output).toContain(" floor=42(esp) ");
    expect(esp.again).toMatchObject({ code: 0, mounted: 0 });
  });

  test("an ESP that somebody has mounted is read all the same", () => {
    expect(esp.inUse.output).toContain(" floor=42(esp) ");
    expect(esp.inUse).toMatchObject({ code: 0, mounted: 1 });
  });

  test("an ESP that was erased is told, and no reason to refuse", () => {
    expect(esp.erased.output).toContain(" floor=none ");
    expect(esp.erased.output).toContain("Cannot look for a version floor on the ESP: ");
    expect(esp.erased).toMatchObject({ code: 0, mounted: 0 });
  });

  test("the floor in a TPM, through the kernel's device", () => {
    expect(esp.unset.output).toContain(" floor=none ");
    expect(esp.unset.code).toBe(0);
    expect(esp.raised).toEqual({ value: 42, source: "tpm", tpmUsable: true, problems: [] });
    expect(esp.atFloor.output).toContain(" floor=42(tpm) ");
    expect([esp.atFloor.code, esp.belowTpm.code]).toEqual([0, 1]);
    expect(esp.belowTpm.output).toContain("has version 42, and this machine starts none below 43");
  });

  test("what was trusted is left for bootc status", () => {
    const { fingerprint } = trustKey("vendor");
    const signed = { mode: "signed", key: fingerprint, keyName: "vendor.pub", version: 42 };
    expect(results["a signed image"]?.record).toMatchObject({
      ...signed,
      expires: null,
      verity: "enforced",
      floor: { value: null, source: "none" },
      warnings: [],
    });
    const warned = results["an expired statement where trust.conf only warns"]?.record;
    expect(warned).toMatchObject({ ...signed, expires: "2020-01-01T00:00:00Z" });
    expect(warned?.["warnings"]).toHaveLength(1);
    const floor = { value: 42, source: "esp" };
    expect(results["an image at the floor"]?.record).toMatchObject({ ...signed, floor });
    const none = { mode: "unsigned", key: null, version: null, verity: "enforced" };
    expect(results["no keys"]?.record).toMatchObject(none);
    expect(results["no statement"]?.record).toBeNull();
  });
});
