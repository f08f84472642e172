// The staged deployment, `/run/composefs/staged-deployment` (bootc.md 4.3).

import { FormatError } from "../../shared/error.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";

export interface StagedFile {
  readonly id: string;
  /** Download only: shutdown must not apply it. */
  readonly locked: boolean;
}

export function parseStagedFile(text: string, source: string): StagedFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError("bad-value", `"${source}" is not JSON`, { format: "staged" }, { cause });
  }
  const fields = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const id = fields["depl_id"];
  const locked = fields["finalization_locked"] ?? false;
  if (typeof id !== "string" || !isDeploymentId(id) || typeof locked !== "boolean") {
    throw new FormatError("bad-value", `"${source}" names no deployment`, {
      format: "staged",
      field: "depl_id",
    });
  }
  return { id, locked };
}

/** Canonical JSON: keys sorted, no spaces, no line end. */
export function formatStagedFile(staged: StagedFile): string {
  return JSON.stringify({ depl_id: staged.id, finalization_locked: staged.locked });
}
