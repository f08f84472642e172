// `cfs init`: a new composefs repository, with cfsctl's options and words. An existing one is left as it
// is; that it has another configuration is an error unless --ensure says that any will do.

import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import type { ErofsVersion } from "../../shared/store/metadata.ts";
import {
  ensureRepository,
  META_FILE,
  openRepository,
  type Repository,
} from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import { flock, fsync, openatIfExists } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import { type OptionsOf, repositoryPath } from "./cfs-repository.ts";
import type { Terminal } from "./terminal.ts";

const ALGORITHMS = ["fsverity-sha256-12", "fsverity-sha512-12"] as const;

interface Wanted {
  readonly algorithm: VerityAlgorithm;
  readonly secure: boolean;
  readonly erofsVersion: ErofsVersion;
}

export function makeInitCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("init")
    .description("Create the repository unless it is there already")
    .argument("[path]", "the repository, instead of --repo")
    .addOption(
      new Option("--algorithm <name>", "of new objects")
        .choices(ALGORITHMS)
        .default("fsverity-sha512-12" as const),
    )
    .option("--insecure", "do without fs-verity")
    .addOption(
      new Option("--erofs-version <version>", "format of new images (default: 1)").choices([
        "0",
        "1",
        "2",
      ] as const),
    )
    .option("--ensure", "be content with any existing repository of this algorithm")
    .option("--reset-metadata", "first remove images and streams; their objects stay")
    .action((path, { algorithm, insecure, erofsVersion, ensure, resetMetadata }) => {
      const options = optionsOf();
      const place = path ?? repositoryPath(options);
      const wanted: Wanted = {
        algorithm: algorithm === "fsverity-sha256-12" ? "sha256" : "sha512",
        secure: insecure !== true && options.insecure !== true,
        erofsVersion: Number(erofsVersion ?? options.erofsVersion ?? "1") as ErofsVersion,
      };
      if (resetMetadata === true) resetRepository(place);
      mkdirSync(dirname(resolve(place)), { recursive: true });
      const isNew = resetMetadata === true;
      for (const line of initialize(place, wanted, { isNew, isAnyGood: ensure === true })) {
        terminal.line(line);
      }
    });
}

function initialize(
  path: string,
  wanted: Wanted,
  { isNew, isAnyGood }: { readonly isNew: boolean; readonly isAnyGood: boolean },
): readonly string[] {
  using existing = openExisting(path);
  using repo = ensureRepository(null, path, { ...wanted, takesObjects: isNew });
  if (existing === null) {
    return [
      `Initialized composefs repository at ${path}`,
      `  algorithm: fsverity-${repo.algorithm}-12`,
      `  verity:    ${repo.secure ? "required" : "not required (insecure)"}`,
    ];
  }
  const already = `Repository already initialized at ${path}`;
  if (isAnyGood) return [`${already} (existing configuration preserved)`];
  if (describe(existing) === describe(wanted)) return [already];
  throw new StateError(
    "conflict",
    `The repository "${path}" is there already with ${describe(existing)}, not with ${describe(wanted)}; use --ensure to keep it as it is`,
  );
}

function openExisting(path: string): Repository | null {
  try {
    return openRepository(null, path);
  } catch (error) {
    if (error instanceof StateError && error.code === "missing") return null;
    throw error;
  }
}

function describe({ algorithm, secure, erofsVersion }: Wanted): string {
  return `${algorithm}, EROFS format ${erofsVersion}, ${secure ? "secure" : "insecure"}`;
}

/** For a change of algorithm: names go, objects stay, to be found again by what is pulled next. */
function resetRepository(path: string): void {
  using fd = openatIfExists(null, path, O.RDONLY | O.DIRECTORY);
  if (fd === null) return;
  if (!flock(fd, "exclusive", { wait: false })) {
    throw new StateError("locked", `The repository "${path}" is in use by another process`);
  }
  unlinkatIfExists(fd, META_FILE);
  fsync(fd);
  for (const name of ["images", "streams"]) removeTree(null, join(path, name));
}
