// `bootc status` for people: one block per deployment, labels right-aligned under the first line's
// (bootc.md 2.3). Scripts do read this, so the layout is exactly bootc's; what is ours (trust, failed
// deployments, problems) comes after it and only when there is something to say.

import type {
  BootEntry,
  FailedDeployment,
  Host,
  HostStatus,
  ImageStatus,
  SignaturePolicy,
} from "../spec/host.ts";
import { shortTimestamp } from "../spec/timestamp.ts";
import { floorRows, trustRows } from "./trust-text.ts";
import { showOneLine } from "./visible-text.ts";

type Slot = "staged" | "booted" | "rollback" | "other";

const IMAGE_PREFIX: Readonly<Record<Slot, string>> = {
  staged: "  Staged image",
  booted: "● Booted image",
  rollback: "  Rollback image",
  other: "   Other image",
};
const PLAIN_PREFIX: Readonly<Record<Slot, string>> = {
  staged: "  Staged",
  booted: "● Booted",
  rollback: "  Rollback",
  other: " Other",
};

type Row = readonly [label: string, value: string];

/** The whole text, ending with a newline. */
export function formatHostHuman(host: Host, options: { readonly verbose: boolean }): string {
  const { status } = host;
  const blocks: string[] = [];
  if (status.booted === null) {
    blocks.push("System is not deployed via bootc.\n");
  } else {
    for (const slot of ["staged", "booted", "rollback"] as const) {
      const entry = status[slot];
      if (entry !== null) blocks.push(formatEntry(slot, entry, status, options.verbose));
    }
    for (const entry of status.otherDeployments ?? []) {
      blocks.push(formatEntry("other", entry, status, options.verbose));
    }
  }
  for (const failed of status.failedDeployments ?? []) blocks.push(formatFailed(failed));
  const problems = status.problems ?? [];
  if (problems.length > 0) {
    blocks.push(problems.map((problem) => `Problem: ${showOneLine(problem)}\n`).join(""));
  }
  return blocks.join("\n");
}

function formatEntry(slot: Slot, entry: BootEntry, status: HostStatus, verbose: boolean): string {
  const machine = slot === "booted" ? status.trust : undefined;
  if (entry.image !== null) {
    const prefix = IMAGE_PREFIX[slot];
    const rows = [
      ...imageRows(entry, entry.image),
      ...overlayRows(slot, status),
      ...trustRows(entry.trust, machine),
      ...(verbose ? floorRows(machine) : []),
      ...(verbose ? verboseRows(slot, entry, entry.image) : []),
    ];
    return formatBlock(`${prefix}: ${imageName(entry.image)}`, [...prefix].length, rows);
  }
  const kind = entry.ostree !== null ? "ostree" : entry.composefs !== null ? "composefs" : null;
  if (kind === null) return `Current ${slot} state is unknown\n`;
  const prefix = `${PLAIN_PREFIX[slot]} ${kind}`;
  const rows: Row[] = [["Commit", entry.ostree?.checksum ?? entry.composefs?.verity ?? ""]];
  if (entry.pinned) rows.push(["Pinned", "yes"]);
  rows.push(...overlayRows(slot, status), ...trustRows(entry.trust, machine));
  if (verbose) rows.push(...floorRows(machine), ...verboseRows(slot, entry, null));
  // Here, unlike above, bootc counts bytes: the bullet of the booted one is three.
  return formatBlock(prefix, Buffer.byteLength(prefix), rows);
}

/** Ours: bootc knows nothing of boots that failed. */
function formatFailed(failed: FailedDeployment): string {
  const { image, imageDigest, verity, failedAt, reason, detail, attempts, retrying } = failed;
  const prefix = "  Failed image";
  const rows: Row[] = imageDigest === null ? [] : [["Digest", imageDigest]];
  rows.push(
    ["Verity", verity],
    [
      "Failed",
      `${shortTimestamp(failedAt)}, tried ${attempts === 1 ? "once" : `${attempts} times`}`,
    ],
    ["Reason", detail === null ? reason : `${reason}: ${detail}`],
  );
  if (retrying) rows.push(["Retrying", "yes"]);
  const name = image === null ? "unknown" : referenceName(image);
  return formatBlock(`${prefix}: ${name}`, prefix.length, rows);
}

