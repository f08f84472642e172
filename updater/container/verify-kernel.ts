// The unified kernel of an image, as a machine installs it and systemd-stub starts it (systemd-stub(7)): what of it would
// be ignored, and addons that would not be installed.

import { fromByteString } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { requireAddon } from "../image/addon-file.ts";
import { type ImageFile, isOurAddon, listOtherKernels } from "../image/boot-kernel.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { GLOBAL_ADDONS } from "./seal-layer.ts";
import { type Notes, note, type VerifiedImage } from "./verify-notes.ts";

const MODULES = "usr/lib/modules";

export function checkKernel(image: VerifiedImage, notes: Notes): void {
  const { kernel, repo, tree } = image;
  for (const path of listOtherKernels(tree, kernel)) {
    notes.warnings.push(
      `"${path}" is not used: only the first regular file named "*.efi" there is the kernel`,
    );
  }
  if (kernel?.kind !== "uki") return;
  checkRelease(image, notes);
  const release = image.uki?.release ?? null;
  for (const addon of kernel.addons) {
    const path = `${kernel.path}.extra.d/${addon.name}`;
    checkAddon(repo, { ...addon, name: path }, release, notes);
  }
  for (const addon of kernel.globalAddons) {
    checkAddon(repo, { ...addon, name: `/${GLOBAL_ADDONS}/${addon.name}` }, release, notes);
  }
  warnAboutForeignAddons(image, notes);
}

/** Without its modules a kernel finds few disks. */
function checkRelease({ kernel, tree, uki }: VerifiedImage, notes: Notes): void {
  const release = uki?.release ?? null;
  if (release === null || release === "" || kernel?.kind !== "uki") return;
  if (lookupDirectory(tree, `${MODULES}/${release}`) !== null) return;
  notes.warnings.push(
    `"${kernel.path}" says that it is ${release}, and the image has no "/${MODULES}/${release}": it would find no modules`,
  );
}

function checkAddon(
  repo: Repository,
  addon: ImageFile,
  release: string | null,
  notes: Notes,
): void {
  const isGood = note(notes, () => {
    requireAddon(repo, addon);
    return true;
  });
  if (isGood === null) return;
  using program = openUkiFile(repo, addon.file, addon.name);
  const wanted = program.readText(".uname");
  if (wanted === null || release === null || wanted === release) return;
  notes.warnings.push(
    `"${addon.name}" is for the kernel ${wanted}, so systemd-stub ignores it with ${release}`,
  );
}

function warnAboutForeignAddons({ tree }: VerifiedImage, notes: Notes): void {
  const directory = lookupDirectory(tree, GLOBAL_ADDONS);
  const names = directory === null ? [] : [...directory.entries.keys()];
  for (const name of names.map(fromByteString)) {
    if (!name.endsWith(".addon.efi") || isOurAddon(name)) continue;
    notes.warnings.push(
      `"/${GLOBAL_ADDONS}/${name}" is not installed: only addons there named "bootc-*" are, and those beside the kernel`,
    );
  }
}
