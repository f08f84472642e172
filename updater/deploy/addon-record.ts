// `state/deploy/<id>/<id>.addons`: which addons for every unified kernel a deployment needs (docs/boot-loaders.md).
// A JSON list of file names in `loader/addons`. bootc ignores it, and removes it with the state.

import * as z from "zod";
import { FormatError } from "../../shared/error.ts";
import { isOurAddon } from "../image/boot-kernel.ts";

const schema = z.array(z.string().refine(isOurAddon)).max(1000);

export function addonRecordName(id: string): string {
  return `${id}.addons`;
}

export function formatAddonRecord(names: readonly string[]): string {
  return `${JSON.stringify([...new Set(names)].sort())}\n`;
}

/** FormatError for anything but names of addons that are ours. */
export function parseAddonRecord(text: string, source: string): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError("bad-value", `"${source}" is no JSON`, { path: source }, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new FormatError("bad-value", `"${source}" is no list of addons of ours`, { path: source });
}