function formatBlock(title: string, width: number, rows: readonly Row[]): string {
  const lines = rows.map(([label, value]) => `${label.padStart(width)}: ${showOneLine(value)}\n`);
  return `${showOneLine(title)}\n${lines.join("")}`;
}

function imageName({ image }: ImageStatus): string {
  return referenceName(image);
}

function referenceName({ transport, image }: ImageStatus["image"]): string {
  return transport === "registry" ? image : `${transport}:${image}`;
}

function imageRows(entry: BootEntry, image: ImageStatus): Row[] {
  const rows: Row[] = [["Digest", `${image.imageDigest} (${image.architecture})`]];
  if (entry.composefs !== null) rows.push(["Verity", entry.composefs.verity]);
  if (image.version !== null) {
    rows.push(["Version", withTime(image.version, image)]);
  } else if (image.timestamp !== null) {
    rows.push(["Timestamp", shortTimestamp(image.timestamp)]);
  }
  if (entry.pinned) rows.push(["Pinned", "yes"]);
  const update = entry.cachedUpdate;
  if (update !== null && update.imageDigest !== image.imageDigest) {
    rows.push(
      update.version === null
        ? ["Update", "Available"]
        : ["UpdateVersion", withTime(update.version, update)],
      ["UpdateDigest", update.imageDigest],
    );
  }
  return rows;
}

function withTime(version: string, { timestamp }: ImageStatus): string {
  return timestamp === null ? version : `${version} (${shortTimestamp(timestamp)})`;
}

function overlayRows(slot: Slot, { usrOverlay }: HostStatus): Row[] {
  if (slot !== "booted" || usrOverlay === null) return [];
  const access = usrOverlay.accessMode === "readOnly" ? "read-only" : "read/write";
  return [["/usr overlay", `${usrOverlay.persistence}, ${access}`]];
}

function verboseRows(slot: Slot, entry: BootEntry, image: ImageStatus | null): Row[] {
  const rows: Row[] = [];
  const { ostree, composefs } = entry;
  if (ostree !== null) {
    rows.push(
      ["StateRoot", ostree.stateroot],
      ["Deploy serial", String(ostree.deploySerial)],
      ["Staged", yesNo(slot === "staged")],
    );
    if (image !== null) rows.push(["Commit", ostree.checksum]);
  }
  const signature = image?.image.signature ?? null;
  if (signature !== null) rows.push(["Signature", signatureText(signature)]);
  rows.push(["Soft-reboot", yesNo(entry.softRebootCapable)]);
  if (composefs !== null) {
    rows.push(["FsVerity", composefs.missingVerityAllowed ? "Not Enforced" : "Enforced"]);
  }
  rows.push(...policyRows(entry.signaturePolicy));
  if (slot === "staged") rows.push(["Download-only", yesNo(entry.downloadOnly)]);
  return rows;
}

function signatureText(signature: NonNullable<ImageStatus["image"]["signature"]>): string {
  if (typeof signature === "object") return `ostree-remote:${signature.ostreeRemote}`;
  return signature === "containerPolicy" ? "container-policy" : "insecure";
}

/** Which policy accepted the image, and whose signature it was; ours, so nothing where nothing is known. */
function policyRows(policy: SignaturePolicy | undefined): Row[] {
  if (policy === undefined) return [];
  const { policyFile, scope, requirements } = policy;
  const rows: Row[] = [["Policy", policyFile === null ? "none" : `${policyFile}, ${scope}`]];
  for (const { type, key, identity } of requirements) {
    rows.push(["Accepted by", key === undefined ? type : `${type}, ${key}, for ${identity}`]);
  }
  return rows;
}

function yesNo(value: boolean): string {
  return value ? "yes" : "no";
}
