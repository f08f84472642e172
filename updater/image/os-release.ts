// os-release(5) as composefs-rs reads it: later assignments win, shell quotes are removed, values
// with an unterminated quote are ignored.

import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { FileReader } from "./file-content.ts";
import { lookupFile } from "./tree-lookup.ts";

const PATHS = ["usr/lib/os-release", "etc/os-release"];

/** Key -> value; empty when the image has no os-release. */
export function readOsRelease(root: DirectoryNode, readFile: FileReader): Map<string, string> {
  for (const path of PATHS) {
    const file = lookupFile(root, path);
    if (file !== null) return parseOsRelease(Buffer.from(readFile(file)).toString("utf8"));
  }
  return new Map();
}

/** Also what a unified kernel has in its section `.osrel`. */
export function parseOsRelease(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (line.startsWith("#") || equals < 0) continue;
    const value = unquote(line.slice(equals + 1).trim());
    if (value !== null) values.set(line.slice(0, equals).trim(), value);
  }
  return values;
}

/** Joins quoted and bare parts; null when a quote is not closed. */
function unquote(text: string): string | null {
  let result = "";
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (quote === "" && (char === '"' || char === "'")) quote = char;
    else if (char === quote) quote = "";
    else if (char === "\\" && quote !== "'" && i + 1 < text.length) result += text[++i];
    else result += char;
  }
  return quote === "" ? result : null;
}
