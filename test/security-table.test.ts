// The tables of attacks in docs/security.md name tests; they exist under these names. Every attack of the mounted
// matrix is in a table, and no row says that something else happened than must.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "./support/source-tree.ts";
import { TRUST_ROWS } from "./support/trust-rows.ts";

const text = readFileSync(join(ROOT, "docs/security.md"), "utf8");
const [images, disks] = text.split("## Attacks on a machine's disk");
const rowsOf = (part: string) =>
  part
    .split("\n")
    .filter((line) => line.startsWith("| ") && line.includes(".test.ts`"))
    .map((line) => line.replace(/^\| | \|$/g, "").split(" | "));
const imageRows = rowsOf(images!);
const diskRows = rowsOf(disks!);

/** A file that stands before several titles is that of all of them. */
const named = [...imageRows, ...diskRows].flatMap((row) =>
  [...row.at(-1)!.matchAll(/`([^`]+\.test\.ts)`: "((?:[^"]|"(?! \||;|$))+)"/g)].map(
    ([, file, title]) => [row[0]!, file!, title!] as const,
  ),
);

test("the tables have their rows, each with a test", () => {
  expect(imageRows.length).toBeGreaterThan(40);
  expect(diskRows.length).toBeGreaterThan(40);
  expect(imageRows.filter((row) => row.length !== 4)).toEqual([]);
  expect(diskRows.filter((row) => row.length !== 5)).toEqual([]);
  const withTests = new Set(named.map(([name]) => name));
  const without = [...imageRows, ...diskRows].filter(([name = ""]) => !withTests.has(name));
  expect(without).toEqual([]);
});

test("the tests they name exist", () => {
  const missing = named.filter(([, file, title]) => {
    const path = join(ROOT, file);
    return !existsSync(path) || !readFileSync(path, "utf8").includes(JSON.stringify(title));
  });
  expect(missing).toEqual([]);
});

test("every attack of the mounted matrix has a row", () => {
  const titles = new Set(named.map(([, , title]) => title));
  const control = ["a signed image", "an image at the floor"];
  const listed = [...control, "an image that is not there named before the signed one"];
  const names = TRUST_ROWS.map(({ name }) => name).filter((name) => !listed.includes(name));
  expect(names.filter((name) => !titles.has(name))).toEqual([]);
});

test("no row is wrong: what happened is what must happen, or what the mode allows", () => {
  const wrong = diskRows.filter(([, , must = "", happened = ""]) =>
    /allowed|nothing depends|^Starts$/.test(must)
      ? !/^(?:It|They) /.test(happened)
      : !happened.startsWith("As it must"),
  );
  expect(wrong).toEqual([]);
});

test.each([
  ...["CVE-2024-3727", "CVE-2021-41190", "CVE-2020-15157", "CVE-2025-62518", "CVE-2026-23745"],
  ...["CVE-2026-24842", "CVE-2026-26960", "CVE-2026-46703", "CVE-2026-32288", "CVE-2026-50195"],
  ...["CVE-2026-33542", "CVE-2022-24778", "CVE-2024-9676", "CVE-2025-58183", "CVE-2021-29136"],
  ...["CVE-2021-21272", "CVE-2026-22703", "CVE-2022-36056"],
])("%s has a row", (identifier) => {
  expect(imageRows.some(([, source = ""]) => source.includes(identifier))).toBe(true);
});

test("CVE-2026-32606, which is about disks and not images, is spoken of", () => {
  expect(text).toContain("CVE-2026-32606");
});
