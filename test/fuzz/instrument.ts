// Puts counters into the project's own source, so that the fuzzer sees which branches an input took,
// how many steps it cost and how much memory was asked for by number.
//
// Works on the text with the positions of the syntax tree; types stay, esbuild takes them out. What
// is inserted calls three names that bundle.ts defines: `$c[i]++` counts a branch, `$s(i)` counts a
// function or a turn of a loop as a step (and stops what takes too many), `$n(size)` counts bytes.

import { parseAst } from "vitest/node";

interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [property: string]: unknown;
}

/** Where a counter is: "shared/format/erofs/reader.ts:83". */
export type Point = string;

interface Insertion {
  readonly at: number;
  readonly text: string;
  /** Of several at one place; equal ones stay in the order of the tree, parents first. */
  readonly order: number;
}

interface Instrumenting {
  readonly path: string;
  readonly lineStarts: readonly number[];
  readonly points: Point[];
  readonly insertions: Insertion[];
}

/** Behind everything that closes at the same place. */
const OPENING = 2;

/** The text with counters; their places are appended to `points`, whose index is the counter's. */
export function instrumentSource(path: string, text: string, points: Point[]): string {
  const program = parseAst(text, { lang: "ts" }, path) as unknown as SyntaxNode;
  const lineStarts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) {
    lineStarts.push(at + 1);
  }
  const work: Instrumenting = { path, lineStarts, points, insertions: [] };
  visit(work, program);
  work.insertions.sort((a, b) => a.at - b.at || a.order - b.order);
  let result = "";
  let from = 0;
  for (const { at, text: inserted } of work.insertions) {
    result += text.slice(from, at) + inserted;
    from = at;
  }
  return result + text.slice(from);
}

function visit(work: Instrumenting, node: SyntaxNode): void {
  instrumentNode(work, node);
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (isNode(child)) visit(work, child);
    }
  }
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

function instrumentNode(work: Instrumenting, node: SyntaxNode): void {
  const part = (name: string) => node[name] as SyntaxNode;
  switch (node.type) {
    case "FunctionDeclaration":
    case "FunctionExpression":
    case "ArrowFunctionExpression":
      instrumentFunction(work, node["body"] as SyntaxNode | null);
      break;
    case "ForStatement":
    case "ForInStatement":
    case "ForOfStatement":
    case "WhileStatement":
    case "DoWhileStatement":
      enterStatement(work, part("body"), "step");
      break;
    case "IfStatement":
      enterStatement(work, part("consequent"), "branch");
      if (isNode(node["alternate"])) enterStatement(work, part("alternate"), "branch");
      else addElse(work, part("consequent"));
      break;
    case "SwitchCase": {
      const [first] = node["consequent"] as readonly SyntaxNode[];
      if (first !== undefined) insert(work, first.start, `${count(work, first.start, "branch")};`);
      break;
    }
    case "CatchClause":
      enterStatement(work, part("body"), "branch");
      break;
    case "ConditionalExpression":
      enterExpression(work, part("consequent"), "branch");
      enterExpression(work, part("alternate"), "branch");
      break;
    case "LogicalExpression":
      enterExpression(work, part("right"), "branch");
      break;
    case "NewExpression":
    case "CallExpression":
      measureSize(work, node);
      break;
    default:
  }
}

function instrumentFunction(work: Instrumenting, body: SyntaxNode | null): void {
  if (body === null) return;
  if (body.type === "BlockStatement" || body.type === "FunctionBody") {
    enterStatement(work, body, "step");
  } else {
    enterExpression(work, body, "step");
  }
}

/** Counts the branch that is not written. */
function addElse(work: Instrumenting, consequent: SyntaxNode): void {
  const text = ` else ${count(work, consequent.end, "branch")};`;
  insert(work, consequent.end, text, closing(consequent) + 1);
}

type Kind = "branch" | "step";

function count(work: Instrumenting, at: number, kind: Kind): string {
  const id = work.points.length;
  work.points.push(`${work.path}:${lineOf(work, at)}`);
  return kind === "step" ? `$s(${id})` : `$c[${id}]++`;
}

function lineOf({ lineStarts }: Instrumenting, at: number): number {
  const next = lineStarts.findIndex((start) => start > at);
  return next === -1 ? lineStarts.length : next;
}

function enterStatement(work: Instrumenting, body: SyntaxNode, kind: Kind): void {
  const counter = count(work, body.start, kind);
  if (body.type === "BlockStatement" || body.type === "FunctionBody") {
    insert(work, body.start + 1, `${counter};`);
  } else {
    insert(work, body.start, `{${counter};`);
    insert(work, body.end, "}", closing(body));
  }
}

function enterExpression(work: Instrumenting, body: SyntaxNode, kind: Kind): void {
  insert(work, body.start, `(${count(work, body.start, kind)},`);
  insert(work, body.end, ")", closing(body));
}

const ALLOCATES = /^(?:Uint8|Int8|Uint16|Int16|Uint32|Int32|Float64|BigInt64|BigUint64)?Array$/;
const ALLOCATING_METHODS = ["alloc", "allocUnsafe", "from", "repeat", "padStart", "padEnd"];

/** Wraps the size, or what is copied, that a typed array, a buffer or a repeated text is made with. */
function measureSize(work: Instrumenting, node: SyntaxNode): void {
  const [size] = node["arguments"] as readonly SyntaxNode[];
  if (size === undefined || size.type === "SpreadElement") return;
  const callee = node["callee"] as SyntaxNode;
  const property = (callee["property"] as SyntaxNode | undefined)?.["name"];
  const isSized =
    node.type === "NewExpression"
      ? callee.type === "Identifier" && ALLOCATES.test(String(callee["name"]))
      : callee.type === "MemberExpression" && ALLOCATING_METHODS.includes(String(property));
  if (!isSized) return;
  insert(work, size.start, "$n(");
  insert(work, size.end, ")", closing(size));
}

/** What starts later is inside and closes first. */
function closing(node: SyntaxNode): number {
  return -2 * node.start;
}

function insert(work: Instrumenting, at: number, text: string, order = OPENING): void {
  work.insertions.push({ at, text, order });
}
