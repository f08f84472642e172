// `--dry-run` prints plans as JSON: byte strings become text, bytes their size.

import { fromByteString } from "../../shared/format/tree/node.ts";
import { describeTrust } from "../deploy/image-admission.ts";
import type { StagePreparation } from "../deploy/stage.ts";
import { formatCanonicalJson } from "../output/json.ts";

export function formatPlan(plan: object): string {
  return `${formatCanonicalJson(plan)}\n`;
}

/** The plan of staging with the local changes of /etc that would be carried over. */
export function describeStage({ plan, trust, etc, givesUp }: StagePreparation): object {
  return {
    kind: "stage",
    ...plan,
    ...(givesUp.length === 0 ? {} : { givesUp }),
    trust: describeTrust(trust),
    etc: {
      added: etc.added.map(fromByteString),
      modified: etc.modified.map(fromByteString),
      removed: etc.removed.map(fromByteString),
      dropped: etc.dropped.map(fromByteString),
      held: etc.held.map(fromByteString),
    },
  };
}
