// `bootc internals ostree`: looking into ostree repositories and systems, without ostree. Everything but
// `init` and `commit` changes nothing. Output is laid out as that of the ostree command where it has the same.

import { Command } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";
import { openContent } from "../../shared/ostree/content.ts";
import { hasLoose, readCommit, readDetached } from "../../shared/ostree/objects.ts";
import { listRefs, readSummary, resolveRevision } from "../../shared/ostree/refs.ts";
import { type OstreeRepository, openOstreeRepository } from "../../shared/ostree/repository.ts";
import { findEntry } from "../../shared/ostree/tree.ts";
import { commitToJson, describeCommit, summaryToJson } from "../ostree/commit-text.ts";
import { diffTrees } from "../ostree/diff.ts";
import { listEntries } from "../ostree/listing.ts";
import { makeStatusCommand, makeVerifyCommand } from "./ostree-check.ts";
import { makeCommitCommand, makeImageCommand, makeInitCommand } from "./ostree-write.ts";
import { writeOut } from "./standard-stream.ts";
import type { Terminal } from "./terminal.ts";

const REVISION = "checksum or ref of a commit; with ^ behind it, its parent";

/** Opens the repository that the command line names. */
export type OpenRepository = () => OstreeRepository;

export function makeOstreeCommand(output: Terminal) {
  const terminal = output.isInteractive ? showControls(output) : output;
  const ostree = new Command("ostree")
    .description("Look into ostree repositories and systems")
    .option("--repo <directory>", "the repository; the default is the system's")
    .option("--sysroot <directory>", "root of the ostree system", "/");
  const sysrootOf = () => ostree.opts().sysroot.replace(/\/+$/, "");
  const pathOf = () => ostree.opts().repo ?? `${sysrootOf()}/ostree/repo`;
  const open = () => openOstreeRepository(pathOf());
  return ostree
    .addCommand(makeStatusCommand(terminal, sysrootOf))
    .addCommand(makeRefsCommand(terminal, open))
    .addCommand(makeSummaryCommand(terminal, open))
    .addCommand(makeLogCommand(terminal, open))
    .addCommand(makeShowCommand(terminal, open))
    .addCommand(makeLsCommand(terminal, open))
    .addCommand(makeCatCommand(open))
    .addCommand(makeDiffCommand(terminal, open))
    .addCommand(makeVerifyCommand(terminal, open))
    .addCommand(makeImageCommand(terminal, open))
    .addCommand(makeInitCommand(pathOf))
    .addCommand(makeCommitCommand(terminal, open));
}

