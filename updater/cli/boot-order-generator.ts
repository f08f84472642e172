// `bootc-boot-order-generator`, a systemd.generator(7). Health checks, and with them boot-complete.target, come after the
// default target here. A unit that the default target wants and that comes after boot-complete.target would have the
// default target wait for itself: a target waits for what it wants, unless that says that it comes after the target.
// This says so for every such unit, and for those ordered after them. It is what their order amounts to anyway.
//
// What is read is "After=" in unit files and their drop-ins. A file that cannot be read is passed over: without this
// program systemd would drop one job of the cycle, and nothing here is worth more than that.

import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readSmallText } from "../../shared/sys/small-file.ts";

export const BOOT_ORDER_USAGE = `usage: bootc-boot-order-generator NORMAL-DIR [EARLY-DIR LATE-DIR]\n`;

const UNIT_DIRECTORIES = [
  "/etc/systemd/system",
  "/run/systemd/system",
  "/usr/local/lib/systemd/system",
  "/usr/lib/systemd/system",
];
const BEGINNING = "boot-complete.target";
/** Nothing helps these: they would wait for themselves in any case. */
const DEFAULT_TARGETS = ["multi-user.target", "graphical.target"];
const FILE_LIMIT_BYTES = 1 << 20;

/** That a unit comes after others, as one of its files says. */
export interface UnitOrder {
  readonly unit: string;
  readonly after: readonly string[];
}

/** `argv`: the directories that systemd gives a generator; only the first is used. */
export function runBootOrderGenerator(argv: readonly string[]): number {
  const [output = "/run/systemd/generator"] = argv;
  for (const unit of findLateUnits(UNIT_DIRECTORIES.flatMap(readUnitOrders))) {
    const directory = join(output, `${unit}.d`);
    mkdirSync(directory, { recursive: true });
    const text = `[Unit]\nAfter=${DEFAULT_TARGETS.join(" ")}\n`;
    writeFileSync(join(directory, "10-bootc-boot-order.conf"), text);
  }
  return 0;
}

/** Units that come after boot-complete.target, directly or by way of others. */
export function findLateUnits(orders: readonly UnitOrder[]): readonly string[] {
  const late = new Set<string>();
  const queue = [BEGINNING];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    for (const { unit, after } of orders) {
      if (!after.includes(name) || late.has(unit) || DEFAULT_TARGETS.includes(unit)) continue;
      late.add(unit);
      queue.push(unit);
    }
  }
  return [...late].sort();
}

/** Values of all `After=` lines of a unit file (systemd.syntax(7): a backslash at its end continues a line). */
export function parseAfter(text: string): readonly string[] {
  const lines = text.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => {
    const value = /^\s*After\s*=(.*)$/.exec(line)?.[1];
    return value === undefined ? [] : value.split(/\s+/).filter((name) => name !== "");
  });
}

/** A drop-in for all units of a type ("service.d") names no unit, and is passed over. */
function readUnitOrders(directory: string): readonly UnitOrder[] {
  return listNames(directory).flatMap((name) => {
    const path = join(directory, name);
    if (!name.endsWith(".d")) return readOrder(path, name);
    const unit = name.slice(0, -".d".length);
    if (!unit.includes(".")) return [];
    const files = listNames(path).filter((file) => file.endsWith(".conf"));
    return files.flatMap((file) => readOrder(join(path, file), unit));
  });
}

function readOrder(path: string, unit: string): readonly UnitOrder[] {
  if (!/\.[a-z]+$/.test(unit) || /\.(wants|requires|upholds)$/.test(unit)) return [];
  try {
    const after = parseAfter(readSmallText(path, FILE_LIMIT_BYTES) ?? "");
    return after.length === 0 ? [] : [{ unit, after }];
  } catch {
    return [];
  }
}

function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
