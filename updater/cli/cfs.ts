// `bootc internals cfs`: what composefs-rs' cfsctl does with a repository, under its names, as far as
// that is a call or two of what is here anyway (composefs-rs.md 7). Needs no booted system.

import { Argument, Command, Option } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import type { GarbageReport } from "../../shared/store/gc.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { listNames } from "../../shared/store/links.ts";
import { setRef } from "../../shared/store/refs.ts";
import {
  ensureRepository,
  openRepository,
  type Repository,
} from "../../shared/store/repository.ts";
import { listTaggedManifests } from "../deploy/image-tag.ts";
import { computeImageId, makeBootImage, tagRefName } from "../image/boot-image.ts";
import { manifestStreamName } from "../image/image-streams.ts";
import { pullImage } from "../image/pull.ts";
import { parseTransportReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { readStoredImage } from "../image/stored-image.ts";
import { checkDirectory } from "./fsck.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

const ALGORITHMS = ["fsverity-sha256-12", "fsverity-sha512-12"] as const;
/** `name` or `@sha256:…`, the digest of a manifest. */
const IMAGE = "tag, or @ and the digest of a manifest";

type PathOf = () => string;

export function makeCfsCommand(terminal: Terminal) {
  const cfs = new Command("cfs")
    .description("Work on a composefs repository as cfsctl does")
    .requiredOption("--repo <directory>", "the repository");
  const pathOf = () => cfs.opts().repo;
  cfs
    .addCommand(makeInitCommand(terminal, pathOf))
    .addCommand(makeImagesCommand(terminal, pathOf))
    .addCommand(makeGcCommand(terminal, pathOf))
    .addCommand(makeFsckCommand(terminal, pathOf))
    .addCommand(makeOciCommand(terminal, pathOf))
    .addCommand(makeImageCommand(terminal, pathOf));
  return cfs;
}

/** What a collection did, in lines. */
export function formatGarbage(report: GarbageReport, dryRun: boolean): string[] {
  const { objectsRemoved, objectsBytes, imagesPruned, streamsPruned } = report;
  return [
    ...(dryRun ? ["Dry run (no files deleted)"] : []),
    `Objects: ${objectsRemoved} removed (${objectsBytes} bytes)`,
    ...(imagesPruned + streamsPruned > 0
      ? [`Pruned symlinks: ${imagesPruned} images, ${streamsPruned} streams`]
      : []),
  ];
}

function makeInitCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("init")
    .description("Create the repository unless it is there already")
    .addOption(
      new Option("--algorithm <name>", "of new objects")
        .choices(ALGORITHMS)
        .default("fsverity-sha512-12" as const),
    )
    .option("--insecure", "do without fs-verity")
    .action(({ algorithm, insecure }) => {
      using repo = ensureRepository(null, pathOf(), {
        algorithm: algorithm === "fsverity-sha256-12" ? "sha256" : "sha512",
        secure: insecure !== true,
      });
      const kind = repo.secure ? "secure" : "insecure";
      terminal.line(`Repository ${repo.path}: ${repo.algorithm}, ${kind}`);
    });
}

function makeImagesCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("images")
    .description("List the ids of the EROFS images")
    .option("--json", "as a JSON array")
    .action(({ json }) => {
      using repo = openRepository(null, pathOf());
      const ids = listNames(repo, "images");
      if (json === true) terminal.line(JSON.stringify(ids));
      else for (const id of ids) terminal.line(id);
    });
}

function makeGcCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("gc")
    .description("Remove everything that no reference leads to")
    .option("-r, --root <name...>", "images and streams to keep besides")
    .option("-n, --dry-run", "only say what would be removed")
    .action(({ root, dryRun }) => {
      using repo = openRepository(null, pathOf());
      const options = { roots: root ?? [], dryRun: dryRun === true };
      const report = collectGarbage(repo, options);
      for (const line of formatGarbage(report, options.dryRun)) terminal.line(line);
    });
}

function makeFsckCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("fsck")
    .description("Check the repository and the images in it")
    .option("--json", "print the findings as JSON")
    .option("--metadata-only", "leave out the contents of files")
    .action(({ json, metadataOnly }) =>
      checkDirectory(terminal, pathOf(), {
        metadataOnly: metadataOnly === true,
        format: json === true ? "json" : "humanreadable",
      }),
    );
}

function makeOciCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("oci")
    .description("Work on OCI images")
    .addCommand(makePullCommand(terminal, pathOf))
    .addCommand(makeTagsCommand(terminal, pathOf))
    .addCommand(makeTagCommand(pathOf));
}

function makePullCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("pull")
    .description("Fetch an image and tag it")
    .argument("<image>", 'e.g. "oci:/path"')
    .argument("[name]", "of the tag; the default is the image's")
    .option("--bootable", "also make the EROFS images, the plain and the bootable one")
    .action(async (image, name, { bootable }) => {
      const source = openSource(parseTransportReference(image));
      const tag = checkTag(name ?? image);
      using repo = openRepository(null, pathOf());
      using interruption = watchInterruption();
      const pulled = await pullImage(repo, source, { signal: interruption.signal });
      const { manifestDigest, configDigest } = pulled;
      setRef(repo, "streams", tagRefName(tag), manifestStreamName(manifestDigest));
      terminal.line(`manifest ${manifestDigest}`);
      terminal.line(`config   ${configDigest}`);
      terminal.line(`tagged   ${tag}`);
      if (bootable !== true) return;
      terminal.line(`Boot image: ${(await makeBootImage(repo, pulled)).deploymentId}`);
    });
}

function makeTagsCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("images")
    .description("List tags and the manifests they stand for")
    .option("--json", "as a JSON array")
    .action(({ json }) => {
      using repo = openRepository(null, pathOf());
      const images = listTaggedManifests(repo).map(({ tag, manifestDigest }) => ({
        name: tag,
        manifest_digest: manifestDigest,
      }));
      if (json === true) terminal.line(JSON.stringify(images));
      else for (const each of images) terminal.line(`${each.manifest_digest} ${each.name}`);
    });
}

function makeTagCommand(pathOf: PathOf) {
  return new Command("tag")
    .description("Give a stored image a name")
    .argument("<digest>", "of its manifest")
    .argument("<name>")
    .action((digest, name) => {
      using repo = openRepository(null, pathOf());
      setRef(repo, "streams", tagRefName(checkTag(name)), manifestStreamName(digest));
    });
}

function makeImageCommand(terminal: Terminal, pathOf: PathOf) {
  return new Command("image").description("Work on the image of a tag").addCommand(
    new Command("id")
      .description("Compute the id of the EROFS image")
      .addArgument(new Argument("<image>", IMAGE))
      .option("--bootable", "of the one that boots, which is the deployment's id")
      .action(async (image, { bootable }) => {
        using repo = openRepository(null, pathOf());
        const { config } = readStoredImage(repo, findManifest(repo, image));
        const options = { bootable: bootable === true };
        terminal.line(await computeImageId(repo, config.rootfs.diff_ids, options));
      }),
  );
}

function findManifest(repo: Repository, image: string): string {
  if (image.startsWith("@")) return image.slice(1);
  const found = listTaggedManifests(repo).find(({ tag }) => tag === image);
  if (found !== undefined) return found.manifestDigest;
  throw new StateError("missing", `"${repo.path}" has no image "${image}"; see "oci images"`);
}

function checkTag(name: string): string {
  if (name !== "" && !name.startsWith("@")) return name;
  throw new UsageError("bad-value", `"${name}" cannot be the name of a tag`);
}
