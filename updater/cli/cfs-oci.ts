// `cfs oci`: OCI images in a composefs repository, with cfsctl's verbs, options and output.

import { Command } from "@commander-js/extra-typings";
import { raceAbort } from "../../shared/abortable.ts";
import { FormatError, IntegrityError, StateError, UsageError } from "../../shared/error.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { byteStringToBytes } from "../../shared/format/tree/node.ts";
import { setRef } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { listTaggedManifests, listTags, removeTag } from "../deploy/image-tag.ts";
import {
  computeImageId,
  deploymentTag,
  makeBootImage,
  readRootTree,
  tagRefName,
} from "../image/boot-image.ts";
import { manifestStreamName } from "../image/image-streams.ts";
import { dropDownloads } from "../image/kept-downloads.ts";
import {
  checkDigest,
  linkedImage,
  listReferrers,
  readConfigOf,
  readNamedConfig,
  readNamedManifest,
} from "../image/named-image.ts";
import { makePlainImage } from "../image/plain-image.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import { pullResolvedImage } from "../image/pull.ts";
import { parseTransportReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { makeOciFsckCommand } from "./cfs-fsck.ts";
import { makeImportLayerCommand, makeLayerCommand } from "./cfs-layer.ts";
import { MOUNT_HELP, mountStoredImage } from "./cfs-mount.ts";
import { type OptionsOf, openChosenRepository } from "./cfs-repository.ts";
import { watchInterruption } from "./interruption.ts";
import { writeOut } from "./standard-stream.ts";
import type { Terminal } from "./terminal.ts";
import { formatTable } from "./text-table.ts";

const SHOWN_DIGITS = 12;
const IMAGE = "tag, or @ and the digest of a manifest";
const CONFIG = "tag, or @ and the digest of a config or manifest";
const BOOTABLE = "of the one that boots";

export function makeOciCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("oci")
    .description("Work on OCI images")
    .addCommand(makePullCommand(terminal, optionsOf))
    .addCommand(makeTagsCommand(terminal, optionsOf))
    .addCommand(makeInspectCommand(terminal, optionsOf))
    .addCommand(makeTagCommand(terminal, optionsOf))
    .addCommand(makeUntagCommand(terminal, optionsOf))
    .addCommand(makeComputeIdCommand(terminal, optionsOf))
    .addCommand(makeDumpCommand(optionsOf))
    .addCommand(makeMountCommand(optionsOf))
    .addCommand(makeLayerCommand(terminal, optionsOf))
    .addCommand(makeImportLayerCommand(terminal, optionsOf))
    .addCommand(makeOciFsckCommand(terminal, optionsOf));
}

function makePullCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("pull")
    .description("Fetch an image, make its EROFS image and tag it")
    .argument("<image>", 'e.g. "oci:/path"')
    .argument("[name]", "of the tag; the default is the image's")
    .option("--bootable", "also make the EROFS image that boots")
    .action(async (image, name, { bootable }) => {
      const reference = parseTransportReference(image);
      await using source = openSource(reference);
      const tag = checkTag(name ?? image);
      using repo = openChosenRepository(optionsOf());
      using interruption = watchInterruption();
      const { signal } = interruption;
      const { resolved } = await raceAbort(resolveAdmitted(source, reference), signal);
      const pulled = await pullResolvedImage(repo, source, resolved, { signal });
      const { manifestDigest, configDigest } = pulled;
      const streamName = manifestStreamName(manifestDigest);
      const isDeployed = listTags(repo).includes(deploymentTag(manifestDigest));
      const bootId =
        bootable === true
          ? (await makeBootImage(repo, pulled, { ignoreSeal: true })).deploymentId
          : null;
      if (bootId === null) await makePlainImage(repo, pulled);
      setRef(repo, "streams", tagRefName(tag), streamName);
      // The tag of a deployment, where there is none, would keep the image for ever.
      if (!isDeployed) removeTag(repo, deploymentTag(manifestDigest));
      dropDownloads(repo);
      terminal.line(`manifest ${manifestDigest}`);
      terminal.line(`config   ${configDigest}`);
      terminal.line(`verity   ${streamObject(repo, streamName)}`);
      terminal.line(`tagged   ${tag}`);
      if (bootId !== null) terminal.line(`Boot image: ${bootId}`);
    });
}

function makeTagsCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("images")
    .alias("ls")
    .description("List tags and the images they stand for")
    .option("--json", "as JSON")
    .action(({ json }) => {
      using repo = openChosenRepository(optionsOf());
      const images = listTaggedManifests(repo).map((tagged) => describeImage(repo, tagged));
      if (json === true) terminal.line(JSON.stringify({ images }, null, 2));
      else if (images.length === 0) terminal.line("No images found");
      else {
        const rows = images.map((image) => [
          image.name,
          image.manifest_digest.replace(/^sha256:/, "").slice(0, SHOWN_DIGITS),
          image.architecture === "" ? "artifact" : image.architecture,
          String(image.layer_count),
          String(image.referrer_count),
        ]);
        const head = ["NAME", "DIGEST", "ARCH", "LAYERS", "REFS"];
        for (const line of formatTable(head, rows)) terminal.line(line);
      }
    });
}

