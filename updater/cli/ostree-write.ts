// `bootc internals ostree init`, `commit` and `image`: what makes something. Repositories are written in bare mode only,
// which is that of systems.

import { Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { fromHex } from "../../shared/bytes/hex.ts";
import { StateError, SyscallError, UsageError } from "../../shared/error.ts";
import type { Dictionary } from "../../shared/format/gvariant/dictionary.ts";
import { COMMIT_KEY, encodeCommit } from "../../shared/format/ostree/commit.ts";
import { isRefName } from "../../shared/format/ostree/ref.ts";
import { addDirectory } from "../../shared/ostree/commit-directory.ts";
import { makeOstreeImage } from "../../shared/ostree/image.ts";
import { readCommit } from "../../shared/ostree/objects.ts";
import { requireRefPlace, resolveRevision, writeRef } from "../../shared/ostree/refs.ts";
import { createOstreeRepository, type OstreeRepository } from "../../shared/ostree/repository.ts";
import { addMetadata, beginTransaction, publishObjects } from "../../shared/ostree/transaction.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import type { Terminal } from "./terminal.ts";

export function makeInitCommand(pathOf: () => string) {
  return new Command("init")
    .description("Create an empty bare repository")
    .action(() => createOstreeRepository(pathOf()));
}

export function makeImageCommand(terminal: Terminal, open: () => OstreeRepository) {
  return new Command("image")
    .description("Make the composefs image of a commit, and print its fs-verity digest")
    .argument("<commit>", "checksum or ref")
    .argument("[file]", "where to write it")
    .option("--no-verity", "without digests of files, as deployments without fs-verity have it")
    .action(async (revision, file, { verity }) => {
      using repo = open();
      const root = readCommit(repo, resolveRevision(repo, revision));
      const { bytes, digest } = await makeOstreeImage(repo, root, { verity });
      if (file !== undefined) {
        explain(`Cannot write the image to "${file}"`, () =>
          writeFileAtomic(null, file, bytes, { mode: 0o644 }),
        );
      }
      terminal.line(digest);
    });
}

export function makeCommitCommand(terminal: Terminal, open: () => OstreeRepository) {
  return new Command("commit")
    .description("Commit a directory, and print the commit's checksum")
    .requiredOption("-b, --branch <ref>", "ref that stands for the commit afterwards")
    .requiredOption("--tree <directory>", "what to commit")
    .option("-s, --subject <text>", "one line", "")
    .option("-m, --body <text>", "more", "")
    .option("--parent <commit>", "checksum or ref of the commit before")
    .option("--timestamp <seconds>", "time of the commit, since 1970", parseSeconds)
    .option("--add-metadata-string <key=value>", "metadata; may be repeated", collect, [])
    .option("--composefs", "with the digest of the composefs image, which signed boots need")
    .action(async (options) => {
      const { branch, parent, subject, body } = options;
      if (!isRefName(branch)) throw new UsageError("bad-value", `"${branch}" cannot be a ref`);
      using repo = open();
      requireRefPlace(repo, branch);
      const before = parent === undefined ? null : resolveRevision(repo, parent);
      using transaction = beginTransaction(repo);
      const root = explain(`Cannot commit "${options.tree}"`, () =>
        addDirectory(transaction, options.tree),
      );
      publishObjects(transaction);
      const digest =
        options.composefs === true
          ? (await makeOstreeImage(repo, root, { verity: true })).digest
          : null;
      const commit = encodeCommit({
        metadata: makeMetadata(options.addMetadataString, branch, digest),
        parent: before,
        related: [],
        subject,
        body,
        timestampSec: options.timestamp ?? Math.floor(Date.now() / 1000),
        ...root,
      });
      const checksum = addMetadata(transaction, "commit", commit);
      publishObjects(transaction);
      writeRef(repo, branch, checksum);
      terminal.line(checksum);
    });
}

/** Says what was tried when a system call fails. */
function explain<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new StateError("command-failed", what, {}, { cause });
  }
}

function makeMetadata(
  strings: readonly (readonly [string, string])[],
  branch: string,
  digest: string | null,
): Dictionary {
  const entries: (Dictionary[number] | null)[] = [
    ...strings.map(([key, value]) => [key, { type: "s", value }] as const),
    [COMMIT_KEY.refBinding, { type: "as", value: [branch] }],
    digest === null ? null : [COMMIT_KEY.composefsDigest, { type: "ay", value: fromHex(digest) }],
  ];
  return entries.filter((entry) => entry !== null);
}

function parseSeconds(text: string): number {
  if (!/^@?[0-9]{1,12}$/.test(text)) throw new InvalidArgumentError("expected seconds since 1970");
  return Number(text.replace("@", ""));
}

function collect(text: string, previous: readonly (readonly [string, string])[]) {
  const equals = text.indexOf("=");
  if (equals <= 0) throw new InvalidArgumentError('expected "key=value"');
  return [...previous, [text.slice(0, equals), text.slice(equals + 1)] as const];
}
