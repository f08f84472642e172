// docs/formats.md from the `struct(…)` declarations of shared/format: offset, size, field, type.
//
// Read from the source, so declarations that no module exports are there, too. The sizes of the
// fields are added up and must give the declared size, as struct() itself checks at start.

import {
  listCalls,
  listProjectFiles,
  readHeaderComment,
  readSource,
  type SourceFile,
  type SyntaxNode,
} from "../../test/support/source-tree.ts";

const HEADER = `# On-disk structures

Made by \`npm run docs\` from the declarations in shared/format; do not edit. Integers are
little-endian unless their type says \`be\`. \`zeros\` are checked when reading, \`ignored\` bytes are not.
`;

interface FieldRow {
  readonly name: string;
  readonly type: string;
  readonly sizeBytes: number;
}

export function renderFormats(): string {
  const files = listProjectFiles().filter((path) =>
    /^shared\/format\/.*(?<!\.test)\.ts$/.test(path),
  );
  const sections = files.map(readSource).flatMap(renderFile);
  return [HEADER, ...sections].join("\n");
}

function renderFile(file: SourceFile): string[] {
  const structs = listCalls(file, "struct");
  if (structs.length === 0) return [];
  return [
    `## ${file.path}\n`,
    `${readHeaderComment(file)}\n`,
    ...structs.map((call) => renderStruct(file, call)),
  ];
}

function renderStruct(file: SourceFile, call: SyntaxNode): string {
  const [name, size, fields] = call["arguments"] as readonly [SyntaxNode, SyntaxNode, SyntaxNode];
  const declared = evaluateSize(file, sliceText(file, size));
  const properties = fields["properties"] as readonly SyntaxNode[];
  const rows = readFields(file, properties, declared);
  let offset = 0;
  const lines = rows.map((field) => {
    const line = `| ${offset} | ${field.sizeBytes} | ${field.name} | \`${field.type}\` |`;
    offset += field.sizeBytes;
    return line;
  });
  if (offset !== declared) {
    throw new Error(`${file.path}: fields are ${offset} bytes, declared ${declared}`);
  }
  const head = "| offset | bytes | field | type |\n| ---: | ---: | --- | --- |";
  return `### \`${name["value"]}\`, ${declared} bytes\n\n${head}\n${lines.join("\n")}\n`;
}

/** One field, a text constant for instance, may have a size that only the code knows: the rest. */
function readFields(
  file: SourceFile,
  properties: readonly SyntaxNode[],
  declared: number,
): readonly FieldRow[] {
  const fields = properties.map((property) => {
    const type = sliceText(file, property["value"] as SyntaxNode);
    const name = sliceText(file, property["key"] as SyntaxNode);
    return { name, type, sizeBytes: sizeOf(file, type) };
  });
  const known = fields.reduce((sum, field) => sum + (field.sizeBytes ?? 0), 0);
  const unknown = fields.filter((field) => field.sizeBytes === undefined);
  if (unknown.length > 1) {
    throw new Error(`${file.path}: cannot tell the sizes of ${unknown.map(({ type }) => type)}`);
  }
  return fields.map((field) => ({ ...field, sizeBytes: field.sizeBytes ?? declared - known }));
}

/** Sizes of what shared/bytes/layout.ts offers; undefined for anything else. */
function sizeOf(file: SourceFile, type: string): number | undefined {
  const integer = /^u(8|16|32|64)n?(be)?$/.exec(type);
  if (integer !== null) return Number(integer[1]) / 8;
  const run = /^(?:bytes|zeros|ignored)\((\w+)\)$/.exec(type);
  if (run !== null) return evaluateSize(file, run[1]!);
  const constant = /^constant\((\w+),/.exec(type);
  return constant === null ? undefined : sizeOf(file, constant[1]!);
}

/** A number, or a constant of the same file. */
function evaluateSize(file: SourceFile, text: string): number {
  const found = new RegExp(`const ${text} = (\\d+)`).exec(file.text)?.[1];
  const size = Number(/^\d+$/.test(text) ? text : found);
  if (!Number.isInteger(size)) throw new Error(`${file.path}: cannot tell the value of ${text}`);
  return size;
}

function sliceText(file: SourceFile, { start, end }: SyntaxNode): string {
  return file.text.slice(start, end).replaceAll(/\s+/g, " ");
}
