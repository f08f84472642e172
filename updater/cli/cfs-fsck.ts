// `cfs fsck` and `cfs oci fsck`: the checks of `internals fsck`, reported in cfsctl's words. As there, --json
// exits with 0 whatever was found. `cfs fsck --repair` is `internals fsck --repair`.

import { Command } from "@commander-js/extra-typings";
import { FormatError, StateError } from "../../shared/error.ts";
import type { Finding } from "../../shared/store/finding.ts";
import {
  checkRepository,
  metadataFinding,
  type RepositoryReport,
} from "../../shared/store/fsck.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { listTaggedManifests } from "../deploy/image-tag.ts";
import { tagRefName } from "../image/boot-image.ts";
import { checkImages, type ImageReport } from "../image/image-check.ts";
import { configStreamName, layerStreamName, manifestStreamName } from "../image/image-streams.ts";
import { readConfigOf, readNamedManifest } from "../image/named-image.ts";
import { type OptionsOf, openChosenRepository, repositoryPath } from "./cfs-repository.ts";
import { addRepairOptions, checkDirectory, makeFsckOptions } from "./fsck.ts";
import type { Terminal } from "./terminal.ts";

/** Findings about something that is not there, in cfsctl's count. */
const MISSING = ["missing-object-ref", "missing-named-ref", "image-missing-object"];

interface OciSummary {
  readonly ok: boolean;
  readonly images_checked: number;
  readonly images_corrupted: number;
  readonly errors: readonly string[];
}

export function makeFsckCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return addRepairOptions(new Command("fsck"))
    .description("Check the repository; with --repair also the images in it")
    .option("--json", "print the findings as JSON and exit with 0")
    .option("--metadata-only", "leave out the contents of files")
    .action(async ({ json, ...rest }) => {
      const format = json === true ? "json" : "humanreadable";
      const fsck = makeFsckOptions({ ...rest, format });
      const options = optionsOf();
      if (fsck.repair) {
        await checkDirectory(terminal, repositoryPath(options), fsck);
        return;
      }
      using opened = openOrReport(() => openChosenRepository(options));
      const report = opened.repo === null ? opened.report : checkRepository(opened.repo, fsck);
      const summary = summarize(report);
      if (json === true) terminal.line(JSON.stringify(summary, null, 2));
      else finish(terminal, formatSummary(summary, report), summary.ok, "repository");
    });
}

export function makeOciFsckCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("fsck")
    .description("Check the repository and the OCI images in it")
    .argument("[image]", "tag of the only image to check")
    .option("--json", "print the findings as JSON and exit with 0")
    .action(async (image, { json }) => {
      using repo = openChosenRepository(optionsOf());
      const tags = listTaggedManifests(repo).filter(
        ({ tag }) => image === undefined || tag === image,
      );
      if (image !== undefined && tags.length === 0) {
        throw new StateError("missing", `"${repo.path}" has no image "${image}"; see "oci images"`);
      }
      const options = { metadataOnly: false };
      const report = checkRepository(repo, options);
      const below = summarize(report);
      const images = summarizeImages(repo, tags, await checkImages(repo, options), image ?? null);
      const ok = images.ok && below.ok;
      if (json === true) terminal.line(JSON.stringify({ ...images, ok, repo: below }, null, 2));
      else {
        const { images_checked, images_corrupted } = images;
        const line = `oci images: ${images_checked - images_corrupted}/${images_checked} ok`;
        const errors = images.errors.map((error) => `  - ${error}`);
        finish(terminal, [...formatSummary(below, report), line, ...errors], ok, "OCI");
      }
    });
}

function finish(terminal: Terminal, lines: readonly string[], ok: boolean, what: string): void {
  for (const line of lines) terminal.line(line);
  if (!ok) throw new StateError("conflict", `${what} integrity check failed`);
}

type Opened = Disposable &
  ({ readonly repo: Repository } | { readonly repo: null; readonly report: RepositoryReport });