/** One that cannot be read is listed like an artifact: nothing is known but its name. */
function describeImage(
  repo: Repository,
  { tag, manifestDigest }: { readonly tag: string; readonly manifestDigest: string },
) {
  const known = { name: tag, manifest_digest: manifestDigest };
  const referrerCount = listReferrers(repo, manifestDigest).length;
  try {
    const manifest = readNamedManifest(repo, `@${manifestDigest}`);
    const { config } = readConfigOf(repo, manifest);
    return {
      ...known,
      is_container: true,
      architecture: config.architecture ?? "",
      os: config.os ?? "",
      created: config.created ?? null,
      layer_count: manifest.manifest.layers.length,
      referrer_count: referrerCount,
    };
  } catch (error) {
    const isUnknown =
      error instanceof FormatError ||
      error instanceof IntegrityError ||
      error instanceof StateError;
    if (!isUnknown) throw error;
    const nothing = { is_container: false, architecture: "", os: "", created: null };
    return { ...known, ...nothing, layer_count: 0, referrer_count: referrerCount };
  }
}

function makeInspectCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("inspect")
    .description("Show an image's manifest and config, what refers to it and what was made of it")
    .argument("<image>", IMAGE)
    .option("--manifest", "only the manifest, as it was published")
    .option("--config", "only the config, as it was published")
    .action((image, options) => {
      if (options.manifest === true && options.config === true) {
        throw new UsageError("conflict", "Options --manifest and --config exclude each other");
      }
      using repo = openChosenRepository(optionsOf());
      const manifest = readNamedManifest(repo, image);
      const config = readConfigOf(repo, manifest);
      const raw = options.manifest === true ? manifest : options.config === true ? config : null;
      if (raw !== null) {
        writeOut(raw.bytes);
        writeOut("\n");
        return;
      }
      const summary = {
        manifest: Buffer.from(manifest.bytes).toString("utf8"),
        config: Buffer.from(config.bytes).toString("utf8"),
        referrers: listReferrers(repo, manifest.digest),
        composefs_erofs: linkedImage(repo, config, { bootable: false }),
        composefs_boot_erofs: linkedImage(repo, config, { bootable: true }),
      };
      terminal.line(JSON.stringify(summary, null, 2));
    });
}

function makeTagCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("tag")
    .description("Give a stored image a name")
    .argument("<digest>", "of its manifest")
    .argument("<name>")
    .action((digest, name) => {
      using repo = openChosenRepository(optionsOf());
      const target = manifestStreamName(checkDigest(digest));
      setRef(repo, "streams", tagRefName(checkTag(name)), target);
      terminal.line(`Tagged ${digest} as ${name}`);
    });
}

function makeUntagCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("untag")
    .description("Take a name away from an image")
    .argument("<name>")
    .action((name) => {
      using repo = openChosenRepository(optionsOf());
      if (!listTaggedManifests(repo).some(({ tag }) => tag === name)) {
        throw new StateError("missing", `"${repo.path}" has no tag "${name}"; see "oci images"`);
      }
      removeTag(repo, name);
      terminal.line(`Removed tag ${name}`);
    });
}

function makeComputeIdCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("compute-id")
    .description("Compute the id of an image's EROFS image")
    .argument("<image>", CONFIG)
    .option("--bootable", BOOTABLE)
    .action(async (image, { bootable }) => {
      using repo = openChosenRepository(optionsOf());
      const { config } = readNamedConfig(repo, image);
      const options = { bootable: bootable === true };
      terminal.line(await computeImageId(repo, config.rootfs.diff_ids, options));
    });
}

function makeDumpCommand(optionsOf: OptionsOf) {
  return new Command("dump")
    .description("Print an image's files as a dump")
    .argument("<image>", CONFIG)
    .option("--bootable", BOOTABLE)
    .action(async (image, { bootable }) => {
      using repo = openChosenRepository(optionsOf());
      const { config } = readNamedConfig(repo, image);
      const options = { bootable: bootable === true };
      const root = await readRootTree(repo, config.rootfs.diff_ids, options);
      for (const line of formatDump(root, { dialect: "rust" })) writeOut(byteStringToBytes(line));
    });
}

function makeMountCommand(optionsOf: OptionsOf) {
  return new Command("mount")
    .description("Mount an image's EROFS image")
    .argument("<image>", "tag, or digest of a manifest")
    .argument("<directory>", "where")
    .option("--bootable", BOOTABLE)
    .option("--upperdir <directory>", MOUNT_HELP.upperdir)
    .option("--workdir <directory>", MOUNT_HELP.workdir)
    .option("--read-write", MOUNT_HELP.readWrite)
    .action((image, directory, { bootable, ...flags }) => {
      using repo = openChosenRepository(optionsOf());
      const name = image.startsWith("sha256:") ? `@${image}` : image;
      const config = readConfigOf(repo, readNamedManifest(repo, name));
      const digest = linkedImage(repo, config, { bootable: bootable === true });
      if (digest === null) {
        const option = bootable === true ? " --bootable" : "";
        const message = `No such EROFS image of "${image}" was made; use "oci pull${option}"`;
        throw new StateError("missing", message);
      }
      mountStoredImage(repo, { digest, name: digest, directory, flags });
    });
}

function checkTag(name: string): string {
  if (name !== "" && !name.startsWith("@")) return name;
  throw new UsageError("bad-value", `"${name}" cannot be the name of a tag`);
}
