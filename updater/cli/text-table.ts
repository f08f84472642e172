// Tables for people, drawn as cfsctl draws them: a frame, a double line below the head, dotted lines
// between rows. Cells are one line of text each.

const FRAME = {
  top: ["┌", "─", "┬", "┐"],
  head: ["╞", "═", "╪", "╡"],
  row: ["├", "╌", "┼", "┤"],
  bottom: ["└", "─", "┴", "┘"],
} as const;

/** The lines of a table; every row has as many cells as the head. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const widths = head.map((_, column) =>
    Math.max(...[head, ...rows].map((cells) => [...cells[column]!].length)),
  );
  const rule = ([left, fill, cross, right]: readonly [string, string, string, string]) =>
    `${left}${widths.map((width) => fill.repeat(width + 2)).join(cross)}${right}`;
  const line = (cells: readonly string[]) =>
    `│${cells.map((cell, i) => ` ${pad(cell, widths[i]!)} `).join("┆")}│`;
  const body = rows.flatMap((cells, i) => [rule(i === 0 ? FRAME.head : FRAME.row), line(cells)]);
  return [rule(FRAME.top), line(head), ...body, rule(FRAME.bottom)];
}

function pad(cell: string, width: number): string {
  return cell + " ".repeat(width - [...cell].length);
}
