// Changes of a dump line by line and field by field, so that paths, links and their targets meet.

import type { Random } from "../support/random-dump.ts";

const PATH = 0;
const MODE = 2;
const PAYLOAD = 8;
const MAX_LINES = 60;

/** Lines change places, take fields of others, become links to others. */
export function mutateDump(bytes: Uint8Array, random: Random): Uint8Array | null {
  const lines = Buffer.from(bytes).toString("latin1").split("\n").slice(0, MAX_LINES);
  const at = random.below(lines.length);
  const fields = lines[at]!.split(" ");
  const other = random.pick(lines).split(" ");
  if (fields.length <= PAYLOAD) return null;
  switch (random.below(7)) {
    case 0:
      lines.splice(random.below(lines.length + 1), 0, lines[at]!);
      break;
    case 1:
      lines.splice(at, 1);
      break;
    case 2:
      lines.splice(random.below(lines.length), 0, ...lines.splice(at, 1));
      break;
    case 3: {
      const field = random.below(Math.max(fields.length, other.length));
      fields[Math.min(field, fields.length)] = other[field] ?? "-";
      lines[at] = fields.join(" ");
      break;
    }
    case 4:
      lines[at] = fields.with(MODE, `@${fields[MODE]}`).with(PAYLOAD, other[PATH]!).join(" ");
      break;
    case 5:
      lines[at] = fields.with(PAYLOAD, other[PATH]!).join(" ");
      break;
    default: {
      const name = random.pick(["a", "b", "..", ".", "00", "x".repeat(255)]);
      lines[at] = fields.with(PATH, `${other[PATH]}/${name}`).join(" ");
    }
  }
  return Buffer.from(lines.join("\n"), "latin1");
}
