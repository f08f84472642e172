import { expect, test } from "vitest";
import { formatTable } from "./text-table.ts";

test("a table as cfsctl draws it", () => {
  const rows = [
    ["my-image", "02827dc8f406"],
    ["sub/é", "cb"],
  ];
  expect(formatTable(["NAME", "DIGEST"], rows).join("\n")).toBe(
    [
      "┌──────────┬──────────────┐",
      "│ NAME     ┆ DIGEST       │",
      "╞══════════╪══════════════╡",
      "│ my-image ┆ 02827dc8f406 │",
      "├╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤",
      "│ sub/é    ┆ cb           │",
      "└──────────┴──────────────┘",
    ].join("\n"),
  );
});
