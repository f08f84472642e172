// How a check and a repair of a repository are told, to people and to programs.

import type { Finding } from "../../shared/store/finding.ts";
import type { HostStep } from "../deploy/host-finding.ts";
import type { RepairStep } from "../image/repair-plan.ts";
import type { Unrepaired } from "../image/repair-verdict.ts";

export function formatFinding({ kind, path, problem, advice }: Finding): string {
  return `fsck error: ${kind}: ${path}: ${problem}; ${advice}`;
}

export function formatUnrepaired({ finding, neededBy, reason, advice }: Unrepaired): string {
  const { kind, path, problem } = finding;
  const users = neededBy.length === 0 ? "nothing that is known" : neededBy.join(", ");
  return `fsck error: ${kind}: ${path}: ${problem}; needed by ${users}; not repaired: ${reason}; ${advice}`;
}

const STATES = { done: "repaired", failed: "not repaired", planned: "would repair" } as const;

export function formatStep(step: RepairStep, state: keyof typeof STATES): string {
  return `${STATES[state]}: ${describeStep(step)}`;
}

function describeStep(step: RepairStep): string {
  switch (step.kind) {
    case "seal-object":
      return `enable fs-verity on object ${step.object}`;
    case "fetch-documents":
      return `fetch manifest and config of image ${step.image}`;
    case "fetch-layer":
      return step.objects === null
        ? `fetch layer ${step.diffId} of image ${step.image}`
        : `fetch ${countObjects(step.objects.length)} of layer ${step.diffId} of image ${step.image}`;
    case "link-object":
      return `name object ${step.object} ${step.name}`;
    case "write-references":
      return `write the references of image ${step.image} again`;
    case "build-image":
      return `build image ${step.id} again from the layers of ${step.image}`;
    case "point-reference":
      return `point reference ${step.category}/refs/${step.name} to ${step.target}`;
    case "remove-link":
      return `remove link ${step.path}, which nothing needs`;
    case "remove-objects":
      return `remove ${countObjects(step.objects.length)} that nothing refers to`;
  }
}

export function formatHostStep(step: HostStep, state: keyof typeof STATES): string {
  return `${STATES[state]}: ${describeHostStep(step)}`;
}

function describeHostStep(step: HostStep): string {
  switch (step.kind) {
    case "remove":
    case "remove-stray":
      return `remove "${step.path}"`;
    case "remove-entry":
      return `remove boot entry ${step.fileName}`;
    case "write-entry":
      return `write boot entry ${step.entry.fileName}`;
    case "write-origin":
      return `write the origin of deployment ${step.id}`;
    case "link-var":
      return `link var of deployment ${step.id}`;
    case "make-var":
      return "make the directory for /var";
    case "drop-staged":
      return "give up what is staged";
    case "copy-kernel":
      return `copy kernel and initramfs of image ${step.from} to ${step.directory}`;
    case "copy-uki":
      return `copy the unified kernel of image ${step.from} to ${step.artefact}.efi`;
    case "copy-addon":
      return `copy the addon ${step.name} of image ${step.from}`;
    case "rename-artefacts":
      return "give kernels with old names the present ones";
  }
}

function countObjects(count: number): string {
  return count === 1 ? "1 damaged object" : `${count} damaged objects`;
}

/** `type` is the kind; `error` only when it failed. */
export function stepToJson(step: RepairStep | HostStep, error: string | null): object {
  const { kind, ...rest } = step;
  return { type: kind, ...rest, ...(error === null ? {} : { error }) };
}
