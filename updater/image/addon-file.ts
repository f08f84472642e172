// Addons of unified kernels that lie in an image (systemd-stub(7)): what keeps one from being installed.
//
// The stub adds an addon's arguments behind the kernel's own, and prepare-root takes `composefs.digest=` before
// `composefs=`: so an addon could say which image starts. It must not, and no quote may reach from one line into the next,
// where what was looked at alone would mean something else.

import { FormatError } from "../../shared/error.ts";
import { isOpenQuoted, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ImageFile } from "./boot-kernel.ts";
import { openUkiFile, requireOwnArchitecture } from "./uki-file.ts";

/** FormatError for a file that is no addon, or not this machine's, or that says which image starts. */
export function requireAddon(repo: Repository, { name, file }: ImageFile): void {
  using addon = openUkiFile(repo, file, name);
  requireOwnArchitecture(addon, name);
  if (addon.sections.some((section) => section.name === ".linux")) {
    throw new FormatError(
      "bad-value",
      `Addon "${name}" of the image has a kernel in it, so systemd-stub would ignore it: build it without one`,
    );
  }
  const cmdline = addon.readText(".cmdline") ?? "";
  if (isOpenQuoted(cmdline)) {
    throw new FormatError(
      "bad-value",
      `Addon "${name}" of the image has a quote that is not closed, which would take in the arguments of other addons: build it again`,
    );
  }
  const named = parseCmdline(cmdline).find(({ key }) => isImageKey(key));
  if (named === undefined) return;
  throw new FormatError(
    "bad-value",
    `Addon "${name}" of the image has "${named.text}": only the kernel, or its boot entry, says which image starts; build the addon without it`,
  );
}

function isImageKey(key: string): boolean {
  return ["composefs", "composefs.digest", "ostree"].includes(key);
}
