// INI files as bootc's origin files and ostree's keyfiles use them: [groups] of key=value lines
// (freedesktop "Desktop Entry" basic format; bootc.md 4.2).
//
// Groups and keys keep their order; unknown ones survive a rewrite. Comments (# and ;) and blank
// lines are dropped. White space around keys and values does not count. The last of two equal keys
// wins, and a group that appears twice is one group, as in GLib.

import { FormatError } from "../../error.ts";

/** group -> key -> value. */
export type Ini = ReadonlyMap<string, ReadonlyMap<string, string>>;

const SIZE_LIMIT_BYTES = 1024 * 1024;

/** `source` names the file in messages. */
export function parseIni(text: string, source: string): Ini {
  if (text.length > SIZE_LIMIT_BYTES) throw malformed(source, 0, "is larger than 1 MiB");
  if (text.includes("\0")) throw malformed(source, 0, "contains a NUL byte");
  const groups = new Map<string, Map<string, string>>();
  let group: Map<string, string> | null = null;
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#") || line.startsWith(";")) continue;
    const header = /^\[([^[\]]+)\]$/.exec(line);
    if (header !== null) {
      group = groups.get(header[1]!) ?? new Map();
      groups.set(header[1]!, group);
      continue;
    }
    const equals = line.indexOf("=");
    if (equals <= 0 || line.startsWith("["))
      throw malformed(source, index + 1, `"${line}" is neither a group nor a key`);
    if (group === null) throw malformed(source, index + 1, "a key before the first group");
    group.set(line.slice(0, equals).trimEnd(), line.slice(equals + 1).trimStart());
  }
  return groups;
}

export function formatIni(ini: Ini): string {
  let text = "";
  for (const [group, keys] of ini) {
    text += `[${checked(group, /^[^[\]\n\r\0]+$/)}]\n`;
    for (const [key, value] of keys) {
      text += `${checked(key, /^[^\s=[#;][^=\n\r\0]*$/)}=${checked(value, /^[^\n\r\0]*$/)}\n`;
    }
  }
  return text;
}

function checked(text: string, allowed: RegExp): string {
  if (allowed.test(text)) return text;
  throw new FormatError("bad-value", `"${text}" cannot be written to a keyfile`, { format: "ini" });
}

function malformed(source: string, line: number, reason: string): FormatError {
  const where = line === 0 ? "" : ` line ${line}`;
  return new FormatError("bad-value", `Keyfile "${source}"${where}: ${reason}`, {
    format: "ini",
    offset: line,
  });
}
