// Attacks on a root disk in signed mode, without fs-verity (which build machines rarely have): every row whose
// point is not fs-verity, by prepare-root as a program. All rows, with it: test/vm/trust-mounts.test.ts.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runInMountNamespace } from "../support/mount-namespace.ts";
import type { TrustResult } from "../support/trust-cases.ts";
import { TRUST_ROWS } from "../support/trust-rows.ts";

const SUPPORT = join(import.meta.dirname, "../support");
const ROWS = TRUST_ROWS.filter(({ verity }) => verity !== true);

let scratch: string;
let results: Readonly<Record<string, TrustResult>>;

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-trust-"));
  mkdirSync(join(scratch, "rows"));
  const { code, output } = runInMountNamespace(
    `step cases "$BUN" "$SUPPORT/trust-cases.ts" plain - "$SCRATCH/rows" "$BUN" "$SUPPORT/prepare-root.ts"`,
    { BUN: process.execPath, SUPPORT, SCRATCH: scratch },
  ).get("cases")!;
  if (code !== 0) throw new Error(output);
  results = JSON.parse(output);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test.each(ROWS)("$name", ({ name, reads = {}, says }) => {
  const { code, output, ...found } = results[name]!;
  expect(output).toMatch(says);
  expect(code).toBe(says.source.includes("refused") ? 1 : 0);
  expect(found).toMatchObject({ reads, mountsLeft: 0 });
});
