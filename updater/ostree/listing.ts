// One line for each entry of a commit's tree, as `ostree ls` prints it: type and permissions, owner, size, then with
// the options checksums and attributes, then the path.

import { printGVariant } from "../../shared/format/gvariant/print.ts";
import type { FileHeader } from "../../shared/format/ostree/file-header.ts";
import { xattrsToVariant } from "../../shared/format/ostree/metadata.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";
import { openContent } from "../../shared/ostree/content.ts";
import { readDirmeta } from "../../shared/ostree/objects.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";
import {
  type DirectoryRef,
  type TreeEntry,
  type WalkedEntry,
  walkDirectory,
  walkOnce,
} from "../../shared/ostree/tree.ts";

export interface ListingOptions {
  /** "one": of a directory also what is directly in it. */
  readonly depth: "none" | "one" | "all";
  readonly checksums: boolean;
  readonly xattrs: boolean;
}

/** Lines for the entry at `path`, and for what is in it. */
export function* listEntries(
  repo: OstreeRepository,
  path: string,
  entry: TreeEntry,
  options: ListingOptions,
): Generator<string> {
  for (const each of walk(repo, path, entry, options)) {
    yield formatEntry(repo, each, options);
  }
}

function walk(
  repo: OstreeRepository,
  path: string,
  entry: TreeEntry,
  { depth }: ListingOptions,
): Iterable<WalkedEntry> {
  if (entry.kind === "file" || depth === "none") return [{ path: path === "" ? "/" : path, entry }];
  return depth === "all" ? walkDirectory(repo, path, entry) : walkOnce(repo, path, entry);
}

function formatEntry(
  repo: OstreeRepository,
  { path, entry }: WalkedEntry,
  options: ListingOptions,
): string {
  if (entry.kind === "directory") return formatDirectory(repo, path, entry, options);
  using content = openContent(repo, entry.checksum);
  const { header, sizeBytes } = content;
  const arrow = header.target === null ? "" : ` -> ${fromByteString(header.target)}`;
  const type = header.target === null ? "-" : "l";
  const line = formatColumns(type, header, sizeBytes, [entry.checksum], options);
  return `${line}${path}${arrow}`;
}

function formatDirectory(
  repo: OstreeRepository,
  path: string,
  { tree, meta }: DirectoryRef,
  options: ListingOptions,
): string {
  return `${formatColumns("d", readDirmeta(repo, meta), 0, [tree, meta], options)}${path}`;
}

function formatColumns(
  type: string,
  { mode, uid, gid, xattrs }: Omit<FileHeader, "target">,
  sizeBytes: number,
  checksums: readonly string[],
  options: ListingOptions,
): string {
  const permissions = (mode & 0o7777).toString(8).padStart(5, "0");
  const columns = [`${type}${permissions} ${uid} ${gid} ${String(sizeBytes).padStart(6)}`];
  if (options.checksums) columns.push(...checksums);
  if (options.xattrs) columns.push(`{ ${printGVariant("a(ayay)", xattrsToVariant(xattrs))} }`);
  return `${columns.join(" ")} `;
}
