// Trust, as `bootc status` tells people: the mode of each deployment in one line, and for the running one what
// the next stronger mode needs in another (docs/status.md).

import type { DeploymentTrust, MachineTrust } from "../spec/host.ts";

type Row = readonly [label: string, value: string];

/** `machine`: only for the deployment that runs. */
export function trustRows(
  trust: DeploymentTrust | undefined,
  machine: MachineTrust | undefined,
): readonly Row[] {
  if (trust === undefined) return [];
  const rows: Row[] = [["Trust", describeTrust(trust, machine)]];
  const next = machine?.next ?? null;
  if (next !== null) rows.push(["Stronger", `${next.mode}: ${next.needs.join("; ")}`]);
  return rows;
}

/** With --verbose. */
export function floorRows(machine: MachineTrust | undefined): readonly Row[] {
  if (machine === undefined) return [];
  const { floor, tpm } = machine;
  const where = { tpm: "TPM", esp: "EFI system partition", none: "nowhere" }[floor.source];
  return [
    ["Version floor", floor.version === null ? "none" : `${floor.version} (${where})`],
    ["TPM", tpm ? "yes" : "no"],
  ];
}

function describeTrust(trust: DeploymentTrust, machine: MachineTrust | undefined): string {
  const { expires, verity, version } = trust;
  const parts = [
    describeMode(trust, machine),
    ...(version === null ? [] : [`version ${version}`]),
    ...(expires === null ? [] : [`expires ${expires}`]),
    `fs-verity ${VERITY[verity]}`,
    ...(machine === undefined ? [] : [`Secure Boot ${SECURE_BOOT[machine.secureBoot]}`]),
  ];
  return parts.join(", ");
}

function describeMode(
  { key, mode, refusal, sealed }: DeploymentTrust,
  machine: MachineTrust | undefined,
): string {
  const refused = refusal === null ? "" : ", would be refused";
  if (!sealed || mode === "sealed") return `${mode}${describeKey(key)}${refused}`;
  const state = machine === undefined ? "not on" : SECURE_BOOT[machine.secureBoot];
  return `${mode}${describeKey(key)}${refused} (the image is sealed, but Secure Boot is ${state})`;
}

function describeKey(key: DeploymentTrust["key"]): string {
  if (key === null) return "";
  const print = key.fingerprint === null ? "" : ` (${key.fingerprint.slice(0, 16)})`;
  return ` by ${key.name}${print}`;
}

const VERITY = { enforced: "enforced", optional: "not enforced", none: "missing" } as const;
const SECURE_BOOT = {
  enabled: "on",
  disabled: "off",
  setup: "in setup mode",
  unsupported: "not available",
} as const;
