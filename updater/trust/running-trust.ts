// What the running system trusts, and what prepare-root found out when it started it.

import { join } from "node:path";
import * as z from "zod";
import { parseJson } from "../../shared/format/oci/json.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { readSmallFile } from "../../shared/sys/small-file.ts";
import { openTrustDirectory, readTrustAnchors } from "../../shared/trust/anchors.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";
import { openUki } from "../boot/uki.ts";
import { combineTrust, type ImageTrust, readUkiTrust, type UkiTrust } from "./image-trust.ts";

const RECORD_LIMIT_BYTES = 64 * 1024;

/** `uki`: of the kernel it was started from, when that is a unified one. FormatError when it is broken. */
export function readRunningTrust(system: System, uki: UkiTrust | null): ImageTrust {
  using root = openDirectory(null, `${system.root}/.`);
  using directory = openTrustDirectory(root);
  return combineTrust(readTrustAnchors(directory), uki);
}

/** Null for an entry that starts no unified kernel; throws what opening it throws. */
export function readEntryUki(entry: BootEntry | undefined, layout: BootLayout): UkiTrust | null {
  const target = entry?.entry.target;
  if (target?.kind !== "efi" || layout.ukiPath === null) return null;
  using uki = openUki(join(layout.ukiPath, target.path));
  return readUkiTrust(uki);
}

const evidenceSchema = z.object({
  mode: z.enum(["signed", "unsigned", "ostree-signed"]),
  id: z.string(),
  key: z.string().nullable(),
  keyName: z.string().nullable(),
  version: z.number().nullable(),
  expires: z.string().nullable(),
  verity: z.enum(["enforced", "optional"]),
  warnings: z.array(z.string()),
});
/** What prepare-root did when this root was mounted. */
export type StartEvidence = Readonly<z.infer<typeof evidenceSchema>>;

/**
 * Null when prepare-root left nothing about the deployment `id`, as one of an older initramfs does not. What
 * a soft reboot started stands in a file of its own. FormatError when one cannot be understood.
 */
export function readStartEvidence({ runDirectory }: System, id: string): StartEvidence | null {
  for (const name of ["trust.json", "trust-next.json"]) {
    const path = join(runDirectory, "composefs", name);
    const bytes = readSmallFile(path, RECORD_LIMIT_BYTES);
    const evidence = bytes === null ? null : parseJson(evidenceSchema, bytes, `"${path}"`);
    if (evidence?.id === id) return evidence;
  }
  return null;
}
