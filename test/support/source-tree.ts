// The project's own source as data: files, imports and functions, read with a real parser.
//
// Used by test/tidy.test.ts and by scripts/docs.ts. "Files of the project" are what git tracks or
// would track, so caches and build results never count.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize, resolve } from "node:path";
import { parseAst } from "vitest/node";

export const ROOT = resolve(import.meta.dirname, "../..");

/** A node of the syntax tree: ESTree with TypeScript's additions. */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [property: string]: unknown;
}

export interface SourceFile {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
  readonly program: SyntaxNode;
}

export interface Import {
  readonly from: string;
  readonly specifier: string;
  /** The imported file relative to the root; null for a package or a module of the runtime. */
  readonly target: string | null;
}

export interface FunctionInfo {
  readonly path: string;
  readonly name: string;
  readonly lines: number;
}

/** Paths relative to the root, sorted; files that were deleted but not yet committed are left out. */
export function listProjectFiles(): readonly string[] {
  const args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const names = execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).split("\0");
  return names.filter((name) => name !== "" && existsSync(join(ROOT, name))).sort();
}

export function readSource(path: string): SourceFile {
  const text = readFileSync(join(ROOT, path), "utf8");
  const program = parseAst(text, { lang: "ts" }, path) as unknown as SyntaxNode;
  return { path, text, program };
}

/** Every node below and including `node`, parents first. */
function* walk(node: SyntaxNode): Generator<SyntaxNode> {
  yield node;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (isNode(child)) yield* walk(child);
    }
  }
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

/** Static, dynamic and type imports and re-exports, in the order of the source. */
export function listImports(file: SourceFile): readonly Import[] {
  const imports: Import[] = [];
  for (const node of walk(file.program)) {
    if (
      !/^(Import(Declaration|Expression)|Export(Named|All)Declaration|TSImportType)$/.test(
        node.type,
      )
    )
      continue;
    const source = (node["source"] ?? node["argument"]) as { value?: unknown } | null;
    if (typeof source?.value !== "string") continue;
    const specifier = source.value;
    const target = specifier.startsWith(".")
      ? normalize(join(dirname(file.path), specifier))
      : null;
    imports.push({ from: file.path, specifier, target });
  }
  return imports;
}

/** Functions with a body of their own; an anonymous one is named after its line. */
export function listFunctions(file: SourceFile): readonly FunctionInfo[] {
  const functions: FunctionInfo[] = [];
  for (const node of walk(file.program)) {
    const named = nameFunctions(node);
    for (const [name, body] of named) {
      functions.push({ path: file.path, name, lines: countLines(file.text, body) });
    }
  }
  return functions;
}

/** The functions that `node` itself names: declarations, methods and `const f = () => …`. */
function nameFunctions(node: SyntaxNode): readonly (readonly [string, SyntaxNode])[] {
  const nameOf = (value: unknown) => (value as { name?: string } | null)?.name ?? "(computed)";
  const isFunction = (value: unknown): value is SyntaxNode =>
    isNode(value) && /^(Arrow)?FunctionExpression$/.test(value.type);
  if (node.type === "FunctionDeclaration") return [[nameOf(node["id"]), node]];
  if (node.type === "VariableDeclarator" && isFunction(node["init"])) {
    return [[nameOf(node["id"]), node["init"]]];
  }
  if ((node.type === "MethodDefinition" || node.type === "Property") && isFunction(node["value"])) {
    return [[nameOf(node["key"]), node["value"]]];
  }
  return [];
}

/** Calls of the function `name`, in the order of the source. */
export function listCalls(file: SourceFile, name: string): readonly SyntaxNode[] {
  return [...walk(file.program)].filter(
    (node) =>
      node.type === "CallExpression" && (node["callee"] as { name?: string } | null)?.name === name,
  );
}

/** The text of the comment a file begins with; paragraphs are separated by an empty line. */
export function readHeaderComment(file: SourceFile): string {
  const lines = /^(?:\/\/.*\n)+/.exec(file.text)?.[0].trimEnd().split("\n") ?? [];
  return lines.map((line) => line.replace(/^\/\/ ?/, "")).join("\n");
}

function countLines(text: string, node: SyntaxNode): number {
  return text.slice(node.start, node.end).split("\n").length;
}

/** Uses of a global by name, e.g. "console" or "process.exit", with their lines. */
export function listUses(file: SourceFile, name: string): readonly string[] {
  const [object, property] = name.split(".");
  const uses: string[] = [];
  for (const node of walk(file.program)) {
    if (node.type !== "MemberExpression") continue;
    const base = node["object"] as { type: string; name?: string };
    const member = node["property"] as { name?: string; value?: unknown };
    if (base.type !== "Identifier" || base.name !== object) continue;
    if (property !== undefined && (member.name ?? member.value) !== property) continue;
    uses.push(`${file.path}:${file.text.slice(0, node.start).split("\n").length}`);
  }
  return uses;
}
