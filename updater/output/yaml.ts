// YAML that every reader understands alike: YAML 1.1 and 1.2 disagree on what plain words and
// numbers mean ("no", "9.20", "0o17", times), so only words that are text in both stay unquoted.

import { Document, parse, visit, YAMLParseError } from "yaml";
import { FormatError } from "../../shared/error.ts";

const PLAIN = /^[A-Za-z/](?:[\w/.@+:-]*[\w/.@+-])?(?: [A-Za-z/](?:[\w/.@+:-]*[\w/.@+-])?)*$/;
const RESERVED = /^(?:null|true|false|yes|no|on|off|y|n)$/i;
/** Printable in JSON, but not in YAML, or a line break in YAML 1.1. */
const UNPRINTABLE = /[\x7f-\x9f\u2028\u2029\ufeff]/g;

/** Block style in the order of `value`'s properties, ending with a newline. */
export function formatYaml(value: unknown): string {
  const document = new Document(value, { aliasDuplicateObjects: false });
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value !== "string") return;
      const isPlain = PLAIN.test(node.value) && !RESERVED.test(node.value);
      node.type = isPlain ? "PLAIN" : "QUOTE_DOUBLE";
    },
  });
  return document
    .toString({ indentSeq: false, lineWidth: 0, doubleQuotedAsJSON: true })
    .replace(UNPRINTABLE, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** YAML 1.2, of which JSON is a part. FormatError naming `source` and the line. */
export function parseYaml(text: string, source: string): unknown {
  try {
    return parse(text, { strict: true, uniqueKeys: true });
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    const line = error.linePos?.[0].line;
    const place = line === undefined ? source : `${source}:${line}`;
    const reason = error.message.split("\n", 1)[0]!.replace(/ at line .*$/, "");
    throw new FormatError("bad-value", `"${place}" is not YAML: ${reason}`, { path: source });
  }
}
