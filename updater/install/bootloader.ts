// The boot loader of a new system: systemd-boot's EFI programs come from the image, so the disk starts
// with the version the image was tested with, signed as the image has it; and the keys to enrol.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { UnsupportedError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import type { Transaction } from "../../shared/txn/plan.ts";
import { EFI_PROGRAMS, installSystemdBoot } from "../boot/systemd-boot.ts";
import { extractTree } from "../deploy/tree-extraction.ts";
import type { BootImage } from "../image/boot-image.ts";
import { readFileContent } from "../image/file-content.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { findSecureBootKeys, MAX_KEY_BYTES, planSecureBootKeys } from "./secure-boot-keys.ts";

/** In the target, while bootctl runs. */
export const BOOTCTL_ROOT = ".bootc-install";

export interface BootloaderInput {
  readonly repo: Repository;
  readonly image: BootImage;
  readonly target: string;
  readonly bootPath: string;
  readonly genericImage: boolean;
}

export function installBootloader(input: BootloaderInput): void {
  const programs = lookupDirectory(input.image.tree, EFI_PROGRAMS);
  if (programs === null) {
    throw new UnsupportedError(
      "missing-program",
      `The image has no systemd-boot in "/${EFI_PROGRAMS}"; install the package "systemd-boot-efi" in it, ` +
        "or use --bootloader none",
    );
  }
  const root = join(input.target, BOOTCTL_ROOT);
  removeTree(null, root);
  try {
    mkdirSync(join(root, EFI_PROGRAMS, ".."), { recursive: true });
    extractTree(input.repo, programs, join(root, EFI_PROGRAMS));
    // bootctl only wants a name for the system here.
    const id = input.image.osRelease.get("ID") ?? "bootc";
    writeFileSync(
      join(root, "usr/lib/os-release"),
      `ID="${id.replaceAll(/[^a-z0-9._-]/g, "_")}"\n`,
    );
    installSystemdBoot({ root, bootPath: input.bootPath, genericImage: input.genericImage });
    installSecureBootKeys(input);
  } finally {
    removeTree(null, root);
  }
}

function installSecureBootKeys({ repo, image, bootPath }: BootloaderInput): void {
  const keys = findSecureBootKeys(image.tree);
  const plan = planSecureBootKeys(keys, bootPath, (file) =>
    readFileContent(repo, file, MAX_KEY_BYTES),
  );
  if (plan !== null) applyTransaction(plan);
}

/**
 * Gives the menu a timeout: without one systemd-boot shows none, and nobody finds the older deployment.
 * Before `bootctl install`, which writes a file of comments where there is none.
 */
export function setLoaderTimeout(bootPath: string): Transaction {
  const path = join(bootPath, "loader/loader.conf");
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.from("timeout 5\n");
  return {
    prepare: [{ kind: "mkdir", path: dirname(path), mode: 0o755 }],
    commit: { kind: "write", path, bytes, mode: 0o644 },
    cleanup: [],
  };
}
