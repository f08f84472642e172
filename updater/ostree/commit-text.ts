// A commit for people, laid out as `ostree show` does; commits and summaries for programs, as JSON.

import type { Dictionary } from "../../shared/format/gvariant/dictionary.ts";
import { lookupString } from "../../shared/format/gvariant/dictionary.ts";
import { printGVariant } from "../../shared/format/gvariant/print.ts";
import {
  COMMIT_KEY,
  type Commit,
  computeContentChecksum,
} from "../../shared/format/ostree/commit.ts";
import type { Summary } from "../../shared/format/ostree/summary.ts";

/** Detached metadata whose values are lists of signatures. */
const SIGNATURE_KEYS = new Map([
  ["ostree.sign.ed25519", "ed25519"],
  ["ostree.sign.spki", "spki"],
  ["ostree.sign.dummy", "dummy"],
  ["ostree.gpgsigs", "gpg"],
]);

/** Lines; the last one is empty, as commits follow each other in a log. */
export function describeCommit(
  checksum: string,
  commit: Commit,
  detached: Dictionary | null,
): string[] {
  const version = lookupString(commit.metadata, COMMIT_KEY.version);
  const message = (text: string) => text.split("\n").map((line) => `    ${line}`);
  return [
    `commit ${checksum}`,
    ...(commit.parent === null ? [] : [`Parent:  ${commit.parent}`]),
    `ContentChecksum:  ${computeContentChecksum(commit)}`,
    `Date:  ${formatDate(commit.timestampSec)}`,
    ...(version === null ? [] : [`Version: ${version}`]),
    ...listSignatures(detached).map(({ type, count }) => `Signatures: ${count} (${type})`),
    ...(commit.subject === "" ? ["(no subject)"] : ["", ...message(commit.subject)]),
    ...(commit.body === "" ? [] : ["", ...message(commit.body)]),
    "",
  ];
}

/** A plain object for JSON; values of metadata are in GVariant's text form. */
export function commitToJson(checksum: string, commit: Commit, detached: Dictionary | null) {
  return {
    checksum,
    parent: commit.parent,
    contentChecksum: computeContentChecksum(commit),
    timestampSec: commit.timestampSec,
    subject: commit.subject,
    body: commit.body,
    version: lookupString(commit.metadata, COMMIT_KEY.version),
    rootTree: commit.tree,
    rootMetadata: commit.meta,
    metadata: dictionaryToJson(commit.metadata),
    detachedMetadata: detached === null ? null : dictionaryToJson(detached),
    signatures: listSignatures(detached),
  };
}

export function summaryToJson({ refs, metadata }: Summary) {
  return {
    refs: refs.map(({ metadata: ofRef, ...fields }) => ({
      ...fields,
      metadata: dictionaryToJson(ofRef),
    })),
    metadata: dictionaryToJson(metadata),
  };
}

function dictionaryToJson(dictionary: Dictionary): Record<string, string> {
  return Object.fromEntries(
    dictionary.map(([key, { type, value }]) => [key, printGVariant(type, value)]),
  );
}

function listSignatures(detached: Dictionary | null) {
  return (detached ?? []).flatMap(([key, { type, value }]) => {
    const kind = SIGNATURE_KEYS.get(key);
    if (kind === undefined || type !== "aay") return [];
    return [{ type: kind, count: (value as readonly unknown[]).length }];
  });
}

/** "2023-11-14 22:13:20 +0000" */
function formatDate(timestampSec: number): string {
  const date = new Date(timestampSec * 1000);
  if (Number.isNaN(date.getTime())) return `${timestampSec} seconds after 1970`;
  return `${date.toISOString().slice(0, 19).replace("T", " ")} +0000`;
}
