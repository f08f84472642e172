// The table of attacks in docs/security.md names tests; they exist under these names.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "./support/source-tree.ts";

const text = readFileSync(join(ROOT, "docs/security.md"), "utf8");
const rows = text
  .split("\n")
  .filter((line) => line.startsWith("| ") && line.includes(".test.ts`"))
  .map((line) => line.split(" | "));
const named = rows.flatMap(([name = "", , , tests = ""]) =>
  [...tests.matchAll(/`([^`]+\.test\.ts)`: "([^"]+)"/g)].map(
    ([, file, title]) => [name.slice(2), file!, title!] as const,
  ),
);

test("the table has its rows, each with a test", () => {
  expect(rows.length).toBeGreaterThan(40);
  const withTests = new Set(named.map(([name]) => name));
  expect(rows.map(([name = ""]) => name.slice(2)).filter((name) => !withTests.has(name))).toEqual(
    [],
  );
});

test("the tests it names exist", () => {
  const missing = named.filter(([, file, title]) => {
    const path = join(ROOT, file);
    return !existsSync(path) || !readFileSync(path, "utf8").includes(JSON.stringify(title));
  });
  expect(missing).toEqual([]);
});

test.each([
  ...["CVE-2024-3727", "CVE-2021-41190", "CVE-2020-15157", "CVE-2025-62518", "CVE-2026-23745"],
  ...["CVE-2026-24842", "CVE-2026-26960", "CVE-2026-46703", "CVE-2026-32288", "CVE-2026-50195"],
  ...["CVE-2026-33542", "CVE-2022-24778", "CVE-2024-9676", "CVE-2025-58183", "CVE-2021-29136"],
  ...["CVE-2021-21272", "CVE-2026-22703", "CVE-2022-36056"],
])("%s has a row", (identifier) => {
  expect(rows.some(([, source = ""]) => source.includes(identifier))).toBe(true);
});