/** A meta.json that cannot be read is a finding like others. */
function openOrReport(open: () => Repository): Opened {
  try {
    const repo = open();
    return { repo, [Symbol.dispose]: () => repo[Symbol.dispose]() };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const checked = { objects: 0, streams: 0, images: 0, refs: 0 };
    const report = { findings: [metadataFinding(error)], checked };
    return { repo: null, report, [Symbol.dispose]: () => {} };
  }
}

function summarize({ findings, checked }: RepositoryReport) {
  const corrupted = (prefix: string) =>
    new Set(
      findings
        .filter(({ path }) => path.startsWith(prefix) && !path.startsWith(`${prefix}refs/`))
        .map(({ path }) => path),
    ).size;
  return {
    ok: findings.length === 0,
    has_metadata: true,
    objects_checked: checked.objects,
    objects_corrupted: corrupted("objects/"),
    streams_checked: checked.streams,
    streams_corrupted: corrupted("streams/"),
    images_checked: checked.images,
    images_corrupted: corrupted("images/"),
    broken_links: findings.filter(({ kind }) => kind === "broken-symlink").length,
    missing_objects: findings.filter(({ kind }) => MISSING.includes(kind)).length,
    errors: findings.map(describeFinding),
  };
}

function describeFinding({ kind, path, problem, advice }: Finding): string {
  return `fsck: ${kind}: ${path}: ${problem}; ${advice}`;
}

function formatSummary(
  summary: ReturnType<typeof summarize>,
  { findings }: RepositoryReport,
): readonly string[] {
  const { errors, broken_links: broken, missing_objects: missing } = summary;
  const isMetadata = findings.some(({ kind }) => kind.startsWith("metadata-"));
  const part = (what: string, checked: number, corrupted: number) =>
    `${what}: ${Math.max(0, checked - corrupted)}/${checked} ok`;
  return [
    `meta.json: ${isMetadata ? "error" : "ok"}`,
    part("objects", summary.objects_checked, summary.objects_corrupted),
    part("streams", summary.streams_checked, summary.streams_corrupted),
    part("images", summary.images_checked, summary.images_corrupted),
    ...(broken > 0 ? [`broken symlinks: ${broken}`] : []),
    ...(missing > 0 ? [`missing objects: ${missing}`] : []),
    `status: ${errors.length === 0 ? "ok" : `${errors.length} error(s)`}`,
    ...errors.map((error) => `  - ${error}`),
  ];
}

type Tag = { readonly tag: string; readonly manifestDigest: string };

/** With `only` the findings are those about that image. */
function summarizeImages(
  repo: Repository,
  tags: readonly Tag[],
  { findings }: ImageReport,
  only: string | null,
): OciSummary {
  const parts = tags.map((tag) => partsOf(repo, tag));
  const shown =
    only === null ? findings : findings.filter(({ path }) => parts.some((set) => set.has(path)));
  const corrupted = parts.filter((set) => findings.some(({ path }) => set.has(path)));
  return {
    ok: shown.length === 0,
    images_checked: tags.length,
    images_corrupted: corrupted.length,
    errors: shown.map(describeFinding),
  };
}

/** Paths of everything a tag's image is made of, as far as that can be read. */
function partsOf(repo: Repository, { tag, manifestDigest }: Tag): ReadonlySet<string> {
  const parts = new Set([
    `streams/refs/${tagRefName(tag)}`,
    `streams/${manifestStreamName(manifestDigest)}`,
  ]);
  try {
    const manifest = readNamedManifest(repo, `@${manifestDigest}`);
    parts.add(`streams/${configStreamName(manifest.manifest.config.digest)}`);
    const { config } = readConfigOf(repo, manifest);
    for (const diffId of config.rootfs.diff_ids) parts.add(`streams/${layerStreamName(diffId)}`);
  } catch {
    // What is wrong is among the findings.
  }
  return parts;
}