/** What a commit says must not steer the terminal it is shown on. */
function showControls(output: Terminal): Terminal {
  const spell = (character: string) =>
    `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  const line = (text: string) =>
    output.line(text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, spell));
  return { ...output, line };
}

function makeRefsCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("refs")
    .description("List refs and the commits they stand for")
    .option("--json", "as a JSON array")
    .action(({ json }) => {
      using repo = open();
      const refs = listRefs(repo);
      if (json === true) {
        const plain = refs.map(({ name, kind, checksum, alias }) => ({
          name,
          kind,
          checksum,
          alias,
        }));
        terminal.line(JSON.stringify(plain));
        return;
      }
      for (const { name, checksum, alias } of refs) {
        const arrow = alias === null ? "" : ` -> ${alias}`;
        terminal.line(`${checksum ?? "(malformed)"} ${name}${arrow}`);
      }
    });
}

function makeSummaryCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("summary")
    .description("List what the repository offers to those who fetch from it")
    .option("--json", "as JSON, with all metadata")
    .action(({ json }) => {
      using repo = open();
      const summary = readSummary(repo);
      if (summary === null) throw new StateError("missing", `"${repo.path}" has no summary`);
      if (json === true) terminal.line(JSON.stringify(summaryToJson(summary)));
      else for (const { ref, checksum } of summary.refs) terminal.line(`${checksum} ${ref}`);
    });
}

function makeLogCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("log")
    .description("Show a commit and those before it, as far as they are here")
    .argument("<commit>", REVISION)
    .option("--json", "as a JSON array")
    .action((revision, { json }) => {
      using repo = open();
      const entries = [];
      let next: string | null = resolveRevision(repo, revision);
      // A parent's checksum is part of its child, so there is no way round in a circle.
      while (next !== null) {
        const checksum: string = next;
        const commit = readCommit(repo, checksum);
        const detached = readDetached(repo, checksum);
        if (json === true) entries.push(commitToJson(checksum, commit, detached));
        else for (const line of describeCommit(checksum, commit, detached)) terminal.line(line);
        const { parent } = commit;
        next = parent !== null && hasLoose(repo, parent, "commit") ? parent : null;
      }
      if (json === true) terminal.line(JSON.stringify(entries));
    });
}

function makeShowCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("show")
    .description("Show a commit: message, checksums, metadata, signatures")
    .argument("<commit>", REVISION)
    .option("--json", "as JSON, with all metadata")
    .action((revision, { json }) => {
      using repo = open();
      const checksum = resolveRevision(repo, revision);
      const commit = readCommit(repo, checksum);
      const detached = readDetached(repo, checksum);
      if (json === true) terminal.line(JSON.stringify(commitToJson(checksum, commit, detached)));
      else for (const line of describeCommit(checksum, commit, detached)) terminal.line(line);
    });
}

function makeLsCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("ls")
    .description("List files of a commit")
    .argument("<commit>", REVISION)
    .argument("[paths...]", 'in the commit; the default is "/"')
    .option("-R, --recursive", "with everything below")
    .option("-d, --dironly", "directories themselves, not what is in them")
    .option("-C, --checksum", "with checksums")
    .option("-X, --xattrs", "with extended attributes")
    .action((revision, paths, { recursive, dironly, checksum, xattrs }) => {
      if (recursive === true && dironly === true) {
        throw new UsageError("conflict", '"--recursive" and "--dironly" exclude each other');
      }
      const depth = recursive === true ? "all" : dironly === true ? "none" : "one";
      using repo = open();
      const root = readCommit(repo, resolveRevision(repo, revision));
      const options = { depth, checksums: checksum === true, xattrs: xattrs === true } as const;
      for (const path of paths.length === 0 ? ["/"] : paths) {
        const shown = path.replaceAll(/\/+/g, "/").replace(/^\/?(.*?)\/?$/, "/$1");
        const entry = findEntry(repo, root, path);
        for (const line of listEntries(repo, shown === "/" ? "" : shown, entry, options)) {
          terminal.line(line);
        }
      }
    });
}

function makeCatCommand(open: OpenRepository) {
  return new Command("cat")
    .description("Print files of a commit")
    .argument("<commit>", REVISION)
    .argument("<paths...>", "in the commit")
    .action(async (revision, paths) => {
      using repo = open();
      const root = readCommit(repo, resolveRevision(repo, revision));
      for (const path of paths) await printFile(repo, root, path);
    });
}

async function printFile(
  repo: OstreeRepository,
  root: { readonly tree: string; readonly meta: string },
  path: string,
): Promise<void> {
  const entry = findEntry(repo, root, path);
  if (entry.kind === "directory") throw new StateError("conflict", `"${path}" is a directory`);
  using content = openContent(repo, entry.checksum);
  const { target } = content.header;
  if (target !== null) {
    throw new StateError("conflict", `"${path}" is a symlink to "${fromByteString(target)}"`);
  }
  for await (const chunk of content.chunks()) writeOut(chunk);
}

function makeDiffCommand(terminal: Terminal, open: OpenRepository) {
  return new Command("diff")
    .description("List what changed between two commits")
    .argument("<before>", REVISION)
    .argument("[after]", "the same; with one commit only, its parent comes before it")
    .option("--json", "as JSON")
    .action((first, second, { json }) => {
      using repo = open();
      const before = resolveRevision(repo, second === undefined ? `${first}^` : first);
      const after = resolveRevision(repo, second ?? first);
      const trees = [before, after].map((checksum) => readCommit(repo, checksum).tree);
      const difference = diffTrees(repo, trees[0]!, trees[1]!);
      if (json === true) {
        terminal.line(JSON.stringify(difference));
        return;
      }
      for (const path of difference.modified) terminal.line(`M    ${path}`);
      for (const path of difference.removed) terminal.line(`D    ${path}`);
      for (const path of difference.added) terminal.line(`A    ${path}`);
    });
}
